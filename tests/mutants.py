"""Mutation testing of what decides: change one operator at a time, and see whether a test notices.

    nice -n 15 .venv/bin/python tests/mutants.py retry_budget quota:40,41  # all modules unless named, or some lines

1. The tests of a module run once under coverage: a mutant meets only those that execute its function, quickest first.
2. Each mutant runs in a forked process, where the changed module is imported in place of the true one.
3. A mutant is killed by a test that fails. One with a test that takes five times as long as the slowest is no kill.
"""

from __future__ import annotations

import ast
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from mutations import Mutants

ROOT = Path(__file__).parent.parent
TESTS = {
    "windows": ["core/test_windows.py", "core/test_catalogue.py", "core/test_circuit.py"],
    "quota": ["core/test_quota.py", "primitives/test_rate_limit.py"],
    "circuit": [
        "core/test_circuit.py",
        "primitives/test_circuit_breaker.py",
        "primitives/test_collected.py",
        "conformance/test_conformance.py",
        "core/test_fused.py",
    ],
    "slots": [
        "primitives/test_bulkhead.py",
        "primitives/test_adaptive_bulkhead.py",
        "primitives/test_shared_bulkhead.py",
    ],
    "limiters": [
        "primitives/test_rate_limit.py",
        "primitives/test_foreign_limiters.py",
        "doors/test_without_effect.py",
        "kit/test_kit.py",
    ],
    "tokens": ["core/test_tokens.py", "primitives/test_retry_budget.py"],
    "keyed": [
        "core/test_keyed.py",
        "primitives/test_circuit_breaker.py",
        "primitives/test_rate_limit.py",
        "primitives/test_misuse.py",
        "doors/test_async_hooks.py",
    ],
    "nested": [
        "core/test_nested.py",
        "primitives/test_nested_retry.py",
        "primitives/test_nested_results.py",
        "primitives/test_nested_fallback.py",
        "core/test_again.py",
        "conformance/test_conformance.py",
    ],
    "ring": [
        "primitives/test_ring_ends.py",
        "primitives/test_arg_fallback.py",
        "primitives/test_refresh.py",
        "conformance/test_conformance.py",
    ],
}
BESIDE = [
    "primitives/test_defaults.py", "conformance/test_conformance.py", "core/test_drivers.py", "doors/test_blocks.py",
    "doors/test_generators.py", "doors/test_generator_arguments.py", "doors/test_loops.py",
    "primitives/test_absurd.py", "doors/test_bad_input.py",
    "doors/test_async_hooks.py", "doors/test_without_effect.py", "primitives/test_hooks.py",
    "doors/test_policies_decorate.py", "doors/test_setting_values.py",
]  # fmt: skip
MORE = {
    "circuit_breaker": [
        "primitives/test_interrupted.py",
        "primitives/test_late_calls.py",
        "primitives/test_shared_circuit.py",
        "parallel/test_shared_limits.py",
        "core/test_circuit.py",
        "core/test_fused.py",
        "primitives/test_breaker_by_hand.py",
        "stores/test_redis.py::test_breakers_of_two_processes_are_one",
    ],
    "retry": [
        "primitives/test_late_calls.py",
        "doors/test_awaiting_loops.py",
        "doors/test_order.py",
        "primitives/test_hedge.py",
        "primitives/test_nested_retry.py",
        "primitives/test_nested_results.py",
        "core/test_nested.py",
        "primitives/test_responses.py",
        "primitives/test_retry_budget.py",
        "core/test_again.py",
    ],
    "retry_budget": [
        "primitives/test_budget_in_a_store.py",
        "primitives/test_hedge.py",
        "stores/test_shared_budget.py",
    ],
    "arg_fallback": [
        "primitives/test_ring_ends.py",
        "primitives/test_refresh.py",
        "primitives/test_replaced_keys.py",
    ],
    "hedge": ["primitives/test_hedge_ends.py", "primitives/test_context.py"],
    "fallback": ["core/test_causes.py", "primitives/test_nested_fallback.py"],
    "bulkhead": [
        "primitives/test_interrupted.py",
        "primitives/test_late_calls.py",
        "primitives/test_shared_bulkhead.py",
        "primitives/test_adaptive_bulkhead.py",
        "parallel/test_shared_limits.py",
        "primitives/test_bulkhead_ends.py",
        "primitives/test_unheard_ends.py",
        "stores/test_cancelled.py",
        "stores/test_slots.py",
    ],
    "rate_limit": [
        "primitives/test_interrupted.py",
        "primitives/test_late_calls.py",
        "primitives/test_rate_limit_ends.py",
        "doors/test_wrong_arguments.py",
        "primitives/test_shared_limit.py",
        "primitives/test_foreign_limiters.py",
        "core/test_quota.py",
        "stores/test_peek.py",
        "stores/test_redis.py::test_leased_calls_need_no_trip_and_expire",
        "kit/test_kit.py",
    ],
    "cache": [
        "primitives/test_cache_settings.py",
        "cache/test_cached_values.py",
        "cache/test_single_flight.py",
        "cache/test_cache_outages.py",
        "cache/test_memory_store.py",
        "cache/test_quick.py",
        "core/test_fused.py",
    ],
}
FIRST = (
    "tests/primitives/test_ring_ends.py",
    "tests/primitives/test_hedge_ends.py",
    "tests/primitives/test_bulkhead_ends.py",
    "tests/primitives/test_rate_limit_ends.py",
    "tests/primitives/test_defaults.py",
    "tests/conformance/",
)  # what seldom hangs, whatever a mutant does


