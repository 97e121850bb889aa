"""`order=`: what stands outside of the retry runs it anew each time, and an order that would not be kept is refused."""

import asyncio
from contextlib import nullcontext

import pytest

import opero as o
from opero.policy import Policy


@pytest.mark.parametrize("heard", [False, True])
def test_each_alternative_has_retries_of_its_own_where_the_retry_stands_inside(heard):
    calls = []

    @o.opero(o.Retry(2, wait=0), arg_fallback="host", order=["arg_fallback", "retry"])
    def fetch(host):
        calls.append(host)
        raise OSError(host)

    with o.testing.capture() if heard else nullcontext(), pytest.raises(o.AllFailedError) as failed:
        fetch(["a", "b", "c"])
    assert calls == [*"aaabbbccc"]
    assert [str(error) for error in failed.value.errors] == ["a", "b", "c"]
    assert fetch.opero.stats()["attempts"] == len(o.attempts(failed.value)) == 9


def test_an_alternative_that_answers_at_its_second_attempt_is_not_lost():
    calls = []

    @o.opero(o.Retry(1, wait=0), arg_fallback="host", order=["arg_fallback", "retry"])
    def fetch(host):
        calls.append(host)
        if calls.count("b") < 2:
            raise OSError(host)
        return host

    assert fetch(["a", "b"]) == "b"
    assert calls == [*"aabb"]


def test_waits_begin_anew_with_each_alternative():
    @o.opero(o.Retry(2, wait=lambda n, outcome: n, jitter="none"), arg_fallback="host", order=["arg_fallback", "retry"])
    def fetch(host):
        raise OSError(host)

    with o.testing.clock() as virtual, pytest.raises(o.AllFailedError) as failed:
        fetch(["a", "b"])
    assert virtual.elapsed() == 6
    assert [attempt.delay for attempt in o.attempts(failed.value)] == [0, 1, 2, 0, 1, 2]


def test_each_branch_of_a_hedge_has_retries_of_its_own_where_the_retry_stands_inside():
    @o.opero(o.Retry(2, wait=0), o.Hedge(0.005), order=["hedge", "retry"])
    async def fetch():
        await asyncio.sleep(0.05)
        raise OSError

    with pytest.raises(OSError):
        asyncio.run(fetch())
    assert fetch.opero.stats()["attempts"] == 6


@pytest.mark.parametrize("place", ["attempt_timeout", "chaos"])
def test_what_belongs_to_an_attempt_stands_last(place):
    policy = o.Chaos(latency=0.01) if place == "chaos" else o.Timeout(attempt=1)
    with pytest.raises(o.ConfigurationError, match=f"{place} last, inside of each attempt"):
        o.opero(o.Retry(2), policy, order=[place, "retry"])(abs)
    assert o.opero(o.Retry(2), policy, order=["retry", place])(lambda: 1)() == 1


@pytest.mark.parametrize("place", ["retry", "arg_fallback"])
def test_the_timeout_of_the_call_stands_outside_of_what_calls_again(place):
    policies = {"retry": o.Retry(2), "arg_fallback": o.ArgFallback("host"), "timeout": o.Timeout(1)}
    order = [place, "timeout", *(policies.keys() - {place, "timeout"})]
    with pytest.raises(o.ConfigurationError, match=rf"timeout before {place}, .*Timeout\(attempt=\.\.\.\)"):
        o.opero(*policies.values(), order=order)(lambda host: 1)


def test_alternatives_that_fail_with_one_error_object_have_their_retries_too():
    calls, down = [], OSError("down")

    @o.opero(o.Retry(2, wait=0), arg_fallback="host", order=["arg_fallback", "retry"])
    def fetch(host):
        calls.append(host)
        raise down

    with pytest.raises(o.AllFailedError):
        fetch(["a", "b"])
    assert calls == [*"aaabbb"]


def plugin(name, around, seen):
    class Traced(Policy):
        place, inside = name, around

        def attach(self, function):
            async def layer(call, inner):
                seen.append((name, len(call.record.attempts)))
                return await inner(call)

            return layer

    return Traced()


@pytest.mark.parametrize("turned", [False, True])
def test_a_plugin_inside_of_an_attempt_is_a_part_of_it_and_so_is_one_inside_of_it(turned):
    seen = []
    outer, inner = plugin("outer", "attempt_timeout", seen), plugin("inner", "outer", seen)
    policies = [inner, outer] if turned else [outer, inner]
    f = o.opero(o.Retry(1, wait=0), *policies, o.Timeout(attempt=60))(lambda: 1)
    assert (f(), seen) == (1, [("outer", 1), ("inner", 1)])


def test_a_plugin_that_stands_nowhere_is_refused():
    with pytest.raises(o.ConfigurationError, match="place='a': place takes one of"):
        o.opero(plugin("a", "b", []), plugin("b", "a", []))(abs)


def test_a_policy_with_a_place_of_its_own_has_one_in_the_order_too():
    seen = []
    f = o.opero(plugin("outer", "retry", seen), o.Retry(1, wait=0), order=["outer", "retry"])(lambda: 1)
    assert (f(), seen) == (1, [("outer", 0)])
    with pytest.raises(o.ConfigurationError, match=r"each of these places once, outermost first: \['retry', 'outer'\]"):
        o.opero(plugin("outer", "retry", seen), o.Retry(1, wait=0), order=["retry"])(abs)
