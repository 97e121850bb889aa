"""The memory store against a model, and its bounds."""

import dataclasses
import gc
import sys
import threading
import weakref
from collections import deque
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from opero.stores.cache.entry import Entry
from opero.stores.cache.memory import TAGS, LruStore, MemoryStore
from opero.stores.cache.weight import weigh

KEYS = st.integers(0, 12)
TIMES = st.sampled_from([0.5, 1.0, 2.0, 5.0])


class Model(RuleBasedStateMachine):
    """What is found is what was put last, neither expired nor invalidated; what was evicted is not found."""

    @initialize(kind=st.sampled_from([MemoryStore, LruStore]), size=st.integers(1, 8))
    def start(self, kind, size):
        self.store, self.size = kind(size), size
        self.now, self.serial, self.known, self.begun = 0.0, 0, {}, []

    @rule(key=KEYS, ttl=TIMES, tags=st.sets(st.sampled_from("abc")))
    def put(self, key, ttl, tags):
        self.store.put(key, self._entry(ttl, tags, self.store.born()), self.now)
        self.known[key] = (self.serial, self.now + ttl, tags)

    @rule(key=KEYS, tags=st.sets(st.sampled_from("abc")))
    def begin(self, key, tags):
        self.begun.append((key, tags, self.store.born(), set()))

    @precondition(lambda self: self.begun)
    @rule(ttl=TIMES)
    def end(self, ttl):
        key, tags, born, dead = self.begun.pop()
        self.store.put(key, self._entry(ttl, tags, born), self.now)
        if not (dead & tags or "*" in dead):
            self.known[key] = (self.serial, self.now + ttl, tags)

    @rule(seconds=TIMES)
    def wait(self, seconds):
        self.now += seconds

    @rule(key=KEYS)
    def get(self, key):
        entry = self.store.get(key, self.now)
        if entry is not None:
            assert (entry.value, entry.hard) == self.known[key][:2]
            assert self.now < entry.hard

    @rule(key=KEYS)
    def what_was_just_put_is_found(self, key):
        self.store.put(key, self._entry(1.0, set(), self.store.born()), self.now)
        self.known[key] = (self.serial, self.now + 1.0, set())
        assert self.store.get(key, self.now).value == self.serial

    @rule(key=KEYS)
    def remove(self, key):
        self.store.remove(key)
        self.known.pop(key, None)

    @rule(tag=st.sampled_from("abc"))
    def kill(self, tag):
        self.store.kill_tags([tag])
        self.known = {key: known for key, known in self.known.items() if tag not in known[2]}
        for _, _, _, dead in self.begun:
            dead.add(tag)

    @rule()
    def clear(self):
        self.store.clear()
        self.known = {}
        for _, _, _, dead in self.begun:
            dead.add("*")

    @invariant()
    def nothing_is_found_that_should_not_be(self):
        if not hasattr(self, "store"):
            return
        assert len(self.store) <= self.size
        for key in range(13):
            entry = self.store.entries.get(key)
            uses = entry.uses if entry else 0
            found = self.store.get(key, self.now) if isinstance(self.store, MemoryStore) else None
            if entry:
                entry.uses = uses
            assert found is None or (key in self.known and found.value == self.known[key][0])

    def _entry(self, ttl, tags, born):
        self.serial += 1
        return Entry(self.serial, hard=self.now + ttl, gone=self.now + ttl, tags=tuple(tags), born=born)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("kind", [MemoryStore, LruStore])
def test_without_pressure_everything_put_is_found(kind):
    store = kind(100)
    for n in range(100):
        store.put(n, Entry(n), 0)
    assert [store.get(n, 0).value for n in range(100)] == list(range(100))


@pytest.mark.parametrize("kind", [MemoryStore, LruStore])
def test_bytes_are_bounded_and_what_had_to_go_is_told(kind):
    store = kind(1000, 10_000)
    told = {}
    for n in range(50):
        for reason, count in store.put(n, Entry(b"x" * 900), 0).items():
            told[reason] = told.get(reason, 0) + count
        assert store.bytes <= 10_000
    assert told == {"bytes": 50 - len(store)}
    assert store.bytes == sum(entry.size for entry in store.entries.values())
    assert store.put("large", Entry(b"x" * 20_000), 0) == {"bytes": 1}
    assert store.get("large", 0) is None


def test_a_scan_does_not_wash_out_what_is_asked_for_again():
    def hits(store):
        chance, found = Random(1), 0
        for n in range(30_000):
            key = f"once-{n}" if n % 2 else int(chance.paretovariate(0.8))
            if store.get(key, 0) is None:
                store.put(key, Entry(key), 0)
            else:
                found += 1
        return found

    assert hits(MemoryStore(100)) > 1.1 * hits(LruStore(100))


def test_invalidating_without_end_takes_no_memory():
    store = MemoryStore(10)
    for n in range(5 * 1000):
        store.put(n % 5, Entry(n), 0)
        store.remove(n % 5)
    assert len(store._small) + len(store._main) < 200
    store.kill_tags(range(2 * TAGS))
    assert len(store._dead) == TAGS


def test_forgetting_which_tags_were_invalidated_never_brings_an_entry_back():
    store = MemoryStore(10)
    store.put("a", Entry(1, tags=("t",), born=store.born()), 0)
    store.kill_tags(["t"])
    store.kill_tags(range(TAGS))
    assert "t" not in store._dead
    assert store.get("a", 0) is None
    store.put("a", Entry(2, tags=("t",), born=store.born()), 0)
    assert store.get("a", 0).value == 2


