"""One suite for every backend: a model of what a cache is, and what every one of them must do."""

import asyncio
import threading

import pytest
from caches import DISTANT, counted, space
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

import opero as o
from opero import testing

LOCAL = ["memory", "memory-lru"]
ALL = [*LOCAL, *DISTANT]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 3)),
        st.tuples(st.just("call"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 4.0, 9.9, 10.0])),
        st.tuples(st.just("invalidate"), st.integers(0, 3)),
        st.tuples(st.just("tag"), st.sampled_from(["even", "n:0", "n:1", "nobody"])),
        st.tuples(st.just("set"), st.integers(0, 3)),
        st.tuples(st.just("refresh"), st.integers(0, 3)),
        st.tuples(st.just("bypass"), st.integers(0, 3)),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("contains"), st.integers(0, 3)),
    ),
    max_size=25,
)


class Model:
    """A dict with lifetimes: what every backend must be like."""

    def __init__(self, time):
        self.time, self.known, self.calls = time, {}, 0

    def get(self, x):
        value, born = self.known.get(x, (None, None))
        return value if born is not None and self.time.now() < born + 10 else None

    def load(self, x):
        self.calls += 1
        self.known[x] = ([x, self.calls], self.time.now())

    def kill(self, tag):
        self.known = {x: known for x, known in self.known.items() if tag not in tags(x)}


def tags(x):
    return [f"n:{x}", *(["even"] if x % 2 == 0 else [])]


def freeze_servers_clock(function):
    """Let ages follow the virtual clock: the server's own cannot be moved."""
    place = function.opero.cache._around.place
    store = getattr(getattr(place, "shelf", None), "store", None)
    if getattr(store, "name", "") == "redis":
        store._offset, store._synced = 0.0, float("inf")


