"""What a breaker takes for a failure, whom it refuses, and what can be seen of it."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

import opero as o
from opero import CircuitBreaker, clock, events, testing
from opero.call import FAILURE, NONE, SUCCESS
from opero.circuit import CLOSED, OPEN
from together import together


def broken(policy, now):
    """Let one call fail."""
    permit, _, _ = policy.circuit.admit(now)
    policy.circuit.settle(permit, FAILURE, 0.0, now)
    assert policy.circuit.state == OPEN


def outcome(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error)


def test_errors_are_failures_successes_or_nothing_by_what_the_user_says():
    policy = CircuitBreaker(on=OSError, ignore=ValueError)
    wanted = [(OSError(), FAILURE), (KeyError(), SUCCESS), (ValueError(), NONE), (o.RateLimitedError("x"), NONE)]
    assert [policy.judge(error) for error, _ in wanted] == [expected for _, expected in wanted]


def test_an_unwanted_result_is_a_failure_and_is_returned():
    @o.opero(CircuitBreaker(min_calls=2, on_result=lambda r: r == 503))
    def f():
        return 503

    assert [outcome(f) for _ in range(3)] == [503, 503, o.CircuitOpenError]


def test_a_status_is_a_failure_as_a_result_and_as_an_error():
    class Answer(Exception):
        status_code = 503

    @o.opero(CircuitBreaker(min_calls=2, on=o.conditions.status(503)))
    def f(answer):
        if answer is None:
            raise Answer
        return answer

    answer = Answer()
    assert [outcome(f, given) for given in (answer, None, answer)] == [answer, Answer, o.CircuitOpenError]


def test_held_by_hand_it_does_as_it_is_told():
    @o.opero(CircuitBreaker(min_calls=2))
    def f(fails=True):
        if fails:
            raise OSError
        return 1

    breaker = f.opero.breaker
    breaker.force_close()
    assert (breaker.state, breaker.mode) == ("closed", "forced_closed")
    assert [outcome(f) for _ in range(5)] == [OSError] * 5
    breaker.disable()
    assert (breaker.state, breaker.mode) == ("closed", "disabled")
    assert [outcome(f) for _ in range(5)] == [OSError] * 5
    assert breaker._policy.circuit.read(clock.now()) == ("closed", 0, 0)
    breaker.force_open()
    assert outcome(f, False) is o.CircuitOpenError
    breaker.reset()
    assert [outcome(f) for _ in range(3)] == [OSError, OSError, o.CircuitOpenError]
    assert (breaker.state, breaker.mode) == ("open", "auto")


def test_in_shadow_it_decides_and_tells_and_refuses_nobody():
    heard = []

    @o.opero(CircuitBreaker(min_calls=2, reset_after=5, half_open_probes=1, shadow=True))
    def f(fails=True):
        if fails:
            raise OSError
        return 1

    with testing.clock() as time, events.subscribe(heard.append, "opero.circuit.*"):
        assert [outcome(f) for _ in range(4)] == [OSError] * 4
        assert f.opero.breaker.state == "open"
        time.advance(5)
        assert f(False) == 1
    said = [(e.name.removeprefix("opero.circuit."), e.fields.get("shadow"), e.fields.get("reason")) for e in heard]
    refused = ("shadowed", None, "circuit_open")
    assert said == [("opened", True, None), refused, refused, ("half_opened", True, None), ("closed", True, None)]
    assert f.opero.stats()["rejected"] == 0


def test_each_key_has_a_circuit_of_its_own_and_their_number_is_bounded():
    policy = CircuitBreaker(min_calls=1, key="host", max_keys=2)

    @o.opero(policy)
    def f(host):
        if host == "down":
            raise OSError
        return host

    assert [outcome(f, host) for host in ("down", "up", "down", "up")] == [OSError, "up", o.CircuitOpenError, "up"]
    breaker = f.opero.breaker
    assert (breaker.state, breaker.of("down").state, breaker.of("up").state) == ("open", "open", "closed")
    for n in range(20):
        assert outcome(f, f"up{n}") == f"up{n}"
    assert len(policy.circuits.values()) == 2
    breaker.force_open()
    assert [outcome(f, host) for host in ("up19", "new")] == [o.CircuitOpenError] * 2
    breaker.reset()
    assert outcome(f, "up19") == "up19"


def test_circuits_that_are_open_or_held_by_hand_are_not_forgotten_for_new_keys():
    @o.opero(CircuitBreaker(consecutive=1, key="host", max_keys=4, reset_after=50))
    def f(host):
        if host == "down":
            raise OSError
        return host

    with testing.clock(start=0) as time:
        breaker = f.opero.breaker
        assert outcome(f, "down") is OSError
        breaker.of("held").force_open()
        breaker.of("shut").disable()
        for n in range(100):
            assert outcome(f, n) == n
        assert [outcome(f, host) for host in ("down", "held", "shut")] == [
            o.CircuitOpenError,
            o.CircuitOpenError,
            "shut",
        ]
        assert (breaker.of("shut").mode, len(f.opero.policies[0].circuits.values())) == ("disabled", 4)
        time.advance(50)
        assert [outcome(f, n) for n in range(100)] == [*range(100)]
        assert [breaker.of(host).state for host in ("down", "held")] == ["closed", "forced_open"]


def test_if_all_circuits_are_open_the_one_that_would_close_soonest_makes_room():
    @o.opero(CircuitBreaker(consecutive=1, key="host", max_keys=3, reset_after=50))
    def f(host):
        raise OSError

    with testing.clock(start=0) as time:
        f.opero.breaker.of("held").force_open()
        for host in "abc":
            assert outcome(f, host) is OSError
            time.advance(1)
        assert [f.opero.breaker.of(host).state for host in ("held", "b", "c")] == ["forced_open", "open", "open"]
        assert outcome(f, "a") is OSError


def test_circuits_held_all_at_once_make_room_like_others():
    @o.opero(CircuitBreaker(consecutive=1, key="host", max_keys=3))
    def f(host):
        return host

    f.opero.breaker.disable()
    f.opero.breaker.of("held").force_open()
    assert [outcome(f, n) for n in range(50)] == [*range(50)]
    assert outcome(f, "held") is o.CircuitOpenError


def test_what_was_held_by_hand_makes_room_again_after_a_reset():
    policy = CircuitBreaker(consecutive=1, key="host", max_keys=3)
    f = o.opero(policy)(lambda host: host)
    ours = [f.opero.breaker.of(host) for host in "abc"]
    for each in ours:
        each.force_open()
    assert outcome(f, "new") == "new"
    assert sorted(each.state for each in ours) == ["closed", "forced_open", "forced_open"]  # one of them was forgotten
    for each in ours:
        each.force_open()
        assert each.state == "forced_open"
    assert [outcome(f, n) for n in range(3)] == [0, 1, 2]
    f.opero.breaker.reset()
    assert [outcome(f, n) for n in range(3)] == [0, 1, 2]
    assert list(policy.circuits._states) == [0, 1, 2]


def test_one_probe_is_admitted_of_twenty_callers_in_threads_and_tasks():
    policy = CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5)
    broken(policy, clock.now() - 5)
    barrier, entered, ended = threading.Barrier(11), [], []

    @o.opero(policy)
    def in_thread():
        entered.append("thread")
        while len(ended) < 19:
            clock.sleep(0.001)

    @o.opero(policy)
    async def in_task():
        entered.append("task")
        while len(ended) < 19:
            await asyncio.sleep(0.001)

    def thread():
        barrier.wait()
        ended.append(outcome(in_thread))

    async def tasks():
        barrier.wait()
        made = [asyncio.create_task(in_task()) for _ in range(10)]
        for task in made:
            task.add_done_callback(lambda task: ended.append(type(task.exception()) if task.exception() else None))
        await asyncio.gather(*made, return_exceptions=True)

    with ThreadPoolExecutor(10) as threads:
        for _ in range(10):
            threads.submit(thread)
        asyncio.run(tasks())
    assert len(entered) == 1
    assert sorted(map(str, ended)) == sorted([str(o.CircuitOpenError)] * 19 + ["None"])


def test_the_fast_path_is_for_a_circuit_of_its_own_that_looks_at_no_result():
    assert CircuitBreaker().fragment() is not None
    assert CircuitBreaker(key="host").fragment() is None
    assert CircuitBreaker(on_result=bool).fragment() is None
    assert CircuitBreaker(store="redis://localhost", name="shared").fragment() is None
    assert (CircuitBreaker(key="host").reads_arguments, CircuitBreaker().reads_arguments) == (True, False)


def test_what_is_observed_is_the_worst_state_and_the_highest_ratios():
    policy = CircuitBreaker(min_calls=2, slow_call=1, slow_ratio=1.0, key="host")
    for circuit, outcomes in ((policy.of("a", 0.0), [FAILURE, FAILURE]), (policy.of("b", 0.0), [SUCCESS])):
        for outcome in outcomes:
            permit, _, _ = circuit.admit(0.0)
            circuit.settle(permit, outcome, 0.5, 0.0)
    seen = {(metric.name, *which): value for metric, which, value in policy.observe(0.0)}
    states = {"closed": 0, "open": 1, "half_open": 0, "forced_open": 0}
    ratios = {("opero.circuit.failure.ratio",): 1, ("opero.circuit.slow.ratio",): 0}
    assert seen == {("opero.circuit.state", state): value for state, value in states.items()} | ratios


def test_it_pickles_with_its_settings_and_without_its_state():
    import pickle

    policy = CircuitBreaker(min_calls=1, ignore=KeyError)
    broken(policy, 0.0)
    copy = pickle.loads(pickle.dumps(policy))
    assert (copy.settings, copy.circuit.state) == (policy.settings, CLOSED)


@pytest.mark.parametrize("driver", ["tasks", "threads"])
def test_a_probe_that_is_slower_than_a_pause_keeps_its_place(driver):
    breaker, bad, running, most = o.CircuitBreaker(consecutive=1, reset_after=0.05, half_open_probes=1), [1], [], []

    @o.opero(breaker, retries=0)
    def f():
        if bad:
            raise ConnectionError
        running.append(1)
        most.append(len(running))
        time.sleep(0.4)
        running.pop()

    @o.opero(breaker, retries=0)
    async def g():
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0.4)
        running.pop()

    async def ask():
        for _ in range(8):
            with suppress(o.CircuitOpenError):
                await g()
                return
            await asyncio.sleep(0.04)

    async def main():
        await asyncio.gather(*(ask() for _ in range(10)))

    def insist():
        for _ in range(8):
            with suppress(o.CircuitOpenError):
                f()
                return
            time.sleep(0.04)

    with pytest.raises(ConnectionError):
        f()
    bad.clear()
    time.sleep(0.06)
    if driver == "tasks":
        asyncio.run(main())
    else:
        together(*[insist] * 10)
    assert max(most) == 1
