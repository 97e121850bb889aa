"""The telemetry reference names what the tests emit, and nothing else: looked at when the last test has ended."""

import re
from pathlib import Path

import pytest

from opero import catalogue, events

PAGE = Path(__file__).parents[1] / "docs/reference/telemetry.md"
OURS = re.compile(r"opero\.(?!test\.)")  # tests make up names of their own


class Vocabulary:
    """What this process and its workers say and measure. A part of the tests may leave out a part of the names."""

    def __init__(self, config):
        option = config.option
        self.whole = not (
            option.keyword or option.file_or_dir or getattr(option, "lf", False) or option.markexpr != "not soak"
        )
        self.emitted = {"event": set(), "metric": set()}
        self.listen()

    def listen(self):
        said, measured = self.emitted["event"], self.emitted["metric"]
        say, publish, snapshot = events.say, events.publish, catalogue.snapshot

        def hear(signal, *more):
            said.add(signal.name)
            say(signal, *more)

        def pass_on(event, handlers):
            said.add(event.name)
            publish(event, handlers)

        def look():
            families = snapshot()
            for family in families:
                if any(any(value) if isinstance(value, list) else value for value in family.samples.values()):
                    measured.add(family.metric.name)
            return families

        events.say, events.publish, catalogue.snapshot = hear, pass_on, look

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["emitted"] = {kind: sorted(names) for kind, names in self.emitted.items()}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        for kind, names in getattr(node, "workeroutput", {}).get("emitted", {}).items():
            self.emitted[kind].update(names)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session):
        ended = yield
        if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
            for kind, names in self.emitted.items():
                self.hold(session, f"emitted_but_not_documented[{kind}]", set(filter(OURS.match, names)) - known(kind))
                if self.whole:
                    self.hold(session, f"documented_but_not_emitted[{kind}]", known(kind) - names)
        return ended

    @staticmethod
    def hold(session, title, names):
        """Let a test fail that names them, if there are any."""
        if names:
            place, why = ("tests/vocabulary.py", 0, title), f"{title}: {', '.join(sorted(names))}"
            report = pytest.TestReport(f"{place[0]}::{title}", place, {}, "failed", why, "call")
            session.config.hook.pytest_runtest_logreport(report=report)


def known(kind):
    """The names in the first column of the tables with this heading."""
    tables = re.findall(rf"^\| {kind} \|.*\n(?:\|.*\n)+", PAGE.read_text(), re.MULTILINE)
    return {name for table in tables for name in re.findall(r"^\| `([\w.]+)`", table, re.MULTILINE)}
