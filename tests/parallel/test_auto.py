"""`mode="auto"` finds out where to run."""

import threading
import time

import pytest
import work

from opero import opmap
from opero.workers.inline import RUN, TINY_SECONDS


def test_auto_runs_trivial_items_where_it_is_called(monkeypatch):
    monkeypatch.setattr("opero.workers.auto.WAITED", 60.0)  # a busy machine makes everybody wait
    threads = set()
    function = opmap(mode="auto")(lambda x: threads.add(threading.get_ident()))
    function(range(1000))
    assert threads == {threading.get_ident()}
    assert [w.name for w in function.last_run.workers] == ["inline"]


def test_auto_gives_items_that_wait_to_threads():
    function = opmap(mode="auto", workers=8)(time.sleep)
    began = time.monotonic()
    function([0.05] * 40)
    assert time.monotonic() - began < 1.5
    assert len(function.last_run.workers) == 9


def test_auto_gives_items_that_compute_to_processes(monkeypatch):
    monkeypatch.setattr("opero.workers.auto.cores", lambda: 2)
    monkeypatch.setattr("opero.workers.auto.PATIENCE", 0.01)
    monkeypatch.setattr("opero.workers.auto.WAITED", 60.0)
    function = opmap(mode="auto", workers=2, name="features.spin")(work.spin)
    assert function([0.002] * 100) == [0.002] * 100
    assert any(w.name.startswith("process") for w in function.last_run.workers)
    function.pool.close()


def test_tiny_items_that_fail_keep_their_places_and_are_called_once():
    called = []

    def f(x):
        called.append(x)
        if x % 1000 == 777:
            raise KeyError(x)
        return -x

    function = opmap(mode="auto", errors="return", name="auto.tiny")(f)
    results = function(range(20_000))
    assert called == [*range(20_000)]
    assert [n for n, result in enumerate(results) if isinstance(result, KeyError)] == [*range(777, 20_000, 1000)]
    assert all(result == -n for n, result in enumerate(results) if n % 1000 != 777)
    stats = function.opero.stats()
    assert (stats["calls"], stats["ok"], stats["errors"], stats["attempts"]) == (20_000, 19_980, 20, 20_000)


def test_a_tiny_item_that_fails_is_tried_again_in_its_place():
    tried = []

    def f(x):
        if x == 5_000:
            tried.append(x)
            if len(tried) < 3:
                raise OSError
        return x

    function = opmap(mode="auto", retries=2, backoff="constant", min_delay=0.0, name="auto.again")(f)
    assert function(range(10_000)) == [*range(10_000)]
    stats = function.opero.stats()
    assert (stats["calls"], stats["attempts"], stats["retries"]) == (10_000, 10_002, 2)


def test_a_slow_item_among_tiny_ones_is_seen():
    function = opmap(mode="auto", name="auto.slow")(lambda x: time.sleep(0.05) if x == 9_000 else x)
    function(range(20_000))
    some = [found for found in function.last_run.slowest if isinstance(found[1], range)]  # others are the machine's
    ((seconds, indices),) = [found for found in some if 9_000 in found[1]]
    assert seconds >= 0.05 - RUN * TINY_SECONDS
    assert len(indices) <= RUN
    assert f"one of {len(indices)} items from {indices[0]} on took 0.0" in str(function.last_run)
    book = function.opero.operation.book
    *counts, total = book.distributions["opero.map.item.duration", ()]
    assert sum(counts) == 20_000
    assert total >= 0.05


def test_an_interrupt_among_tiny_items_ends_the_map():
    def f(x):
        if x == 5_000:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        opmap(mode="auto", name="auto.interrupt")(f)(range(10_000))


def test_a_list_that_is_changed_meanwhile_gives_what_is_there():
    items = [*range(3000)]
    assert opmap(mode="auto")(lambda x: x)(items) == [*range(3000)]
    stream = opmap(mode="thread", workers=1, max_pending=2)(lambda x: x).stream(items)
    assert stream.request(1) == [0]
    del items[100:]
    assert list(stream) == [*range(1, 100)]
