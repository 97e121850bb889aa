"""A Ctrl-C that lands where a handler hears of a wait or a probe, before the call goes on: nothing is held for ever."""

import threading
import time

import pytest

import opero as o
from opero import events
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
