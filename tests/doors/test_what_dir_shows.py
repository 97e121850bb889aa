"""Who looks by `dir`, or completes a name, sees what is meant for users and nothing else."""

import pytest

import opero as o

SHOWN = {
    "waits": "Wait between by_error constant decorrelated_jitter exponential fibonacci linear retry_after seed sequence"
    " summed",
    "conditions": "Condition cause group message not_types result status types",
    "stops": "Stop attempts before elapsed event",
    "events": "Event Subscription correlation_id current_correlation_id subscribe",
    "presets": "Preset database http llm queue",
    "plugins": "GROUPS load names",
    "testing": "Captured Clock capture chaos check_store clock no_waits",
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_module_shows_what_is_meant_for_users_and_nothing_else(name):
    module = getattr(o, name)
    assert dir(module) == sorted(module.__all__) == SHOWN[name].split()
    assert all(getattr(module, each) is not None for each in dir(module))
