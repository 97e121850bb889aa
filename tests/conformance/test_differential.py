"""The fast and the general path agree on random programs: results, seconds, numbers, and what is said."""

from hypothesis import given, settings
from hypothesis import strategies as st
from world import HEARD, Pause, World

import opero as o

STEPS = st.lists(
    st.one_of(
        st.sampled_from([7, ConnectionError, KeyError, TypeError]),
        st.sampled_from([0.5, 3.0]).map(Pause),
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
        "circuit_breaker": st.sampled_from(
            [
                {},
                {"min_calls": 2},
                {"calls": 4, "min_calls": 3, "failure_ratio": 0.7},
                {"consecutive": 2, "reset_after": 3},
                {"min_calls": 3, "slow_call": 0.4, "slow_ratio": 0.5},
            ]
        ),
        "rate_limit": st.sampled_from(["1/s", "3/s"]),
        "bulkhead": st.just(2),
        "timeout": st.sampled_from([2.0, 20.0]),
        "fallback": st.sampled_from([None, lambda *_: 5]),
    },
)


CACHED = st.lists(
    st.one_of(
        st.sampled_from([1, True, 1.0, "a", None, b"a", (1,)]).map(lambda value: ("call", (value,), {})),
        st.just(("call", (), {})),
        st.just(("call", (), {"value": 1})),
        st.floats(0, 8).map(lambda seconds: ("advance", seconds)),
        st.sampled_from(["invalidate", "clear", "bypass", "refresh"]).map(lambda act: (act,)),
    ),
    min_size=1,
    max_size=40,
)
CACHES = st.fixed_dictionaries(
    {"ttl": st.sampled_from([3.0, None])},
    optional={
        "soft_ttl": st.just(2.0),
        "tags": st.just("all"),
        "key": st.just("of {value}"),
        "max_entries": st.just(2),
        "max_bytes": st.just(100),
        "eviction": st.just("lru"),
        "errors": st.just(KeyError),
    },
)


@given(STEPS, POLICIES, st.sampled_from(["blocking", "aio"]))
@settings(max_examples=120, deadline=None)
def test_both_speeds_agree(program, policies, driver):
    fast, general = played("fast", driver, program, policies), played("general", driver, program, policies)
    assert fast == general


@given(STEPS, POLICIES, st.sampled_from(["blocking", "aio"]))
@settings(max_examples=120, deadline=None)
def test_who_listens_changes_nothing(program, policies, driver):
    quiet, heard = played("fast", driver, program, policies, []), played("fast", driver, program, policies, ["*"])
    (answers, _, sums, counted, ended), (answers_too, _, sums_too, counted_too, ended_too) = quiet, heard
    assert (answers, sums, counted, ended) == (answers_too, sums_too, counted_too, ended_too)


def played(speed, driver, program, policies, names=HEARD):
    world = World(driver, speed, names, start=0)  # windows begin anew at whole seconds
    with world.stack:
        settings = {"retries": 0, "jitter": "none", "min_delay": 1, **policies}
        if "circuit_breaker" in settings:
            settings["circuit_breaker"] = o.CircuitBreaker(**settings["circuit_breaker"], jitter=0)
        if driver == "blocking":
            settings.pop("timeout", None)  # an abandoned thread would go on with the script
        function = world.decorate([step for step in program if not isinstance(step, tuple)] + [7] * 200, **settings)
        answers = []
        for step in program:
            if isinstance(step, tuple):
                world.time.advance(step[1])
            elif not isinstance(step, Pause):
                answer, seconds = world.call(function)
                answers.append((repr(answer), seconds))
        return answers, *accounts(world, function)


def accounts(world, function):
    told = [
        (event.name, {k: round(v, 6) if isinstance(v, float) else v for k, v in event.fields.items()})
        for event in world.heard
    ]
    sums, distributions, latencies = function.opero.operation.book.read()
    counted = {key: [round(n, 6) for n in counts] for key, counts in distributions.items()}
    return told, sums, counted, sum(latencies)


@given(CACHED, CACHES, st.booleans(), st.sampled_from(["blocking", "aio"]))
@settings(max_examples=80, deadline=None)
def test_both_speeds_agree_about_a_cache(program, cache, everything, driver):
    fast, general = (remembered(speed, driver, program, cache, everything) for speed in ("fast", "general"))
    assert fast == general


def remembered(speed, driver, program, cache, everything):
    world = World(driver, speed)
    with world.stack:
        settings = {"retries": 1, "circuit_breaker": True, "fallback": 5} if everything else {}
        script = [KeyError if n % 5 == 4 else n for n in range(200)]
        if cache.get("soft_ttl") and (driver == "blocking" or not cache["ttl"]):
            cache = {**cache, "soft_ttl": None}  # a refresh is a thread, which may or may not be done
        function = world.decorate(script, policies=[o.Cache(**cache)], **{"retries": 0, "min_delay": 0, **settings})
        answers = [repr(done(world, function, *step)) for step in program]
        return answers, *accounts(world, function)


def done(world, function, act, *given):
    cache = function.opero.cache
    if act == "call":
        return world.call(function, *given[0], **given[1])
    if act == "advance":
        return world.time.advance(*given)
    if act in {"bypass", "refresh"}:
        with getattr(cache, act)():
            return world.call(function, 1)
    return world.call(getattr(cache, act), *([1] if act == "invalidate" else []))
