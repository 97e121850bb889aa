"""Figures that are exact wherever they are taken: what a call leaves behind, and what runs before anything needs it."""

import json
import subprocess
import sys

import pytest

from benchmarks import costs, idle

CALLS = [name for name in costs.calls() if name.startswith("@opero")]


LEFT = """
import json
from benchmarks import costs
for measure in (costs.littering, costs.growing):
    print(json.dumps({name: measure(f)() for name, f in costs.calls().items() if name.startswith("@opero")}))
"""


@pytest.fixture(scope="module")
def left():
    """Return what calls leave: objects, bytes. In a process where no thread of another test leaves some meanwhile."""
    return [*map(json.loads, subprocess.check_output([sys.executable, "-c", LEFT], text=True).splitlines())]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_nothing_for_the_cycle_collector(name, left):
    assert left[0][name] == 0


def test_what_a_call_leaves_would_be_noticed():
    def littering(x):
        circle = []
        circle.append(circle)

    assert costs.littering(littering)() >= 1


@pytest.mark.parametrize("name", CALLS)
def test_ten_thousand_calls_keep_no_memory(name, left):
    assert left[1][name] < 10_000  # a byte a call: buckets become larger numbers


@pytest.mark.parametrize("name", [name for name in idle.SITUATIONS if "timeout" not in name])
def test_nothing_runs_before_something_needs_it(name):
    assert idle.counted(idle.SITUATIONS[name])() == 0


def test_a_thread_would_be_noticed():
    waiting = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    assert idle.counted(waiting)() == 1
