"""The scripts decide as the state machines of one process do. Time is an argument of both."""

from math import inf
from time import perf_counter
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opero import CircuitBreaker
from opero.call import FAILURE, NONE, SUCCESS
from opero.quota import Quota, Rate
from opero.stores import Address
from opero.stores.redis import NEVER, RedisStore, _rules, _slots
from opero.tokens import Tokens

pytestmark = pytest.mark.service("redis")
ONE_SERVER = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
START = 1_750_000_000.0


class Scripts:
    def __init__(self, server):
        self.store = RedisStore(Address(server.url), timeout=5)
        self.number = 0

    def fresh(self):
        self.number += 1
        return f"k{self.number}"

    def run(self, name, keys, *args):
        return self.store._evaluate(self.store._script(name), keys, list(args))


@pytest.fixture(scope="module")
def scripts(redis_of_module):
    scripts = Scripts(redis_of_module)
    yield scripts
    scripts.store._client().close()


@ONE_SERVER
@given(
    st.lists(st.tuples(st.integers(0, 24), st.integers(1, 3), st.booleans()), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(3, 5)), min_size=1, max_size=3),
)
def test_a_quota_in_redis_admits_what_one_in_memory_does(scripts, steps, rates):
    quota, key, passed, waiting = Quota(Rate(*rate) for rate in rates), scripts.fresh(), 0.0, []
    given = [part for count, per, burst in rates for part in (per / count * 1e6, burst)]
    for eighths, weight, patient in steps:
        passed += eighths / 8
        while waiting and waiting[0][0] <= passed:  # who waits goes when it is time
            at, ticket = waiting.pop(0)
            assert quota.turn(ticket, None, at)[0] == pytest.approx(at, abs=1e-4)
        delay, ticket = quota.book(passed, inf if patient else 0.0, weight)
        went, wait, *_ = scripts.run(
            "reserve", [key], (START + passed) * 1e6, NEVER if patient else 0, weight, 0, *given
        )
        assert bool(went) == (ticket is not None)
        assert int(wait) / 1e6 == pytest.approx(delay, abs=1e-4)
        if went and delay > 0:
            waiting.append((passed + delay, ticket))


def test_a_booking_is_undone_unless_somebody_booked_behind_it(scripts):
    key, rate = scripts.fresh(), (1e6, 1)
    book = [scripts.run("reserve", [key], 0, NEVER, 1, 0, *rate) for _ in range(3)]
    assert [int(wait) for _, wait, *_ in book] == [0, 1e6, 2e6]
    assert scripts.run("give_back", [key], 1, rate[0], book[1][3]) == 0
    assert scripts.run("give_back", [key], 1, rate[0], book[2][3]) == 1
    assert int(scripts.run("reserve", [key], 0, NEVER, 1, 0, *rate)[1]) == 2e6


@ONE_SERVER
@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 500), st.sampled_from([0.0, 0.35, 1.0, 1.0])), max_size=40),
    st.sampled_from([(0.1, 0.5, 50.0), (0.07, 0.0, 200.0), (1.0, 0.1, 5.0)]),
)
def test_a_budget_in_redis_pays_what_one_in_memory_does(scripts, steps, law):
    tokens, key, now, paid = Tokens(*law), scripts.fresh(), START, []
    for number, (seconds, successes, cost) in enumerate(steps):
        now += round(seconds, 3)
        tokens.funding[0] += successes
        tokens.gather(now)
        back = paid.pop() if number % 3 == 2 and paid else 0.0
        tokens.refund(back)
        asked = 0.0 if abs(tokens.left - cost) < 1e-3 else cost
        went, share = scripts.run("pay", [key], now * 1e6, *law, successes, back, asked)
        assert bool(went) == tokens.reserve(now, asked)
        assert float(share) == pytest.approx(tokens.utilization(now), abs=1e-3)
        paid += [asked] if went else []


def _read(rules):
    """Leave out what nothing would read, which is refused."""
    unread = {"failure_ratio"} if rules["consecutive"] else set()
    unread |= set() if rules["slow_call"] else {"slow_ratio"}
    unread |= {"min_calls", "calls"} if rules["consecutive"] and not rules["slow_call"] else set()
    unread |= {"window"} if rules["calls"] else set()
    return {name: value for name, value in rules.items() if name not in unread}


RULES = st.fixed_dictionaries(
    {
        "window": st.just(5),
        "failure_ratio": st.sampled_from([0.5, 0.3, 1.0]),
        "min_calls": st.integers(1, 4),
        "half_open_probes": st.integers(1, 4),
        "consecutive": st.sampled_from([None, 2, 3]),
        "slow_call": st.sampled_from([None, 1.0]),
        "slow_ratio": st.sampled_from([0.5, 1.0]),
        "calls": st.sampled_from([None, 5]),
    }
).map(_read)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 20) | st.just(240),
        st.sampled_from(["ask", "ask", "end", "end", "hold"]),
        st.sampled_from([SUCCESS, FAILURE, FAILURE, NONE]),
        st.booleans(),
        st.sampled_from(["auto", "auto", "forced_open", "forced_closed", "disabled"]),
    ),
    max_size=60,
)


