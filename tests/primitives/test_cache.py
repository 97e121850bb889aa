import asyncio
import gc
import threading
import warnings
import weakref
from math import exp, inf

import pytest

import opero as o
from opero import events, testing
from opero.primitives.cache import Cache
from opero.stores.cache.entry import Entry, judge, sure


@pytest.fixture
def time():
    with testing.clock() as clock:
        yield clock


def counted(*policies, **settings):
    """A cached function that counts its calls, plain."""

    @o.opero(*policies, **settings)
    def f(x=0):
        f.calls += 1
        return (x, f.calls)

    f.calls = 0
    return f


def settled(function):
    """Wait until nothing is loaded in the background."""
    state = function.opero.policies[0].state
    deadline = threading.Event()
    for _ in range(2000):
        if not state._refreshes:
            return
        deadline.wait(0.002)
    raise AssertionError("a refresh goes on and on")


# ---- the decision


@pytest.mark.parametrize(
    ("now", "verdict"), [(0, "hit"), (4.9, "hit"), (5, "stale"), (9.9, "stale"), (10, None), (99, None)]
)
def test_an_entry_is_fresh_then_stale_then_expired(now, verdict):
    assert judge(Entry(1, soft=5, hard=10, gone=20), now, 0.0) == verdict


def test_an_early_load_is_likelier_the_longer_it_takes_and_the_nearer_the_end():
    entry = Entry(1, soft=100, hard=100, load=2.0)
    assert judge(entry, 96, 1.0, lambda: exp(-2)) == "stale"  # 96 + 2·2 = 100
    assert judge(entry, 95.9, 1.0, lambda: exp(-2)) == "hit"
    assert judge(entry, 92, 2.0, lambda: exp(-2)) == "stale"
    assert judge(entry, 0, 1.0, lambda: 0.0) in ("hit", "stale")


def test_before_it_is_surely_fresh_no_draw_makes_a_load_early():
    entry = Entry(1, soft=100, hard=100, load=2.0)
    least = 2.0**-53
    assert sure(100, 100, 2.0, 0.0) == 100
    assert judge(entry, sure(100, 100, 2.0, 1.0) - 0.001, 1.0, lambda: least) == "hit"
    assert judge(entry, sure(100, 100, 2.0, 1.0) + 1.0, 1.0, lambda: least) == "stale"


def test_lifetimes_follow_the_result_and_the_jitter():
    policy = Cache(lambda result: result, soft_ttl=3, stale_if_error=5, jitter=0.5)
    assert policy.lifetimes(10, lambda: 1.0) == (3, 5, 10)
    assert policy.lifetimes(2, lambda: 0.0) == (2, 2, 7)
    assert Cache(None).lifetimes(0) == (inf, inf, inf)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"ttl": 0}, "cache_ttl"),
        ({"ttl": "60"}, "cache_ttl"),
        ({"ttl": 5, "soft_ttl": 6}, "soft_ttl"),
        ({"ttl": 5, "max_entries": 0}, "max_entries"),
        ({"ttl": 5, "jitter": 2}, "jitter"),
        ({"ttl": 5, "errors": "OSError"}, "errors"),
        ({"ttl": 5, "key": 3}, "cache_key"),
        ({"ttl": 5, "namespace": "a b"}, "cache_namespace"),
        ({"ttl": 5, "namespace": "a*"}, "cache_namespace"),
        ({"ttl": 5, "namespace": "\ud800"}, "cache_namespace"),
        ({"ttl": 5, "tags": [1]}, "tags"),
        ({"ttl": 5, "backend": "floppy"}, "cache_backend"),
        ({"ttl": 5, "cache_if": 1}, "cache_if"),
        ({"ttl": 5, "eviction": "fifo"}, "eviction"),
    ],
    ids=range(14),
)
def test_a_wrong_setting_is_named(settings, field):
    with pytest.raises(o.ConfigurationError) as caught:
        Cache(**settings)
    assert caught.value.field == field