class Imposter:
    """Imports one module from a changed tree."""

    def __init__(self, name, path, tree):
        self.name, self.path, self.code = name, path, compile(tree, str(path), "exec")

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        from importlib.util import spec_from_loader

        return spec_from_loader(name, self, origin=str(self.path))

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__file__ = str(self.path)
        exec(self.code, module.__dict__)  # our own module, one operator changed


class Quick:
    """A pytest plugin: Hypothesis finds, and does not shrink; tells which line each test executes, or that it began."""

    def __init__(self, coverage=None, pulse=None):
        self.coverage, self.pulse, self.durations, self.failed = coverage, pulse, {}, ""

    def pytest_collection(self, session):
        from hypothesis import Phase, settings

        settings.register_profile("mutants", deadline=None, database=None, phases=[Phase.explicit, Phase.generate])
        settings.load_profile("mutants")

    def pytest_runtest_logstart(self, nodeid, location):
        if self.coverage:
            self.coverage.switch_context(nodeid)
        if self.pulse is not None:
            os.write(self.pulse, b".")

    def pytest_runtest_logreport(self, report):
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed = report.nodeid


def run_tests(tests, plugin):
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=0", "--hypothesis-seed=0"]
    plain = ["--assert=plain"]  # else pytest imports the package of its plugin, ours, past the imposter
    return pytest.main([*options, *plain, *tests], [plugin])


def in_child(work, seconds):
    """Do it in a forked process group; return its answer, or None when nothing happened for so long."""
    heart, pulse = os.pipe()
    os.set_blocking(heart, False)
    child = os.fork()
    if child == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        answer = 99
        try:
            answer = int(work(pulse))
        finally:
            os._exit(answer)
    os.close(pulse)
    until, pause = time.monotonic() + seconds, 0.005
    try:
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            with suppress(BlockingIOError):
                if os.read(heart, 4096):
                    until = time.monotonic() + seconds
            time.sleep(pause := min(pause * 1.5, 0.1))
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None
    finally:
        os.close(heart)


