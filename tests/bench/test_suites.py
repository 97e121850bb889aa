"""Every suite runs to its end and measures what the budget is about."""

import json
import subprocess
import sys

import pytest

from benchmarks import budget, results


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.service("valgrind")
@pytest.mark.service("redis")
def test_a_short_run_of_all_suites_measures_every_subject_of_the_budget(tmp_path):
    path = tmp_path / "run.json"
    command = [sys.executable, "-m", "benchmarks", "--share", "0.1", "--json", path]
    subprocess.run(command, cwd=results.ROOT, check=True, stdout=subprocess.DEVNULL)
    tables = json.loads(path.read_text())["tables"]
    for gate in budget.gates():
        if gate.table in tables:
            assert gate.subject in {row[0] for row in tables[gate.table]["rows"]}, gate
    missing = {gate.table for gate in budget.gates()} - tables.keys()
    assert missing <= {"latency of a web service under load"}  # without locust
