"""Every item ends once while a killer sends SIGKILL to a random worker, again and again."""

import collections
import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time

import pytest
import work

import opero as o
from opero import opmap


class Killer(threading.Thread):
    """Kills a random worker of the named map, of those that noted an item, again and again."""

    def __init__(self, name, folder, seconds):
        super().__init__(daemon=True)
        self.map, self.folder, self.seconds = name, folder, seconds
        self.ended = threading.Event()
        self.killed = 0

    def run(self):
        while not self.ended.wait(self.seconds):
            workers = [child.pid for child in multiprocessing.active_children() if child.name == self.map]
            workers = [pid for pid in workers if (self.folder / str(pid)).exists()]
            if workers:
                with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
                    os.kill(random.choice(workers), signal.SIGKILL)
                    self.killed += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def quick_soak(tmp_path, items, seconds):
    (tmp_path / "ticks").write_bytes(bytes(items))
    name = "soak.quick"
    function = opmap(mode="process", workers=2, errors="return", constants={"folder": tmp_path}, name=name)(
        work.counted
    )
    with Killer(name, tmp_path, seconds) as killer:
        found = function(range(items))
    function.pool.close()
    ran = (tmp_path / "ticks").read_bytes()
    lost = {n for n, outcome in enumerate(found) if isinstance(outcome, o.WorkerLost)}
    assert len(found) == items
    assert all(outcome == 3 * n for n, outcome in enumerate(found) if n not in lost)
    assert max(ran) == 1
    assert {n for n, times in enumerate(ran) if not times} <= lost
    assert len(lost) <= killer.killed
    stats = function.opero.stats()
    assert (stats["calls"], stats["ok"], stats["errors"], stats["active"]) == (items, items - len(lost), len(lost), 0)
    return killer.killed


def soak(tmp_path, items, on_death, seconds):
    name = f"soak.{on_death}"
    function = opmap(
        mode="process", workers=2, errors="return", on_death=on_death, constants={"folder": tmp_path}, name=name
    )(work.noted)
    began = time.monotonic()
    with Killer(name, tmp_path, seconds) as killer:
        found = function(range(items))
    took = time.monotonic() - began
    function.pool.close()
    ran = collections.Counter(int(n) for file in tmp_path.iterdir() for n in file.read_text().split())
    lost = {n for n, outcome in enumerate(found) if isinstance(outcome, o.WorkerLost)}
    assert len(found) == items
    assert all(outcome == n for n, outcome in enumerate(found) if n not in lost)
    assert set(range(items)) - ran.keys() <= lost, "an item never ran"
    assert [child for child in multiprocessing.active_children() if child.name == name] == []
    stats = function.opero.stats()
    assert (stats["calls"], stats["ok"], stats["errors"], stats["active"]) == (items, items - len(lost), len(lost), 0)
    return killer.killed, lost, ran, took


def test_killed_workers_cost_one_item_each_at_most(tmp_path):
    killed, lost, ran, _ = soak(tmp_path, 150, "error", 0.2)
    assert len(lost) <= killed > 0
    assert max(ran.values()) == 1


def test_killed_workers_cost_one_quick_number_each_at_most(tmp_path):
    assert quick_soak(tmp_path, 400_000, 0.1) > 0


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_ten_million_quick_numbers_while_a_worker_is_killed_again_and_again(tmp_path):
    assert quick_soak(tmp_path, 10_000_000, 0.1) > 20


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("on_death", ["error", "retry"])
def test_ten_thousand_items_while_a_worker_is_killed_twice_a_second(tmp_path, on_death):
    killed, lost, ran, took = soak(tmp_path, 10_000, on_death, 0.5)
    assert killed >= 10
    assert took < 240
    if on_death == "error":
        assert 0 < len(lost) <= killed
        assert max(ran.values()) == 1
    else:
        assert not lost
        assert sum(ran.values()) <= 10_000 + killed
