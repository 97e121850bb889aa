"""What is wrong is said when decorating: which field, which value, what is allowed."""

import math
import threading

import pytest

import opero as o
from opero import conditions, opero, opmap, waits


def plain(x):
    return x


async def coroutine(x):
    return x


def generator():
    yield 1


async def async_generator():
    yield 1


WRONG = [
    ("retries", -1), ("retries", "3"), ("retries", True), ("retries", 1.5), ("retries", None),
    ("backoff", "sometimes"), ("backoff", 3), ("backoff_factor", 0.5), ("min_delay", -1), ("min_delay", math.nan),
    ("max_delay", "long"), ("jitter", "some"), ("retry_on", KeyboardInterrupt), ("retry_on", 5), ("retry_on", (int,)),
    ("retry_on_result", 5), ("timeout", "5"), ("timeout", 0), ("timeout", -1), ("timeout", math.inf),
    ("timeout", True), ("attempt_timeout", "2"), ("circuit_breaker", "yes"), ("circuit_breaker", 5),
    ("rate_limit", "fast"), ("rate_limit", "5/fortnight"), ("rate_limit", "-5/s"), ("rate_limit", 0),
    ("rate_limit", True), ("rate_limit", math.nan), ("rate_limit", [1]), ("bulkhead", 0), ("bulkhead", "many"),
    ("bulkhead", 2.5), ("bulkhead", True), ("arg_fallback", 5), ("arg_fallback", "no such name"),
    ("name", ""), ("name", 5), ("order", ["retry", "nothing"]), ("order", "retry"), ("retrys", 3),
    ("hedge", "soon"), ("hedge", "p100"),
    ("hedge", True), ("hedge", -1), ("retry_budget", 2), ("retry_budget", "adaptiv"), ("retry_budget", -0.1),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG, ids=str)
def test_a_wrong_keyword_names_field_and_value_and_what_is_allowed(field, value):
    with pytest.raises(o.ConfigurationError) as caught:
        opero(**{field: value})(plain)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}={value!r}: {field} takes ")


def test_a_keyword_that_is_nearly_one_is_told_which():
    with pytest.raises(o.ConfigurationError, match="no such keyword; perhaps retry_on or retries was meant; there are"):
        opero(retry=3)
    with pytest.raises(o.ConfigurationError, match="no such keyword; there are"):
        opero(quux=3)


def test_what_is_never_retried_is_refused_with_the_way_out():
    for value in (BaseException, KeyboardInterrupt, [OSError, SystemExit]):
        with pytest.raises(o.ConfigurationError, match="Exception stands for all there are"):
            opero(retry_on=value)


def test_a_list_of_types_is_as_good_as_a_tuple():
    made = opero(retries=1, min_delay=0, retry_on=[KeyError, OSError])(plain)
    assert made.opero.policies[0].matches(OSError())
    assert not made.opero.policies[0].matches(ValueError())


