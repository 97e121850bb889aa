"""Where the alternatives come from, and who refreshes them."""

import asyncio
import pickle
import threading
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import opero as o
from opero import testing
from opero.ring import REMEMBERED, Ring
from together import together


class KeyRing(RuleBasedStateMachine):
    """A model that knows of each key since when and until when it rests, and looks at all of them each time."""

    def __init__(self):
        super().__init__()
        self.keys = ["a", "b", "c"]
        self.ring = Ring(tuple(self.keys))
        self.now = 100.0
        self.until = {}

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds):
        self.now += seconds

    @rule(number=st.integers(0, 2), seconds=st.one_of(st.floats(0, 100), st.just(inf)))
    def fail(self, number, seconds):
        key = self.keys[number % len(self.keys)]
        self.ring.rest(key, self.now + seconds)
        self.until[key] = max(self.until.get(key, 0), self.now + seconds)

    @rule(keys=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    def replace(self, keys):
        self.ring.replace(tuple(keys))
        self.keys, self.until = keys, {}

    @invariant()
    def those_that_rest_come_last_and_the_refused_never(self):
        rested = [key for key in self.keys if self.until.get(key, 0) <= self.now]
        resting = [key for key in self.keys if self.now < self.until.get(key, 0) < inf]
        found = [self.keys[n] for n in self.ring.order(self.keys, self.now)]
        assert found[: len(rested)] == rested
        assert found[len(rested) :] == sorted(resting, key=self.until.__getitem__)
        assert self.ring.refused() is (not found)

    @invariant()
    def spreading_only_turns_those_that_are_rested(self):
        plain = self.ring.order(self.keys, self.now)
        turned = self.ring.order(self.keys, self.now, spread=True)
        count = sum(self.until.get(key, 0) <= self.now for key in self.keys)
        assert turned[count:] == plain[count:]
        assert turned[:count] in [plain[start:count] + plain[:start] for start in range(max(count, 1))]


KeyRing.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestKeyRing = KeyRing.TestCase


class Refused(Exception):
    status = 401


def failing(*bad, seen):
    def f(before, host=("a", "b"), after="after"):
        seen.append((before, host, after))
        if host in bad:
            raise OSError
        return host

    return f


def test_the_other_arguments_stay_where_they_are():
    seen = []
    f = o.opero(o.ArgFallback("host"))(failing("a", seen=seen))
    assert f(1, ["a", "b"], 3) == f(1, host=["a", "b"], after=3) == "b"
    assert seen == [(1, "a", 3), (1, "b", 3)] * 2


def test_the_default_of_the_parameter_may_be_the_alternatives():
    seen = []
    assert o.opero(o.ArgFallback("host"))(failing("a", seen=seen))(1) == "b"
    assert [host for _, host, _ in seen] == ["a", "b"]


def test_the_policys_own_go_before_the_default():
    seen = []
    policy = o.ArgFallback("host", alternatives=["x", "y"])
    assert o.opero(policy)(failing("x", seen=seen))(1) == "y"


def test_an_empty_sequence_is_said():
    with pytest.raises(o.ConfigurationError, match="host takes at least one alternative"):
        o.opero(o.ArgFallback("host"))(failing(seen=[]))(1, [])


def test_a_keyword_only_parameter():
    @o.opero(o.ArgFallback("key", alternatives=["k"]))
    def f(*, key=""):
        return key

    assert f() == "k"


def test_alternatives_that_cannot_be_hashed_rest_too():
    ring = o.ArgFallback("key", cooldown=60, on=OSError)
    seen = []

    @o.opero(ring)
    def f(key=None):
        seen.append(key["id"])
        if key["id"] == 1:
            raise OSError

    keys = [{"id": 1}, {"id": 2}]
    f(keys)
    f(keys)
    assert seen == [1, 2, 2]


def test_the_book_of_rests_is_bounded():
    ring = Ring(None)
    for number in range(REMEMBERED + 10):
        ring.rest(number, 1.0)
    assert len(ring.until) == REMEMBERED
    assert 0 not in ring.until


def test_a_rest_is_not_made_shorter():
    ring = Ring(("a", "b"))
    ring.rest("a", 10.0)
    ring.rest("a", 5.0)
    ring.rest("b", 7.0)
    assert ring.order(("a", "b"), 4.0) == [1, 0]
    assert ring.order(("a", "b"), 7.0) == [1, 0]
    assert ring.order(("a", "b"), 10.0) == [0, 1]


def test_tasks_wait_for_one_refresh():
    made, waits = [], []

    async def refresh():
        made.append(1)
        await asyncio.sleep(5)
        return ["fresh"]

    @o.opero(o.ArgFallback("key", alternatives=["old"], cooldown=9, refresh=refresh))
    async def f(key=""):
        if key == "old":
            raise Refused
        return key

    async def main():
        return await asyncio.gather(*(f() for _ in range(20)))

    with testing.clock():
        waits = asyncio.run(main())
    assert waits == ["fresh"] * 20
    assert made == [1]


def test_threads_wait_for_one_refresh():
    made = []

    def refresh():
        made.append(1)
        threading.Event().wait(0.2)  # real work somewhere else
        return ["fresh"]

    @o.opero(o.ArgFallback("key", alternatives=["old"], cooldown=9, refresh=refresh))
    def f(key=""):
        if key == "old":
            raise Refused
        return key

    assert together(*[f] * 8) == ["fresh"] * 8
    assert made == [1]


def test_a_refresh_that_fails_leaves_nobody_waiting():
    def refresh():
        raise KeyError("vault")

    @o.opero(o.ArgFallback("key", alternatives=["old"], cooldown=9, refresh=refresh))
    def f(key=""):
        raise Refused

    for _ in range(3):
        with pytest.raises(KeyError, match="vault"):
            f()


def test_no_key_is_shown_and_every_key_crosses_a_process():
    policy = o.ArgFallback("key", alternatives=["secret-1", "secret-2"], cooldown=5)
    assert "secret" not in repr(policy)
    assert pickle.loads(pickle.dumps(policy)).alternatives == ("secret-1", "secret-2")


def test_its_repr_shows_what_was_set_and_how_many_there_are():
    policy = o.ArgFallback("key", alternatives=["secret-1", "secret-2"], cooldown=5, spread=True)
    assert repr(policy) == "ArgFallback(parameter='key', alternatives=<2>, cooldown=5.0, spread=True)"
    assert repr(o.ArgFallback("key")) == "ArgFallback(parameter='key')"


def test_a_parameter_is_a_name():
    with pytest.raises(o.ConfigurationError):
        o.ArgFallback("two words")


def test_a_refresh_needs_alternatives_to_refresh():
    with pytest.raises(o.ConfigurationError) as caught:
        o.ArgFallback("key", refresh=list)
    assert caught.value.field == "refresh"