def covered(module, path, tests, folder):
    """Run the tests once; return which of them execute each line, quickest first, and how long the slowest took."""
    import json

    told = Path(folder, f"{module}.json")

    def work(pulse):
        import coverage

        data = coverage.Coverage(data_file=None, include=[str(path)], config_file=False)
        plugin = Quick(data)
        data.start()
        code = run_tests(tests, plugin)
        data.stop()
        contexts = data.get_data().contexts_by_lineno(str(path))
        order = sorted(plugin.durations, key=lambda test: (rank(test), plugin.durations[test]))
        lines = {line: [t for t in order if t in found or "" in found] for line, found in contexts.items()}
        told.write_text(json.dumps([lines, order, max(plugin.durations.values()), plugin.failed]))
        return code

    if in_child(work, 600) is None:
        raise SystemExit(f"{module}: its tests take more than ten minutes")
    lines, order, slowest, failed = json.loads(told.read_text())
    if failed:
        raise SystemExit(f"{module}: fails without a mutant: {failed}")
    return {int(line): tests for line, tests in lines.items()}, order, slowest


def rank(test):
    """Return a test's place among those that come first."""
    return next((place for place, start in enumerate(FIRST) if test.startswith(start)), len(FIRST))


def reach(line, tree, by_line, order):
    """Return the tests that execute the function of a line: coverage loses lines of a coroutine that was suspended."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    around = [n for n in ast.walk(tree) if isinstance(n, kinds) and n.lineno < line <= n.end_lineno]
    if around:
        inner = max(around, key=lambda function: function.lineno)
        lines = range(inner.lineno + 1, inner.end_lineno + 1)
    else:
        lines = [max((known for known in by_line if known <= line), default=0)]
    found = {test for each in lines for test in by_line.get(each, [])}
    return [test for test in order if test in found]


def examine(named):
    """Try all mutants of a module, or of the lines named after it; print those that no test noticed, and the score."""
    name, _, lines = named.partition(":")
    wanted = {int(line) for line in lines.split(",") if line}
    path = ROOT / "opero" / f"{name}.py"
    if not path.exists():
        path = ROOT / "opero" / "primitives" / f"{name}.py"
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tests = [f"tests/{test}" for test in TESTS.get(name, [f"primitives/test_{name}.py", *MORE.get(name, []), *BESIDE])]
    tests = [test for test in tests if Path(test.partition("::")[0]).exists()]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    mutants = Mutants(tree)
    with tempfile.TemporaryDirectory() as folder:
        by_line, order, slowest = covered(name, path, tests, folder)
    counts = {"killed": 0, "survived": 0, "timeout": 0, "untested": 0}
    for index, (line, what, *_) in enumerate(mutants.found):
        if wanted and line not in wanted:
            continue
        chosen = reach(line, tree, by_line, order)

        def work(pulse, index=index, chosen=chosen):
            sys.meta_path.insert(0, Imposter(module, path, mutants.applied(index)))
            return run_tests(chosen, Quick(pulse=pulse))

        code = in_child(work, 10 + 5 * slowest) if chosen else -1
        verdict = {None: "timeout", -1: "untested", 0: "survived"}.get(code, "killed")
        counts[verdict] += 1
        if verdict != "killed":
            print(f"{name}:{line}: {verdict}: {what}", flush=True)
    every = sum(counts.values())
    print(f"{name}: {counts['killed']} of {every} killed ({share(counts['killed'], every)}); {counts}", flush=True)
    return counts["killed"], every


def share(killed, every):
    return f"{killed / every:.1%}" if every else "no mutants"


def main(names):
    import hypothesis.stateful  # noqa: F401 - imported once, before the forks
    import pytest  # noqa: F401

    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    primitives = sorted(p.stem for p in (ROOT / "opero" / "primitives").glob("*.py") if p.stem != "__init__")
    results = [
        examine(name)
        for name in names
        or ["windows", "quota", "limiters", "slots", "tokens", "circuit", "nested", "keyed", *primitives]
    ]
    killed, every = map(sum, zip(*results, strict=True))
    print(f"{killed} of {every} killed ({share(killed, every)})")


if __name__ == "__main__":
    main(sys.argv[1:])