@ONE_SERVER
@given(RULES, STEPS)
def test_a_circuit_in_redis_does_what_one_in_memory_does(scripts, rules, steps):
    policy = CircuitBreaker(**rules, reset_after=3, max_reset_after=10, jitter=0)
    circuit, now, out = policy.circuit, START, []
    keys = [scripts.fresh(), scripts.fresh()]
    for quarters, step, outcome, slow, mode in steps:
        now += quarters / 4
        if step == "ask":
            permit, change, wait = circuit.admit(now)
            passes, generation, probe, left, state, changed = scripts.run(
                "admit", [keys[0], scripts.fresh()], now * 1e6, policy.half_open_probes, policy.lost_after * 1e6, 60_000
            )
            assert (bool(passes), bool(changed)) == (permit is not None, change is not None)
            assert state.decode() == circuit.state
            assert int(left) / 1e6 == pytest.approx(wait if wait is not None else 0 if passes else -1e-6)
            if permit is not None:
                assert bool(probe) == permit.probe
                out.append((permit, generation))
        elif step == "end" and out:
            permit, generation = out.pop(0)
            change = circuit.settle(permit, outcome, 2.0 if slow else 0.0, now)
            late = slow and policy.slow_call is not None
            told = (now * 1e6, generation, int(permit.probe), outcome, int(late), 0.5)
            state, failures, slows, calls, pause = scripts.run("settle", keys, *told, *_rules(policy))
            assert state.decode() == (change.state if change else "")
            if change and change.state == "open":
                assert (float(failures), calls) == (
                    pytest.approx(change.fields["failure_ratio"]),
                    change.fields["calls"],
                )
                assert float(slows) == pytest.approx(change.fields["slow_ratio"])
                assert int(pause) / 1e6 == change.fields["pause"]
        elif step == "hold":
            change = circuit.hold(mode, now)
            assert scripts.run("hold", keys, mode, 60_000).decode() == (change.state if change else "")


def settled(scripts, keys, policy, outcome):
    state, ratio, _, calls, _ = scripts.run("settle", keys, "", 0, 0, outcome, 0, 0.5, *_rules(policy))
    return state.decode(), float(ratio), calls


@pytest.mark.parametrize("lost", ["all failures slows", "ring"])
def test_a_window_of_calls_is_counted_anew_where_the_server_evicted_a_part_of_it(scripts, lost):
    key = scripts.fresh()
    keys, policy = [key, f"{key}:ring"], CircuitBreaker(calls=4, min_calls=4, failure_ratio=0.75)
    for outcome in ("failure", "success", "failure", "success"):
        assert settled(scripts, keys, policy, outcome)[0] == ""
    if lost == "ring":
        scripts.store._client().delete(keys[1])
        told = [settled(scripts, keys, policy, "failure") for _ in range(4)]
        assert told == [*[("", 0.0, 0)] * 3, ("open", 1.0, 4)]
    else:
        scripts.store._client().hdel(key, *lost.split())
        told = [settled(scripts, keys, policy, "failure") for _ in range(2)]
        assert told == [("", 0.0, 0), ("open", 0.75, 4)]


def test_a_long_window_of_calls_costs_what_a_short_one_does(scripts):
    def fastest(size):
        key = scripts.fresh()
        keys, policy = [key, f"{key}:ring"], CircuitBreaker(calls=size)
        scripts.store._client().rpush(keys[1], *[0] * size)
        settled(scripts, keys, policy, "success")  # counts it
        took = []
        for _ in range(10):
            started = perf_counter()
            settled(scripts, keys, policy, "success")
            took.append(perf_counter() - started)
        return min(took)

    assert fastest(200_000) < 10 * fastest(100)


def test_slots_are_given_in_order_and_come_back_from_the_dead(scripts):
    keys = _slots(scripts.fresh())

    def take(token, now):
        return scripts.run("take", keys, now * 1e6, token, 2, 2, 30e6, 1e6)[0]

    assert [take(token, 0) for token in "abcde"] == [1, 1, 2, 2, 0]
    assert [take(token, 0.5) for token in "dc"] == [2, 2]
    scripts.run("leave", keys, "a")
    assert [take(token, 0.5) for token in "dfc"] == [2, 0, 1]  # c came before d
    assert take("e", 1.2) == 2
    assert take("d", 1.4) == 2
    scripts.run("leave", keys, "b")
    assert take("e", 2.6) == 1  # d, who was before it, has not asked for more than a second
    assert take("f", 40) == 1  # nobody renewed


def test_who_fell_silent_in_the_queue_takes_no_place_in_it_wherever_it_stands(scripts):
    keys = _slots(scripts.fresh())

    def take(token, now):
        return scripts.run("take", keys, now * 1e6, token, 1, 3, 30e6, 1e6)

    assert [take(token, 0) for token in "abcd"] == [[1, 1, 0], [2, 1, 1], [2, 1, 2], [2, 1, 3]]
    assert take("b", 1) == [2, 1, 3]
    assert take("e", 1) == [0, 1, 3]
    assert take("e", 1.1) == [2, 1, 2]  # c and d, behind b who still asks, have not asked for more than a second
    scripts.run("leave", keys, "a")
    assert [take("e", 1.2)[0], take("b", 1.2)] == [2, [1, 1, 1]]


def test_scripts_write_only_what_goes_away(scripts):
    client = SimpleNamespace(keys=scripts.store._client().keys("*"), ttl=scripts.store._client().pttl)
    lasting = [key for key in client.keys if client.ttl(key) == -1]
    held = [key for key in lasting if scripts.store._client().hget(key, "mode") not in (None, b"auto")]
    assert lasting == held


def test_who_left_before_the_question_came_gets_no_slot_later(scripts):
    keys = _slots(scripts.fresh())
    keys.append(f"{keys[0]}:left:a")
    scripts.run("leave", keys, "a")
    assert scripts.run("take", keys, "", "a", 1, 0, 1e6, 1e6)[0] == 0
    assert scripts.run("take", [*keys[:3], f"{keys[0]}:left:b"], "", "b", 1, 0, 1e6, 1e6)[0] == 1
