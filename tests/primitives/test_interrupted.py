"""A Ctrl-C, or an alarm, that lands in the middle of what we do: nothing is held for ever."""

import gc
import signal
import sys
import threading
import time
from _thread import RLock
from contextlib import nullcontext

import pytest

import opero as o
from opero import events
from opero.drivers import blocking
from opero.exclusive import hand_back
from together import wait_for


def interrupt(_):
    raise KeyboardInterrupt


def test_who_joined_the_queue_of_a_bulkhead_leaves_it(where):
    policy, go_on = o.Bulkhead(1, max_queue=1, **where), threading.Event()
    f = o.opero(policy)(lambda: go_on.wait(30))
    holder = threading.Thread(target=f)
    holder.start()
    wait_for(lambda: policy.slots.used == 1)
    with events.subscribe(interrupt, "opero.bulkhead.queued"), pytest.raises(KeyboardInterrupt):
        f()
    wait_for(lambda: (policy.slots.used, len(policy.slots.queue)) == (1, 0))
    wait_for(lambda: policy.shared is None or policy.shared.read() == (1, 0))
    go_on.set()
    holder.join(30)
    assert f()


def test_who_was_given_a_time_by_a_quota_gives_it_back(where):
    limit = o.RateLimit(1, per=10, burst=1, **where)
    f = o.opero(limit)(o.clock.now)
    began = f()
    with events.subscribe(interrupt, "opero.rate_limiter.delayed"), pytest.raises(KeyboardInterrupt):
        f()
    assert f() - began == pytest.approx(10, abs=0.1)
    assert not limit.local.quota._waiting


def test_a_probe_is_given_back(where):
    breaker = o.CircuitBreaker(consecutive=1, reset_after=1, jitter=0, half_open_probes=1, **where)
    broken = [True]

    @o.opero(breaker)
    def f():
        if broken:
            raise ConnectionError
        return "answer"

    with pytest.raises(ConnectionError):
        f()
    broken.clear()
    o.clock.sleep(1)
    with events.subscribe(interrupt, "opero.circuit.half_opened"), pytest.raises(KeyboardInterrupt):
        f()
    assert f() == "answer"


def test_a_stale_entry_is_refreshed_after_a_refresh_that_nobody_could_be_told_of():
    told, heard = [], threading.Event()

    def interrupted(event):
        heard.set()
        interrupt(event)

    @o.opero(o.Cache(ttl=100, soft_ttl=0.001))
    def f():
        told.append(None)
        if len(told) == 2:
            raise ConnectionError
        return len(told)

    assert f() == 1
    time.sleep(0.01)
    with events.subscribe(interrupted, "opero.cache.refresh_failed"):
        assert f() == 1
        assert heard.wait(30)
    wait_for(lambda: f() == 3)


class Interrupting:
    """A lock during whose acquisition Ctrl-C is pressed: it raises as soon as that returns."""

    def __init__(self):
        self.lock = RLock()
        self.release, self._is_owned = self.lock.release, self.lock._is_owned

    def acquire(self, **given):
        self.lock.acquire(**given)
        raise KeyboardInterrupt


def test_a_lock_is_released_though_it_was_interrupted_as_it_was_acquired():
    lock = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        hand_back(lock, list)
    assert not lock._is_owned()


@pytest.fixture
def uncollected():
    """Collect no garbage meanwhile: an alarm in a callback of the collector, or of a tracer, is lost."""
    if sys.gettrace() is not None:
        pytest.skip("somebody traces")
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("around", [nullcontext, lambda: events.subscribe(list, "*")], ids=["fast", "heard"])
def test_an_alarm_interrupts_the_function_and_not_what_is_done_for_it(around):
    bulkhead, ended = o.Bulkhead(1000), 0
    f = o.opero(bulkhead, o.CircuitBreaker(key=lambda: 1))(lambda: sum(range(500)))

    @o.opero(o.Timeout(0.001, how="signal"))
    def calls_ours():
        while True:
            f()

    with around():
        for _ in range(200):
            with pytest.raises(o.CallTimeout):
                calls_ours()
            ended += 1
    assert (ended, bulkhead.slots.used, f.opero.stats()["active"]) == (200, 0, 0)
    assert not bulkhead.slots._lock._is_owned()


def test_an_alarm_does_not_wait_for_ever_for_what_rests_in_our_code():
    @o.opero(o.Timeout(0.05, how="signal"))
    def f():
        blocking.pause(30)

    began = time.monotonic()
    with pytest.raises(o.CallTimeout):
        f()
    assert time.monotonic() - began < 5


def test_an_answer_that_comes_though_the_alarm_was_swallowed_is_too_late():
    @o.opero(o.Timeout(0.01, how="signal"))
    def f():
        try:
            time.sleep(30)
        except BaseException:
            return "late"

    with pytest.raises(o.CallTimeout):
        f()


def test_a_handler_of_a_signal_may_make_a_hedged_call_in_the_middle_of_one():
    f, answers = o.opero(o.Hedge(1.0))(lambda: 1), []
    f()
    busy = []

    def handler(*_):
        if not busy:
            busy.append(1)
            answers.append(f())
            busy.clear()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        until = time.monotonic() + 20
        while len(answers) < 500 and time.monotonic() < until:
            assert f() == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert answers[:500] == [1] * 500
