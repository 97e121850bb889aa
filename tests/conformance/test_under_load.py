"""The conformance suite on a machine that is busy with other things: virtual time has to be as exact there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = 4
BUSY = "while True: pass"


@pytest.fixture
def busy():
    cores = 2 * (os.cpu_count() or 1)
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(cores)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("busy")
def test_every_scenario_holds_beside_two_busy_loops_a_core():
    for _ in range(ROUNDS):
        line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_conformance.py"]
        done = subprocess.run(line, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