POLICIES = [
    (lambda: o.Retry(-1), "retries"), (lambda: o.Retry(wait="3"), "wait"), (lambda: o.Retry(jitter=""), "jitter"),
    (lambda: o.Retry(None), "retries"), (lambda: o.Retry(wait=-1), "seconds"), (lambda: o.Retry(wait=True), "wait"),
    (lambda: o.Retry(stop=3), "stop"), (lambda: o.Retry(nested="no"), "nested"),
    (lambda: o.Retry(generator="never"), "generator"), (lambda: o.Retry(strategies=[OSError]), "strategies"),
    (lambda: o.Retry(strategies={OSError: "ignore"}), "action"), (lambda: o.Strategy(limit=-1), "limit"),
    (lambda: o.Strategy(wait="long"), "wait"), (lambda: o.CircuitBreaker(ignore=coroutine), "ignore"),
    (lambda: o.stops.attempts(0), "attempts"), (lambda: o.stops.elapsed(-1), "elapsed"),
    (lambda: o.stops.before(math.nan), "before"), (conditions.status, "status"),
    (lambda: conditions.message(5), "message"), (lambda: conditions.group(BaseException), "group"),
    (lambda: conditions.status(4290), "status"), (lambda: conditions.result(5), "result"),
    (lambda: o.Retry(budget=0.1), "budget"), (lambda: o.RetryBudget(1.5), "ratio"),
    (lambda: o.RetryBudget(cap=0), "cap"),
    (lambda: o.RetryBudget(min_per_second=math.inf), "min_per_second"), (lambda: o.Hedge("p0"), "delay"),
    (lambda: o.Hedge(None), "delay"), (lambda: o.Hedge(1, max_hedges=0), "max_hedges"), (o.Fallback, "fallback"),
    (lambda: o.Fallback(0, on_result=1), "on_result"), (lambda: o.Fallback(by={int: 1}), "by"),
    (lambda: o.ArgFallback("x", alternatives=[]), "alternatives"),
    (lambda: o.ArgFallback("x", alternatives="ab"), "alternatives"),
    (lambda: o.ArgFallback("x", cooldown=-1), "cooldown"), (lambda: o.ArgFallback("x", refresh=plain), "refresh"),
    (lambda: o.Retry(on="OSError"), "on"), (lambda: o.Retry(on_result=1), "on_result"), (o.Timeout, "Timeout"),
    (lambda: o.Timeout(1, attempt=1), "Timeout"),
    (lambda: o.CircuitBreaker(failure_ratio=0), "failure_ratio"),
    (lambda: o.CircuitBreaker(failure_ratio=1.1), "failure_ratio"),
    (lambda: o.CircuitBreaker(min_calls=0), "min_calls"),
    (lambda: o.CircuitBreaker(calls=5, min_calls=20), "calls"),
    (lambda: o.CircuitBreaker(reset_after=0), "reset_after"),
    (lambda: o.CircuitBreaker(reset_after=9, max_reset_after=3), "max_reset_after"),
    (lambda: o.CircuitBreaker(ignore="x"), "ignore"),
    (lambda: o.RateLimit("x"), "rate"), (lambda: o.RateLimit(1, per=0), "per"),
    (lambda: o.RateLimit(1, burst=0), "burst"), (lambda: o.RateLimit(1, wait="no"), "wait"),
    (lambda: o.Bulkhead(0), "limit"),
    (lambda: o.Bulkhead(1, max_queue=-1), "max_queue"), (lambda: o.Bulkhead(1, max_wait=-1), "max_wait"),
    (lambda: waits.exponential(5, 1), "high"), (lambda: waits.constant(-1), "seconds"),
    (lambda: waits.sequence(-1), "delays"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "field"), POLICIES, ids=[f"{n}-{p[1]}" for n, p in enumerate(POLICIES)])
def test_a_wrong_policy_names_its_field(make, field):
    with pytest.raises(o.ConfigurationError, match=f"{field} takes ") as caught:
        make()
    assert caught.value.field == field


def test_an_asynchronous_condition_around_a_plain_function_is_refused():
    with pytest.raises(o.ConfigurationError, match="nobody awaits it here"):
        opero(o.Retry(on=coroutine))(plain)


@pytest.mark.parametrize("thing", [generator, async_generator])
def test_what_cannot_stand_around_a_generator_is_refused(thing):
    with pytest.raises(o.ConfigurationError, match="hedge takes no generator function"):
        opero(hedge=1)(thing)


@pytest.mark.parametrize(("action", "place"), [("rotate", "arg_fallback"), ("fallback", "fallback")])
def test_a_strategy_that_needs_another_policy_is_refused_without_it(action, place):
    with pytest.raises(o.ConfigurationError, match=f"only beside {place}="):
        opero(o.Retry(strategies={OSError: action}))(plain)


def test_policies_are_frozen():
    with pytest.raises(AttributeError, match=r"Retry\.retries: policies are frozen"):
        o.Retry().retries = 5


def test_a_missing_parameter_is_named_with_those_there_are():
    with pytest.raises(o.ConfigurationError, match=r"arg_fallback='host': .* of the function: x"):
        opero(arg_fallback="host")(plain)


def test_two_policies_for_the_same_place_are_refused():
    with pytest.raises(o.ConfigurationError, match="circuit_breaker takes one policy; here is another CircuitBreaker"):
        opero(o.CircuitBreaker(), circuit_breaker=True)(plain)
    with pytest.raises(o.ConfigurationError, match="retry takes one policy; here is another Retry"):
        opero(o.Retry(), o.Retry())(plain)


def test_delays_the_wrong_way_round_are_refused():
    with pytest.raises(o.ConfigurationError, match="min_delay takes 0 to 1 seconds here, which is max_delay"):
        opero(min_delay=5, max_delay=1)


@pytest.mark.parametrize("thing", [int, dict])
def test_what_cannot_be_wrapped_is_refused(thing):
    with pytest.raises(o.ConfigurationError, match="function="):
        opero(thing)


def test_the_class_of_a_policy_is_no_policy():
    with pytest.raises(o.ConfigurationError, match=r"a policy, not its class: @opero\(Retry\(\.\.\.\)\)"):
        opero(o.Retry)


