"""A quota in a store, looked at and reset by hand: told as the next call finds it; looking leaves no trace."""

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import opero as o
from opero import events
from opero.errors import StateError
from opero.stores import StateStore, key_of
from opero.stores.guard import guard
from opero.stores.redis import RedisStore
from services.process import free_port
from shared_store import MappedStore, opened

pytestmark = pytest.mark.service("redis")
TEXTS = ["3/h", "5/2h", "7/min", "40/h", "20/s", "9000/s"]
RATES = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3, unique=True)
STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0, 0.5, 1, 2])), min_size=1, max_size=12)
LATE = 2.0  # seconds that an answer may take here, in which quotas fill


class Limits:
    """Limits of one server, each under a name of its own."""

    def __init__(self, server):
        self.store, self.made = RedisStore(server.url, timeout=5), 0

    def of(self, rate, **given):
        self.made += 1
        return o.RateLimit(rate, wait=False, key="key", store=self.store, name=f"limit-{self.made}", **given)


@pytest.fixture(scope="module")
def limits(redis_of_module):
    limits = Limits(redis_of_module)
    yield limits
    limits.store.close()


def booked(limit, key):
    """Make a call; return how long it would have had to wait, 0 if it went."""
    try:
        o.opero(limit, retries=0)(lambda key: 1)(key)
    except o.RateLimitedError as error:
        return error.retry_after
    return 0.0


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(RATES, st.integers(2, 4) | st.none(), STEPS)
def test_it_tells_what_the_next_call_finds(limits, rates, burst, steps):
    text, weights = "; ".join(rates), {weight for _, weight in steps}
    first = limits.of(text, burst=burst)
    by_weight = {
        weight: o.RateLimit(
            text, burst=burst, wait=False, key="key", weight=weight, store=limits.store, name=first.name
        )
        for weight in weights
    }
    for key, weight in steps:
        began = time.monotonic()
        _, told = first.peek(key, weight)
        assert asyncio.run(first.apeek(key, weight))[1] == pytest.approx(told, abs=LATE)
        found = booked(by_weight[weight], key)
        passed = time.monotonic() - began
        assert told - passed - 1e-3 <= found <= told + 1e-3
    for key in "ab":
        count, wait = first.peek(key)
        assert (count > 0) == (wait == 0)
        if "s" not in text:  # nothing comes back meanwhile
            assert [booked(first, key) == 0 for _ in range(count + 1)] == [True] * count + [False]


def test_looking_leaves_no_trace(redis_server):
    limit = o.RateLimit("5/h", store=RedisStore(redis_server.url, timeout=5), name="shop", wait=False)
    assert limit.peek() == asyncio.run(limit.apeek()) == (5, 0)
    assert redis_server.cli("dbsize") == "0"
    f, key = o.opero(limit, retries=0)(lambda: 1), key_of("rate_limit", "shop", None)
    assert [f() for _ in range(5)] == [1] * 5
    before = redis_server.cli("hgetall", key), int(redis_server.cli("pexpiretime", key))
    assert [limit.peek()[0], limit.peek(weight=2)[1] > limit.peek()[1] > 700] == [0, True]
    assert (redis_server.cli("hgetall", key), int(redis_server.cli("pexpiretime", key))) == before
    with pytest.raises(o.ConfigurationError, match="weight"):
        limit.peek(weight=6)


@pytest.mark.parametrize("kind", ["server", "cluster", "sentinels"])
def test_a_reset_is_of_these_keys_and_no_others(request, kind):
    group = request.getfixturevalue(f"redis_{kind}")
    store = RedisStore(group.url.replace("redis:", "redis+cluster:") if kind == "cluster" else group.url, timeout=5)
    limit = o.RateLimit("2/h", wait=False, key="key", store=store, name="shop")
    other = o.RateLimit("2/h", wait=False, store=store, name="other")
    plain = o.opero(other, retries=0)(lambda: 1)
    assert [plain() for _ in range(2)] == [1, 1]
    for key in "abcd":
        assert [booked(limit, key) == 0 for _ in range(3)] == [True, True, False]
    limit.reset("a", "b")
    asyncio.run(limit.areset("c"))
    assert [limit.peek(key)[0] for key in "abcd"] == [2, 2, 2, 0]
    assert [booked(limit, "a") == 0 for _ in range(3)] == [True, True, False]
    assert other.peek()[0] == 0
    other.reset()
    assert other.peek() == (2, 0)
    assert limit.peek("d")[0] == 0
    with pytest.raises(o.ConfigurationError, match=r"limit\.reset\(key\)"):
        limit.reset()


