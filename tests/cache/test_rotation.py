"""Keys that change while a fleet runs: what one process ends is ended for all, and what was stored is not lost."""

import threading
import time

import pytest
from caches import name_in, place, space

import opero as o

ONE, TWO = b"1" * 32, b"2" * 32
STEPS = {"before": [ONE], "added": [ONE, TWO], "switched": [TWO, ONE], "removed": [TWO]}
ROLLING = [("before", "before"), ("added", "before"), ("added", "added"), ("switched", "added")]
ROLLING += [("switched", "switched"), ("removed", "switched"), ("removed", "removed")]
MIXED = [(one, other) for one in STEPS for other in STEPS if one != other and set(STEPS[one]) & set(STEPS[other])]
STORES = ["disk", pytest.param("redis", marks=pytest.mark.service("redis"))]
stores = pytest.mark.parametrize("backend", STORES)


class Fleet:
    """Processes of one function on one store, each with a ring of its own."""

    def __init__(self, given):
        self._given = {"namespace": space(), "tags": ["all", "n:{x}"], **given}
        self.loads = 0

    def process(self, keys, **more):
        @o.opero(o.Cache(600, signing_key=o.KeyRing(keys), **self._given, **more))
        def f(x):
            self.loads += 1
            return self.loads

        return f


def ready(f):
    near, until = place(f).near, time.monotonic() + 10
    while not near.fresh(time.monotonic()):
        assert time.monotonic() < until, "the listener does not listen"
        time.sleep(0.01)
    return near


@pytest.mark.parametrize(("one", "other"), MIXED)
@stores
def test_a_tag_ended_by_one_process_is_ended_for_all_who_share_a_key(one, other, backend, settings):
    fleet = Fleet(settings(backend))
    f, g = fleet.process(STEPS[one]), fleet.process(STEPS[other])
    for end, read in ((f, g), (g, f), (f, g)):
        for tag in ("all", "n:1"):
            f(1), g(1)
            known = read(1)
            assert read(1) == known
            end.opero.cache.invalidate_tag(tag)
            assert read(1) > known


@stores
def test_a_rolling_rotation_loses_nothing_and_reaches_everyone(backend, settings):
    fleet = Fleet(settings(backend))
    old = fleet.process(STEPS["before"])
    assert [old(x) for x in range(4)] == [1, 2, 3, 4]
    for step in ROLLING:
        processes = [fleet.process(STEPS[keys]) for keys in step]
        if "removed" not in step:
            assert [f(x) for f in processes for x in range(1, 4)] == [2, 3, 4] * 2  # stored before it all began
        for f in processes:
            known = max(g(0) for g in processes)
            f.opero.cache.invalidate_tag("n:0")
            assert min(g(0) for g in processes) > known
            assert len({g(0) for g in processes}) == 1


@stores
def test_a_ring_that_rotates_at_once_loads_what_has_tags_once_more(backend, settings):
    ring, made = o.KeyRing([ONE]), []

    @o.opero(o.Cache(600, tags=["n:{x}"], signing_key=ring, namespace=space(), **settings(backend)))
    def f(x):
        made.append(x)
        return len(made)

    assert [f(1), f(2), f(3)] == [1, 2, 3]
    ring.rotate(TWO)
    assert [f(1), f(2), f(1), f(2)] == [4, 5, 4, 5]
    f.opero.cache.invalidate_tag("n:1", "n:3")
    assert [f(1), f(2), f(3)] == [6, 5, 7]


@pytest.mark.service("redis")
def test_a_mark_that_redis_evicted_revives_nothing(settings):
    import redis

    from opero.stores.cache.named import key_of

    given = settings("redis")
    fleet = Fleet(given)
    both, new = fleet.process([TWO, ONE]), fleet.process([TWO])
    known = both(1)
    assert new(1) == known
    new.opero.cache.invalidate_tag("all")
    with redis.Redis.from_url(given["url"]) as client:
        assert client.delete(key_of(place(new).shelf.marks("all")[0])) == 1
    assert both(1) > known


@stores
def test_what_is_stored_once_the_new_key_writes_outlives_the_old_one(backend, settings):
    fleet = Fleet(settings(backend))
    switched, removed = fleet.process(STEPS["switched"]), fleet.process(STEPS["removed"])
    assert switched(1) == 1
    assert (removed(1), switched(1), removed(1)) == (1, 1, 1)
    removed.opero.cache.invalidate_tag("all")
    assert removed(1) == 2
    again = switched(1)
    assert again in {2, 3}  # of what the other loads after its own word, nothing says that it was after all words
    assert (removed(1), switched(1)) == (again, again)


@stores
def test_a_result_stored_under_a_new_key_takes_the_place_of_the_one_under_the_old(backend, settings):
    fleet = Fleet(settings(backend))
    added, switched = fleet.process(STEPS["added"]), fleet.process(STEPS["switched"])
    assert (added(1), switched(1)) == (1, 1)
    with switched.opero.cache.refresh():
        assert switched(1) == 2
    assert (added(1), switched(1)) == (2, 2)
    with added.opero.cache.refresh():
        assert added(1) == 3
    assert (added(1), switched(1)) == (3, 3)


@stores
def test_keys_that_rotate_while_a_result_loads_leave_no_lease_behind(backend, settings):
    begun, go_on = threading.Event(), threading.Event()
    ring = o.KeyRing([ONE])

    @o.opero(o.Cache(600, signing_key=ring, namespace=space(), **settings(backend)))
    def f(x):
        begun.set()
        assert go_on.wait(10)
        return x

    thread = threading.Thread(target=f, args=(1,))
    thread.start()
    assert begun.wait(10)
    name = name_in(f, 1)
    ring.rotate(TWO)
    go_on.set()
    thread.join()
    assert f.opero.cache.contains(1)
    store, token = place(f).shelf.store, b"next"
    from opero.runtime import Runtime, run

    assert run(store.lock(Runtime(), name, token, 10.0, False)) == token


@pytest.mark.service("redis")
@pytest.mark.parametrize("what", ["entry", "tag"])
def test_a_copy_of_what_lies_under_an_older_key_is_kept_right(what, settings):
    fleet = Fleet(settings("redis"))
    old, f = fleet.process(STEPS["added"]), fleet.process(STEPS["switched"], near=1.0)
    near = ready(f)
    known, until = old(1), time.monotonic() + 10
    while not near.memory.holds(f.opero.cache._key((1,), {})):
        assert f(1) == known
        assert time.monotonic() < until, "no copy was kept"
        time.sleep(0.01)
    if what == "tag":
        old.opero.cache.invalidate_tag("n:1")
    else:
        old.opero.cache.invalidate(1)
    ended = time.monotonic()
    while f(1) == known:
        assert time.monotonic() < ended + 1.0, "older than the bound"