@pytest.mark.parametrize("thing", [3, "text", None])
def test_what_is_no_policy_is_refused_by_position(thing):
    with pytest.raises(o.ConfigurationError, match="policies="):
        opero(thing)


MAPS = [
    ({"mode": "quantum"}, plain, "mode"), ({"mode": "async"}, plain, "mode"), ({"mode": "thread"}, coroutine, "mode"),
    ({"workers": 0}, plain, "workers"), ({"workers": "many"}, plain, "workers"), ({"workers": True}, plain, "workers"),
    ({"errors": "ignore"}, plain, "errors"), ({"ordered": "yes"}, plain, "ordered"),
    ({"max_pending": 0}, plain, "max_pending"),
    ({"retries": -1}, plain, "retries"), ({"chunks": 1}, plain, "chunks"),
    ({}, lambda: 0, "function"), ({}, lambda a, b: 0, "function"), ({}, generator, "function"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "function", "field"), MAPS, ids=[f"{n}-{m[2]}" for n, m in enumerate(MAPS)])
def test_a_wrong_map_is_refused_when_decorating(settings, function, field):
    with pytest.raises(o.ConfigurationError) as caught:
        opmap(**settings)(function)
    assert caught.value.field == field


def test_a_breaker_that_is_not_there_says_how_to_get_one():
    with pytest.raises(o.ConfigurationError, match="circuit_breaker=True"):
        _ = opero(plain).opero.breaker


HUGE = [
    {"timeout": 1e308}, {"hedge": 1e308}, {"attempt_timeout": 1e308, "hedge": 0}, {"retry_budget": 1.0, "retries": 1},
    {"policies": [o.RetryBudget(1.0, min_per_second=1e308, cap=1e308), o.Retry(1)]},
    {"policies": [o.Bulkhead(10**30, max_queue=10**30, max_wait=1e308)]},
    {"policies": [o.ArgFallback("x", alternatives=[1], cooldown=1e308)]},
]  # fmt: skip


@pytest.mark.parametrize("settings", HUGE, ids=map(str, range(len(HUGE))))
def test_a_huge_number_is_a_long_time_and_no_error(settings):
    keywords = {name: value for name, value in settings.items() if name != "policies"}
    assert opero(*settings.get("policies", ()), **keywords)(lambda x=1: 7)() == 7


def test_a_wait_of_centuries_is_begun_and_can_be_ended():
    flag = threading.Event()
    wait = waits.summed(1e308, 1e308)  # infinite
    f = opero(o.Retry(1, wait=wait, stop=o.stops.event(flag)))(lambda: 1 / 0)
    threading.Timer(0.05, flag.set).start()
    with pytest.raises(ZeroDivisionError):
        f()


def test_a_plain_function_that_returns_a_coroutine_is_refused_at_each_call():
    ran = []

    async def work(x=1):
        ran.append(x)

    @o.opero
    def f(x=1):
        return work(x)

    for _ in range(3):
        with pytest.raises(o.ConfigurationError, match="function takes no plain function that returns a coroutine"):
            f(5)
        with pytest.raises(o.ConfigurationError, match="make it `async def` and await inside"):
            f(x=5)
    assert not ran


@pytest.mark.parametrize(("make", "said"), [
    (lambda: opero(wait=waits.constant(1)), r"it is one of Retry and RateLimit, as in @opero\(Retry\(wait=...\)\)"),
    (lambda: opero(plain).opero.with_(stop=1), r"it is one of Retry, as in @opero\(Retry\(stop=...\)\)"),
    (lambda: opero(attempts=3), "retries is one less than the attempts"),
    (lambda: opero(retry_on=(OSError, 503)), r"not 503; an HTTP status is conditions.status\(503\)"),
    (lambda: opero(retry_on=503), r"a predicate on the error; an HTTP status is conditions.status\(503\)"),
    (lambda: o.CircuitBreaker(ignore=(KeyError, plain)), r"not <function plain .*; others are combined by \|"),
    (lambda: o.Retry(on=(KeyError, "OSError")), "a predicate on the error; not 'OSError'$"),
    (lambda: o.RateLimit("10/s", weight="cost"), "a number, 0 or more, or a function of the call's arguments"),
    (lambda: o.RateLimit(["10/s", "100/min"]), '"10/s; 100/min"'),
    (lambda: o.RateLimit(math.inf), "a number above 0"),
])  # fmt: skip
def test_what_others_would_write_is_told_the_way_here(make, said):
    with pytest.raises(o.ConfigurationError, match=said):
        make()