def test_while_the_store_is_away_it_is_that_of_this_process():
    store = RedisStore(f"redis://127.0.0.1:{free_port()}", timeout=0.2)
    limit, heard = o.RateLimit("2/h", wait=False, store=store, name="away"), []
    f = o.opero(limit, retries=0)(lambda: 1)
    with events.subscribe(heard.append, "opero.store.lost"):
        assert limit.peek() == (2, 0)
    assert [event.fields["store"] for event in heard] == ["redis"]
    f()
    assert asyncio.run(limit.apeek()) == (1, 0)
    with pytest.raises(StateError, match="only this process's own was reset"):
        limit.reset()
    assert limit.peek() == (2, 0)
    f()
    with pytest.raises(StateError, match=r"opero\.store\.returned"):
        asyncio.run(limit.areset())
    assert limit.peek() == (2, 0)


@pytest.mark.parametrize("way", ["blocks", "awaits"])
def test_a_server_that_hangs_holds_nobody_up(redis_server, way):
    limit = o.RateLimit("2/h", store=RedisStore(redis_server.url), name="hangs")
    assert limit.peek() == asyncio.run(limit.apeek()) == (2, 0)
    redis_server.pause()
    began = time.monotonic()
    assert (asyncio.run(limit.apeek()) if way == "awaits" else limit.peek()) == (2, 0)
    with pytest.raises(StateError):
        limit.reset()
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("ask", ["apeek", "areset"])
def test_a_coroutine_that_asks_leaves_the_loop_to_others(redis_server, ask):
    limit = o.RateLimit("2/h", store=RedisStore(redis_server.url), name="hangs")
    limit.peek()
    redis_server.pause()

    async def main():
        asking, turns = asyncio.ensure_future(getattr(limit, ask)()), 0
        while not asking.done():
            await asyncio.sleep(0.001)
            turns += 1
        return turns

    assert asyncio.run(main()) > 5


@pytest.mark.parametrize("written", [["set", "5"], ["hset", "field", "text"]])
def test_what_is_not_ours_is_neither_told_nor_deleted(redis_server, written):
    command, *rest = written
    limit = o.RateLimit("2/h", store=RedisStore(redis_server.url, timeout=5), name="foreign")
    key = key_of("rate_limit", "foreign", None)
    redis_server.cli(command, key, *rest)
    with pytest.raises(StateError, match=r"opero\.store\.unusable"):
        limit.reset()
    assert limit.peek() == (2, 0)
    assert redis_server.cli("exists", key) == "1"
    again = o.RateLimit("2/h", store=RedisStore(redis_server.url, timeout=5), name="foreign")
    assert again.peek() == (2, 0)
    assert not guard(again.store).away


def test_leased_calls_are_told_to_the_process_that_has_them(redis_server):
    store = RedisStore(redis_server.url, timeout=5)
    given = {"per": 3600, "lease": 8, "wait": False, "store": store, "name": "leased"}
    limit, other = o.RateLimit(40, **given), o.RateLimit(40, **given)
    f = o.opero(limit, retries=0)(lambda: 1)
    for _ in range(2):
        f()  # one leased, then two
    assert limit.peek()[0] >= other.peek()[0]
    went = 0
    while limit.peek()[0]:
        assert limit.peek()[1] == 0
        f()
        went += 1
    assert limit.peek()[1] > 0
    with pytest.raises(o.RateLimitedError):
        f()
    assert went == 28  # three quarters of the burst
    limit.reset()
    assert limit.peek() == other.peek() == (30, 0)


def test_a_map_has_both():
    with opened() as store:
        limit = o.RateLimit("2/s", wait=False, key="key", store=store, name="map")
        assert [booked(limit, "a") == 0 for _ in range(3)] == [True, True, False]
        assert limit.peek("a") == (0, pytest.approx(0.5))
        store.time.advance(0.5)
        assert limit.peek("a") == (1, 0)
        limit.reset("a")
        assert [limit.peek(key) for key in "ab"] == [(2, 0)] * 2


class Bare(MappedStore, StateStore):
    """Written before there were `peek` and `reset`."""

    peek = StateStore.peek
    reset = StateStore.reset


class Barer(MappedStore):
    peek = reset = None


@pytest.mark.parametrize("kind", [Bare, Barer])
def test_a_store_without_them_says_so_and_limits_as_before(kind):
    with opened(kind) as store:
        limit = o.RateLimit("2/s", wait=False, key="key", store=store, name="bare")
        assert [booked(limit, "a") == 0 for _ in range(3)] == [True, True, False]
        for method, ask in {"peek": limit.peek, "reset": limit.reset}.items():
            with pytest.raises(o.ConfigurationError, match=f"a store that has `{method}`"):
                ask("a")
        with pytest.raises(o.ConfigurationError, match="a store that has `peek`"):
            asyncio.run(limit.apeek("a"))
        assert booked(limit, "a") == pytest.approx(0.5)
        assert not guard(store).away


class Wrong(MappedStore):
    async def peek(self, *_):
        return -1, 0


def test_one_that_answers_what_it_may_not_is_away():
    with opened(Wrong) as store:
        limit, heard = o.RateLimit("2/s", store=store, name="wrong"), []
        with events.subscribe(heard.append, "opero.store.lost"):
            assert limit.peek() == (2, 0)
        assert heard[0].fields["reason"].startswith("peek() answered (-1, 0); it has to answer (count, seconds)")
