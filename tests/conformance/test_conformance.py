"""One suite, every driver, both speeds."""

import pytest
import scenarios
from world import World


@pytest.mark.parametrize("speed", ["general", "fast"])
@pytest.mark.parametrize("driver", ["blocking", "aio", "trio"])
@pytest.mark.parametrize("scenario", scenarios.SCENARIOS, ids=lambda s: s.__name__)
def test(scenario, driver, speed):
    world = World(driver, speed)
    with world.stack:
        scenario(world)