def test_keywords_and_policy_build_the_same():
    def f(x): ...

    assert repr(o.opero(cache_ttl=60, cache_key="{x}")(f).opero.policies[-2]) == repr(Cache(60, key="{x}"))
    assert o.opero(cache=True)(f).opero.cache
    assert [p.place for p in o.opero(cache=False, retries=0)(f).opero.policies] == []
    with pytest.raises(o.ConfigurationError, match="cache"):
        o.opero(cache=Cache(1), cache_ttl=5)
    with pytest.raises(o.ConfigurationError, match="cache_ttl=60"):
        _ = o.opero(retries=0)(f).opero.cache


# ---- what is kept


def test_none_is_a_value(time):
    calls = []
    f = o.opero(Cache(60))(calls.append)
    assert (f(1), f(1), calls) == (None, None, [1])
    assert f.opero.cache.contains(1)


def test_only_what_cache_if_wants_is_kept(time):
    f = counted(Cache(60, cache_if=lambda result: result[1] > 1))
    assert [f(), f(), f()] == [(0, 1), (0, 2), (0, 2)]


def test_a_result_says_how_long_it_lives(time):
    f = counted(Cache(lambda result: 10 * result[1]))
    f()
    time.advance(10)
    assert f() == (0, 2)
    time.advance(19)
    assert f() == (0, 2)
    time.advance(1)
    assert f() == (0, 3)


def test_an_error_is_kept_only_where_asked_for_and_without_its_frames(time):
    class Payload: ...

    held = []

    @o.opero(Cache(60, errors=KeyError, error_ttl=5))
    def f():
        payload = Payload()
        held.append(weakref.ref(payload))
        raise KeyError("no")

    errors = []
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            f()
        errors.append(caught.value)
    assert len(held) == 1
    assert errors[0] is not errors[1]
    assert errors[0].args == errors[1].args
    del errors, caught
    gc.collect()
    assert held[0]() is None
    time.advance(5)
    with pytest.raises(KeyError):
        f()
    assert len(held) == 2


def test_a_callback_that_fails_is_told_and_does_not_hurt_the_call(time):
    heard = []
    f = counted(Cache(60, cache_if=lambda result: 1 / 0))
    with events.subscribe(heard.append, "opero.call.hook_failed"):
        assert [f(), f()] == [(0, 1), (0, 2)]
    assert [e.fields["error"] for e in heard] == ["ZeroDivisionError"] * 2


def test_functions_on_one_cache_keep_their_entries_apart_and_share_its_bound(time):
    shared = Cache(60, max_entries=3)
    f, g = counted(shared), counted(shared)
    assert (f(1), g(1), f(1)) == ((1, 1), (1, 1), (1, 1))
    for n in range(10):
        f(n)
    assert f.opero.cache.stats()["entries"] == 3
    assert f.opero.cache.stats()["evictions"] >= 7


# ---- stale


def test_a_stale_entry_answers_while_one_call_loads_anew(time):
    f = counted(Cache(60, soft_ttl=10))
    f()
    time.advance(10)
    assert f() == (0, 1)
    settled(f)
    assert (f(), f.calls) == ((0, 2), 2)
    stats = f.opero.cache.stats()
    assert (stats["stale"], stats["hits"], stats["misses"]) == (1, 1, 1)


def test_a_stale_entry_answers_while_one_task_loads_anew(time):
    calls = []

    @o.opero(Cache(60, soft_ttl=10))
    async def f():
        calls.append(1)
        await asyncio.sleep(1)
        return len(calls)

    async def main():
        await f()
        await asyncio.sleep(10)
        answers = await asyncio.gather(*(f() for _ in range(20)))
        await asyncio.sleep(1)
        return answers, await f()

    assert asyncio.run(main()) == ([1] * 20, 2)
    assert len(calls) == 2


