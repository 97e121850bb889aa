"""The fast and the general path agree on random programs: results, seconds, numbers, and what is said."""

import scenarios
from hypothesis import given, settings
from hypothesis import strategies as st

STEPS = st.lists(
    st.one_of(
        st.sampled_from([7, ConnectionError, KeyError]),
        st.sampled_from([0.5, 3.0]).map(scenarios.Pause),
        st.floats(0, 8).map(lambda seconds: ("advance", seconds)),
    ),
    min_size=1,
    max_size=40,
)
POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "retries": st.integers(0, 2),
        "retry_on": st.just(ConnectionError),
        "circuit_breaker": st.just(True),
        "rate_limit": st.sampled_from(["1/s", "3/s"]),
        "bulkhead": st.just(2),
        "timeout": st.sampled_from([2.0, 20.0]),
        "fallback": st.sampled_from([None, lambda *_: 5]),
    },
)


@given(STEPS, POLICIES, st.sampled_from(["blocking", "aio"]))
@settings(max_examples=120, deadline=None)
def test_both_speeds_agree(program, policies, driver):
    fast, general = played("fast", driver, program, policies), played("general", driver, program, policies)
    assert fast == general


def played(speed, driver, program, policies):
    world = scenarios.world(driver, speed)
    with world.stack:
        settings = {"retries": 0, "jitter": "none", "min_delay": 1, **policies}
        if driver == "blocking":
            settings.pop("timeout", None)  # an abandoned thread would go on with the script
        function = world.decorate([step for step in program if not isinstance(step, tuple)] + [7] * 200, **settings)
        answers = []
        for step in program:
            if isinstance(step, tuple):
                world.time.advance(step[1])
            elif not isinstance(step, scenarios.Pause):
                answer, seconds = world.call(function)
                answers.append((repr(answer), seconds))
        told = [
            (event.name, {k: round(v, 6) if isinstance(v, float) else v for k, v in event.fields.items()})
            for event in world.heard
        ]
        sums, distributions, latencies = function.opero.operation.book.read()
        counted = {key: [round(n, 6) for n in counts] for key, counts in distributions.items()}
        return answers, told, sums, counted, sum(latencies)
