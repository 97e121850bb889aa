"""Which of many states are forgotten, and which stay."""

import os
import signal
import time
from math import inf
from random import Random

import pytest

from child import held
from opero.keyed import Keyed, _Kept, reader


class Box:
    """A state: until when it stays, and whether it is as good as new."""

    def __init__(self):
        self.until = -inf
        self.new = False

    def idle(self, now):
        return self.new


def boxes(size):
    return Keyed(Box, size, share=False, stays=lambda box: box.until)


def there(keyed):
    return {key: box.until for part in (keyed._states, keyed._kept) for key, box in part.items()}


def test_an_idle_one_makes_room_first_and_then_the_least_recently_used():
    keyed = boxes(3)
    for key in "abc":
        keyed.get(key, 0.0)
    keyed.get("b", 0.0).new = True
    keyed.get("d", 0.0)
    assert set(there(keyed)) == {"a", "c", "d"}
    keyed.get("e", 0.0)
    assert set(there(keyed)) == {"c", "d", "e"}


def test_what_stays_is_not_forgotten_for_any_number_of_new_keys():
    keyed = boxes(30)
    stays = [keyed.get(("stays", n), 0.0) for n in range(20)]
    for n, box in enumerate(stays):
        box.until = inf if n % 2 else 100.0
    for n in range(1000):
        keyed.get(n, 50.0)
        assert len(keyed.values()) <= 30
    assert [keyed.get(("stays", n), 50.0) for n in range(20)] == stays


def test_it_is_like_any_other_when_its_time_is_over():
    keyed = boxes(3)
    keyed.get("open", 0.0).until = 10.0
    for n in range(5):
        keyed.get(n, 9.9)
    assert "open" in there(keyed)
    for n in range(5):
        keyed.get(n, 10.0)
    assert "open" not in there(keyed)


def test_if_all_stay_the_one_that_may_go_first_makes_room():
    keyed = boxes(4)
    for key, until in (("hand", inf), ("late", 30.0), ("soon", 10.0), ("next", 20.0)):
        keyed.get(key, 0.0).until = until
    for new, gone in (("a", "soon"), ("b", "next"), ("c", "late")):
        keyed.get(new, 1.0).until = inf
        assert gone not in there(keyed)
        assert len(there(keyed)) == 4
    keyed.get("d", 1.0)
    assert set(there(keyed)) == {"a", "b", "c", "d"}


def test_one_used_in_between_is_known_by_its_latest_time():
    keyed = boxes(2)
    keyed.get("a", 0.0).until = 10.0
    keyed.get("b", 0.0).until = 20.0
    keyed.get("c", 0.0).until = 30.0  # in the place of a
    keyed.get("b", 0.0).until = 40.0
    keyed.get("d", 0.0).until = 50.0
    assert there(keyed) == {"b": 40.0, "d": 50.0}


def test_where_all_stay_a_new_key_costs_no_look_at_all_of_them():
    looks = []

    def stays(box):
        looks.append(box)
        return 1e9

    keyed = Keyed(Box, 2_000, share=False, stays=stays)
    for n in range(10_000):
        keyed.get(n, 0.0)
        keyed.get(n - 1000, 0.0)
    assert len(looks) < 40_000
    assert len(keyed._kept._order) <= 2 * 2_000 + 100


def test_what_is_kept_again_and_again_is_known_by_its_last_time_and_leaves_nothing_behind():
    kept, last, chance = _Kept(), {}, Random(1)
    for n in range(2_000):
        key, until = chance.randrange(100), chance.randrange(1_000)
        kept.pop(key)
        kept.add(key, object(), float(until))
        last[key] = until, n
        assert len(kept._order) <= 2 * len(kept) + 8
    assert [key for key, _ in kept.pop_until(inf)] == sorted(last, key=last.get)
    assert (len(kept), kept._order) == (0, [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_finds_the_lock_free():
    keyed = boxes(2)
    with held(keyed._lock):
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # ends a child that waits for ever
            keyed.get("a", 0.0)
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_key_of_a_call_is_an_argument_or_its_default():
    def f(x, tenant="none", *, host=None, **more):
        """Take a key in each place."""

    def asks(x, tenant):
        """Have no default."""

    read = reader("key", "tenant", f)
    assert (read((1,), {}), read((1, "a"), {}), read((1,), {"tenant": "b"})) == ("none", "a", "b")
    assert (reader("key", "host", f)((1,), {"host": "h"}), reader("key", "other", f)((1,), {"other": 3})) == ("h", 3)
    assert reader("key", "tenant", asks)((1,), {}) is None  # the call itself will fail


def test_a_new_key_is_quick_among_many_that_stay():
    keyed = boxes(10_000)
    for n in range(10_000):
        keyed.get(n, 0.0).until = inf
    started = time.thread_time()
    for n in range(1_000):
        keyed.get(-1 - n, 0.0)
    assert time.thread_time() - started < 5.0  # 0.02 s; a look at all for each would take minutes