def test_a_refresh_that_fails_is_told_and_the_entry_stays(time):
    heard = []

    @o.opero(Cache(60, soft_ttl=10))
    def f():
        if time.elapsed() > 5:
            raise OSError
        return 1

    f()
    time.advance(10)
    with events.subscribe(heard.append, "opero.cache.*"):
        assert f() == 1
        settled(f)
        assert f() == 1
        settled(f)
    names = [e.name.removeprefix("opero.cache.") for e in heard]
    assert sorted(names) == ["refresh_failed", "refresh_failed", "stale_served", "stale_served"]


def test_a_refresh_for_which_no_thread_can_be_started_is_told_and_leaves_nothing_unawaited(time, threads):
    heard = []

    @o.opero(Cache(60, soft_ttl=10))
    def f():
        return time.elapsed()

    f()
    time.advance(10)
    threads(False)
    with events.subscribe(heard.append, "opero.cache.*"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert f() == 0
    assert [e.name for e in heard] == ["opero.cache.stale_served", "opero.cache.refresh_failed"]
    assert not told
    threads(True)
    assert f() == 0
    settled(f)
    assert f() == 10


# ---- by hand


def test_the_handle_does_what_it_says(time):
    f = counted(Cache(60, tags=["all", "n:{x}"]))
    cache = f.opero.cache
    assert cache.get(1) is None
    assert f(1) == (1, 1)
    assert cache.get(x=1) == (1, 1)
    cache.set("mine", 1)
    assert f(1) == "mine"
    assert cache.invalidate(1)
    assert not cache.invalidate(1)
    assert not cache.contains(1)
    for n in range(3):
        f(n)
    cache.invalidate_tag("n:1")
    assert [cache.contains(n) for n in range(3)] == [True, False, True]
    cache.invalidate_tag("all")
    assert not any(cache.contains(n) for n in range(3))
    f(1)
    cache.clear()
    assert cache.stats()["entries"] == 0
    f.calls = 0
    assert cache.warmup([1, 2, (3,)]) == 3
    assert f.calls == 3
    f(3)
    assert f.calls == 3


def test_the_handle_of_a_coroutine_function_is_awaited():
    @o.opero(Cache(60))
    async def f(x):
        return x

    async def main():
        cache = f.opero.cache
        await cache.warmup([1, 2])
        await cache.set("mine", 3)
        assert [await cache.get(1), await f(3), await cache.contains(4)] == [1, "mine", False]
        assert await cache.invalidate(1)
        await cache.clear()
        assert not await cache.contains(2)

    asyncio.run(main())


def test_calls_may_bypass_the_cache_or_load_anew(time):
    f = counted(Cache(60))
    f()
    with f.opero.cache.bypass():
        assert [f(), f()] == [(0, 2), (0, 3)]
    assert f() == (0, 1)
    with f.opero.cache.refresh():
        assert f() == (0, 4)
    assert f() == (0, 4)
    assert f.opero.cache.stats()["bypassed"] == 2


def test_clearing_one_function_leaves_the_others(time):
    shared = Cache(60)
    f, g = counted(shared), counted(shared)
    f(1)
    g(1)
    f.opero.cache.clear()
    assert (f.opero.cache.contains(1), g.opero.cache.contains(1)) == (False, True)


@pytest.mark.parametrize("how", [("invalidate",), ("clear",), ("invalidate_tag", "t")], ids=lambda how: how[0])
def test_what_was_invalidated_while_it_was_loaded_is_not_kept(time, how):
    @o.opero(Cache(60, tags="t"))
    def f():
        f.calls += 1
        if f.calls == 1:
            getattr(f.opero.cache, how[0])(*how[1:])
        return f.calls

    f.calls = 0
    assert [f(), f(), f()] == [1, 2, 2]


def test_a_generator_function_is_refused_when_decorating():
    with pytest.raises(o.ConfigurationError, match="no generator function"):

        @o.opero(cache_ttl=5)
        def f():
            yield 1
