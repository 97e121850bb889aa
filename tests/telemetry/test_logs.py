"""Lines: which, how often, in whose format."""

import io
import json
import logging
import subprocess
import sys
import threading

import pytest
import structlog

import opero as o
from opero_telemetry.journal import Journal
from opero_telemetry.logs import Logs
from opero_telemetry.repeats import Repeats


def failing(retries=1, name="shop.pay"):
    @o.opero(retries=retries, min_delay=0, fallback=0, name=name)
    def f():
        raise OSError

    return f


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_storm_is_told_a_few_times_and_then_counted():
    repeats = Repeats(limit=3, per=10)
    line = {"event": "e", "level": "info", "timestamp": 1.0, "operation": "f"}
    told = [found for n in range(1000) for found in repeats.admit({**line, "n": n}, now=n / 1000)]
    assert [found["n"] for found in told] == [0, 1, 2]
    (count,) = repeats.due(10.5)
    assert (count["more"], count["event"], count["operation"], count["note"]) == (997, "e", "f", "and 997 more in 10 s")
    assert [*repeats.due(10.5)] == []
    assert [*repeats.admit(line, now=11)] == [line]


def test_a_count_comes_before_the_next_line_of_its_kind():
    repeats = Repeats(limit=1, per=10)
    line = {"event": "e", "level": "info", "timestamp": 1.0, "operation": "f"}
    for now in (0, 1, 2):
        list(repeats.admit(line, now))
    assert [found.get("more") for found in repeats.admit(line, 12)] == [2, None]


def test_operations_do_not_silence_each_other():
    repeats = Repeats(limit=1)
    told = [f for n in range(5) for f in repeats.admit({"event": "e", "operation": str(n)}, now=0)]
    assert len(told) == 5


def test_what_was_held_back_is_told_at_the_end():
    stream = io.StringIO()
    with Logs(stream=stream):
        f = failing()
        for _ in range(100):
            f()
    counts = {line["event"]: line["more"] for line in lines(stream.getvalue()) if "more" in line}
    assert counts == dict.fromkeys(["opero.retry.scheduled", "opero.retry.exhausted", "opero.fallback.used"], 80)


def test_severities_are_overridden_by_name_and_debug_silences():
    stream = io.StringIO()
    severities = {"opero.retry.scheduled": "error", "opero.fallback.used": "debug"}
    with Logs(stream=stream, severities=severities):
        failing()()
    assert [(line["event"], line["level"]) for line in lines(stream.getvalue())] == [
        ("opero.retry.scheduled", "error"),
        ("opero.retry.exhausted", "error"),
    ]


def test_logs_leave_calls_on_the_fast_path_unless_each_is_to_be_told():
    with Logs(stream=io.StringIO()):
        assert not o.events.asked(o.events.watch("opero.call.started"))
    stream = io.StringIO()
    with Logs(stream=stream, severities={"opero.call.finished": "info"}):
        assert o.events.asked(o.events.watch("opero.call.started"))
        o.opero(name="told")(lambda: 1)()
    assert [line["event"] for line in lines(stream.getvalue())] == ["opero.call.finished"]


def test_standard_logging_gets_a_record_with_its_fields(caplog):
    with caplog.at_level(logging.INFO, "opero"), Logs("logging"):
        failing()()
    record = next(r for r in caplog.records if r.message == "opero.retry.scheduled")
    assert (record.levelname, record.operation, record.error, record.attempt) == ("INFO", "shop.pay", "OSError", 2)


def test_your_structlog_gets_the_event_by_its_level():
    with structlog.testing.capture_logs() as captured, Logs("structlog"):
        failing()()
    assert {"event": "opero.retry.scheduled", "log_level": "info"}.items() <= captured[0].items()


@pytest.mark.parametrize("wrong", [{"kind": "xml"}, {"severities": {"opero.retry.scheduled": "loud"}}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(o.ConfigurationError):
        Logs(**wrong)


APPLICATION = """
import logging, structlog, opero as o, opero_telemetry
opero_telemetry.configure_logging()
with o.correlation_id("req-42"):
    logging.getLogger("mine").warning("plain %s", "text", extra={"order": 7})
    structlog.get_logger("mine").info("structured", order=8)
"""


def test_an_application_gets_one_format_for_both_with_the_ids():
    done = subprocess.run([sys.executable, "-c", APPLICATION], capture_output=True, text=True, timeout=60, check=True)
    plain, structured = lines(done.stderr)
    assert (plain["event"], plain["level"], plain["order"], plain["logger"]) == ("plain text", "warning", 7, "mine")
    assert (structured["event"], structured["level"], structured["order"]) == ("structured", "info", 8)
    assert plain["correlation_id"] == structured["correlation_id"] == "req-42"


def test_nothing_is_configured_by_itself():
    code = "import structlog, logging, opero_telemetry.logs; print(structlog.is_configured(), logging.root.handlers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False []\n"


def test_a_slow_terminal_slows_no_call():
    class Stuck(io.StringIO):
        def write(self, text):
            gate.wait(60)
            return super().write(text)

    gate, stream = threading.Event(), Stuck()
    logs = Logs(stream=stream)
    f = failing()
    for _ in range(50):
        f()  # none of these waits for the gate
    gate.set()
    logs.close()
    assert stream.getvalue().count("opero.fallback.used") >= 20


def test_the_journal_holds_the_end_of_every_call_and_what_was_unusual(tmp_path):
    journal = Journal(tmp_path / "events.jsonl")
    f = failing()
    ok = o.opero(name="ok")(lambda: 1)
    for _ in range(30):
        f()
        ok()
    journal.close()
    told = lines((tmp_path / "events.jsonl").read_text())
    ends = [line for line in told if line["event"] == "opero.call.finished"]
    assert [(line["operation"], line["outcome"]) for line in ends] == [("shop.pay", "fallback"), ("ok", "ok")] * 30
    assert all(line["duration"] >= 0 for line in ends)
    assert sum(line["event"] == "opero.retry.scheduled" for line in told) == 30
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o077 == 0


def test_a_journal_that_is_full_begins_anew_and_keeps_one(tmp_path):
    journal = Journal(tmp_path / "events.jsonl", max_bytes=2000)
    ok = o.opero(name="ok")(lambda: 1)
    for _ in range(20):
        ok()
        journal.flush()
    journal.close()
    kept = [*tmp_path.iterdir()]
    assert sorted(path.name for path in kept) == ["events.jsonl", "events.jsonl.1"]
    assert all(path.stat().st_size < 3000 for path in kept)