@pytest.mark.parametrize("backend", ALL)
def test_every_backend_is_like_the_model(backend, settings):
    @how(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(STEPS)
    def run(steps):
        with testing.clock() as time:
            model, made = Model(time), []
            policy = o.Cache(10, tags=tags, namespace=space(), **settings(backend))

            @o.opero(policy)
            def f(x: int) -> list[int]:
                made.append(x)
                return [x, len(made)]

            freeze_servers_clock(f)
            for step, value in steps:
                follow(step, value, f, (model, time, made))
                assert len(made) == model.calls

    run()


def follow(step, x, f, world):
    model, time, made = world
    cache = f.opero.cache
    if step == "call":
        if model.get(x) is None:
            model.load(x)
        assert f(x) == model.get(x)
    elif step == "wait":
        time.advance(x)
    elif step == "invalidate":
        cache.invalidate(x)
        model.known.pop(x, None)
    elif step == "tag":
        cache.invalidate_tag(x)
        model.kill(x)
    elif step == "set":
        cache.set(["mine", x], x)
        model.known[x] = (["mine", x], time.now())
    elif step == "refresh":
        with cache.refresh():
            model.load(x)
            assert f(x) == model.get(x)
    elif step == "bypass":
        with cache.bypass():
            model.calls += 1
            assert f(x) == [x, len(made)]
    elif step == "clear":
        cache.clear()
        model.known.clear()
    else:
        assert cache.contains(x) == (model.get(x) is not None)
        assert cache.get(x) == model.get(x)


@pytest.mark.parametrize("backend", ALL)
def test_a_coroutine_function_is_served_alike(backend, settings):
    made = []

    @o.opero(o.Cache(60, tags="t", namespace=space(), **settings(backend)))
    async def f(x):
        made.append(x)
        await asyncio.sleep(0.01)
        return x

    async def main():
        assert await asyncio.gather(*(f(1) for _ in range(100))) == [1] * 100
        assert made == [1]
        assert await f(1) == 1
        await f.opero.cache.invalidate_tag("t")
        assert await f(1) == 1
        assert await f.opero.cache.get(1) == 1
        assert await f.opero.cache.invalidate(1)
        assert not await f.opero.cache.contains(1)
        await f.opero.cache.clear()

    asyncio.run(main())
    assert made == [1, 1]


@pytest.mark.parametrize("backend", ALL)
def test_many_are_read_stored_and_forgotten_at_once(backend, settings):
    @o.opero(o.Cache(60, tags="n:{x}", namespace=space(), cache_if=lambda v: v != "no", **settings(backend)))
    def f(x: int, y: int = 0) -> str:
        f.calls.append((x, y))
        return f"{x}.{y}"

    f.calls, cache = [], f.opero.cache
    assert (f(1), f(2, 5)) == ("1.0", "2.5")
    assert cache.get_many([1, (2, 5), 3]) == ["1.0", "2.5", None]
    assert cache.get_many([3], default="none") == ["none"]
    cache.set_many({3: "three", (4, 4): "four", 1: "one", 5: "no"})
    assert cache.get_many([(1, 0), 3, (4, 4), 5]) == ["one", "three", "four", None]
    assert (f(3), f(4, y=4), f(1), len(f.calls)) == ("three", "four", "one", 2)
    cache.invalidate_tag("n:3")
    assert cache.get_many([3, 1]) == [None, "one"]
    assert cache.invalidate_many([1, (2, 5), 7]) == 2
    assert cache.get_many([1, (2, 5), (4, 4)]) == [None, None, "four"]
    assert (cache.get_many([]), cache.set_many([]), cache.invalidate_many([])) == ([], None, 0)
    with pytest.raises(TypeError, match="takes no such arguments"):
        cache.get_many([(1, 2, 3)])


@pytest.mark.service("redis")
def test_many_go_in_few_trips(redis_server):
    def reads():
        line = next(each for each in redis_server.cli("info", "stats").splitlines() if "total_reads_processed" in each)
        return int(line.partition(":")[2])

    @o.opero(o.Cache(60, tags="n:{x}", backend="redis", url=redis_server.url, namespace="many", patience=5.0))
    def f(x):
        return x

    @o.opero(o.Cache(60, backend="redis", url=redis_server.url, namespace="many", patience=5.0))
    async def g(x):
        return x

    async def main():
        await g(1)
        before = reads()
        await g.opero.cache.set_many((n, n) for n in range(1000))
        assert await g.opero.cache.get_many(range(1000)) == list(range(1000))
        assert await g.opero.cache.invalidate_many(range(1000)) == 1000
        return reads() - before

    f(1)
    before = reads()
    f.opero.cache.set_many((n, n) for n in range(1000))
    assert f.opero.cache.get_many(range(1000)) == list(range(1000))
    assert f.opero.cache.invalidate_many(range(1000)) == 1000
    assert reads() - before < 500  # of 3 000 and more; a trip of 500 is read in parts
    assert asyncio.run(main()) < 500


@pytest.mark.parametrize("backend", DISTANT)
def test_what_one_stores_another_finds(backend, settings):
    namespace = space()
    f, made = counted(o.Cache(60, namespace=namespace, **settings(backend)))
    assert f(1) == 1
    g = o.opero(o.Cache(60, namespace=namespace, **settings(backend)))(f.__wrapped__)
    assert (g(1), made) == (1, [1])
    assert g.opero.cache.stats()["hits"] == 1
    f.opero.cache.invalidate(1)
    assert (g(1), made) == (2, [1, 1])


@pytest.mark.parametrize("backend", DISTANT)
def test_a_stale_entry_answers_while_one_call_loads_anew(backend, settings):
    with testing.clock() as time:
        f, _ = counted(o.Cache(60, soft_ttl=10, namespace=space(), **settings(backend)))
        freeze_servers_clock(f)
        assert f() == 1
        time.advance(10)
        assert f() == 1
        state = f.opero.policies[0].state
        for _ in range(2000):
            if not state._refreshes:
                break
            time._real_wait(threading.Event(), 0.002)
        assert f() == 2
        assert f.opero.cache.stats()["stale"] == 1


@pytest.mark.parametrize("backend", DISTANT)
def test_an_expired_entry_answers_for_a_failing_function(backend, settings):
    with testing.clock() as time:
        answers = iter([7, OSError()])

        @o.opero(o.Cache(10, stale_if_error=50, namespace=space(), **settings(backend)))
        def f():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        freeze_servers_clock(f)
        f()
        time.advance(20)
        assert f() == 7


@pytest.mark.parametrize("backend", ["disk-signed", pytest.param("redis-signed", marks=pytest.mark.service("redis"))])
def test_an_error_is_kept_in_a_signed_store_where_asked_for(backend, settings):
    made = []

    @o.opero(o.Cache(60, errors=KeyError, error_ttl=60, namespace=space(), **settings(backend)))
    def f():
        made.append(1)
        raise KeyError("no")

    for _ in range(3):
        with pytest.raises(KeyError, match="no"):
            f()
    assert made == [1]


@pytest.mark.parametrize("backend", ALL)
def test_an_early_load_begins_when_it_is_drawn_and_not_before(backend, settings, monkeypatch):
    with testing.clock() as time:

        @o.opero(o.Cache(100, early=1.0, namespace=space(), **settings(backend)))
        def f(x):
            f.calls += 1
            time.advance(1.0)
            return f.calls

        f.calls = 0
        freeze_servers_clock(f)
        assert f(1) == 1
        monkeypatch.setattr("opero.stores.cache.entry.drawn.__code__", (lambda: 2.0**-53).__code__)
        time.advance(60)
        assert [f(1), f(1), f(1), f.calls] == [1, 1, 1, 1]
        time.advance(10)
        assert f(1) == 1
        state = f.opero.policies[0].state
        for _ in range(2000):
            if not state._refreshes:
                break
            time._real_wait(threading.Event(), 0.002)
        assert f(1) == 2
        assert f.opero.cache.stats()["stale"] == 1


@pytest.mark.parametrize("backend", ["memory", "disk", pytest.param("redis", marks=pytest.mark.service("redis"))])
def test_a_tag_reaches_all_functions_that_share_the_cache(backend, settings):
    given = settings(backend)

    def made():
        policy = o.Cache(60, tags=["user:{user}"], **given)

        @o.opero(policy)
        def orders(user):
            return 1

        @o.opero(policy)
        def profile(user):
            return 2

        return orders, profile

    (orders, profile), (there, beside) = made(), made()  # as in two processes
    assert [f(7) for f in (orders, profile, there, beside)] == [1, 2, 1, 2]
    orders.opero.cache.invalidate_tag("user:7")
    ended = (orders, profile) if backend == "memory" else (orders, profile, there, beside)
    assert not any(f.opero.cache.contains(7) for f in ended)