def test_eight_threads_find_only_whole_entries():
    store, wrong = MemoryStore(50), []

    def work(seed):
        for n in range(4000):
            key = (n * seed) % 100
            entry = store.get(key, 0)
            if entry is None:
                store.put(key, Entry((key, key * 2)), 0)
            elif entry.value != (key, key * 2):
                wrong.append(entry.value)
            if n % 97 == 0:
                store.remove(key)
            if n % 501 == 0:
                store.kill_tags([n])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 7, 11, 13, 17, 19, 23)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(store) <= 50


@pytest.mark.parametrize("before", [True, False])
def test_a_view_shows_the_entries_of_its_function(before):
    store = MemoryStore(3)
    keys = {("f", int, 1): 1, ("f", bool, True): (bool, True), ("f", str, "1"): "1"}
    others = [("g", int, 1), ("f", b"encoded"), ("f", int, 1, int, 2)]

    def put(*names):
        for key in names:
            store.put(key, Entry(key), 0)

    put(*keys if before else ())
    view = store.view("f")
    put(*() if before else keys)
    assert {place: entry.value for place, entry in view.entries.items()} == {place: key for key, place in keys.items()}
    store.remove(("f", str, "1"))
    put(*others)
    assert set(view.entries) <= {1, (bool, True)}
    assert len(view.entries) == sum(store.holds(key) for key in keys)
    put(*keys)
    store.clear()
    assert not view.entries
    assert store.view("f") is view


def test_views_go_with_their_functions():
    store = MemoryStore(10)
    for n in range(100):
        store.view(n)
    assert len(store._views) == 0


def test_a_value_weighs_what_its_parts_weigh():
    assert weigh(b"x" * 1000) >= 1000
    assert weigh({"a": ["x" * 500, "y" * 500]}) >= 1000
    shared = "x" * 1000
    assert weigh([shared] * 50) < 2500


@pytest.mark.parametrize("kind", [MemoryStore, LruStore])
def test_clearing_beside_keeping_loses_no_order(kind):
    store, stop, failed = kind(2), threading.Event(), []
    view = store.view("f")

    def clear():
        while not stop.is_set():
            store.clear()

    thread = threading.Thread(target=clear)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for number in range(20_000):
            store.put(("f", int, number % 5), Entry(number, born=store.born()), 0.0)
    except (IndexError, StopIteration) as error:
        failed.append(error)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    for key in range(5):
        store.remove(("f", int, key))
    assert (failed, len(view.entries), len(store)) == ([], 0, 0)


def test_keys_weigh_too_and_are_not_held_once_their_entry_is_gone():
    class Key(str):
        __slots__ = ("__weakref__",)

    store = MemoryStore(4, 100_000)
    keys = [Key(str(n) * 40_000) for n in range(5)]
    alive = [weakref.ref(key) for key in keys]
    for key in keys:
        store.put(key, Entry(1), 0.0)
    assert 0 < len(store) <= 2
    del keys[:], key
    gc.collect()
    assert sum(ref() is not None for ref in alive) == len(store)


@dataclasses.dataclass(slots=True)
class Slotted:
    body: bytes


@dataclasses.dataclass(slots=True)
class More(Slotted):
    __hidden: object = None


class Struct(msgspec.Struct):
    body: bytes


MILLION = {
    "slots": lambda: Slotted(bytes(10**6)),
    "inherited": lambda: More(b"", bytes(10**6)),
    "struct": lambda: Struct(bytes(10**6)),
    "view": lambda: np.zeros(10**6, np.uint8)[:],
    "part": lambda: np.zeros(10**6, np.uint8)[:1],  # it holds the whole
    "memoryview": lambda: memoryview(bytes(10**6)),
    "objects": lambda: np.array([bytes(10**6), None], dtype=object),
    "deque": lambda: deque([bytes(10**6)]),
    "keys": lambda: {bytes(10**6): 1},
}


@pytest.mark.parametrize("kind", MILLION)
def test_what_an_object_holds_weighs(kind):
    assert 1_000_000 <= weigh(MILLION[kind]()) <= 1_002_000


MANY = {
    "list": lambda: [bytes(967) for _ in range(100_000)],
    "tuple": lambda: tuple(bytes(967) for _ in range(100_000)),
    "deque": lambda: deque(bytes(967) for _ in range(100_000)),
    "dict": lambda: {n: bytes(967) for n in range(100_000)},
    "in turn": lambda: [bytes(1934) if n % 2 else None for n in range(100_000)],
    "rows": lambda: [[bytes(967) for _ in range(100)] for _ in range(1000)],
    "records": lambda: [{"id": n, "body": Slotted(bytes(767))} for n in range(100_000)],
}


@pytest.mark.parametrize("kind", MANY)
def test_many_parts_weigh_what_a_sample_does(kind):
    assert 80_000_000 <= weigh(MANY[kind]()) <= 140_000_000


def test_many_of_one_object_weigh_as_one():
    assert weigh([bytes(1000)] * 100_000) < 1_000_000


def test_a_chain_and_a_circle_are_weighed():
    chain = None
    for _ in range(100_000):
        chain = [chain]
    assert weigh(chain) > 100_000
    chain = circle = []
    circle.extend([circle] * 100_000)
    assert 800_000 < weigh(circle) < 2_000_000


def test_types_weigh_nothing():
    assert weigh((int, str, sys)) == weigh(()) + 24
