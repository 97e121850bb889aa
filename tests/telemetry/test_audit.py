"""Administrative acts: each written, and no line changed without notice."""

import json
import subprocess
import sys
import threading

import pytest

import opero as o
import opero.testing
from opero_slo.actions import Actions, Alert, Rule, TurnKnob
from opero_telemetry.audit import KEY, Audit, command, verify


@pytest.fixture
def breaker():
    return o.opero(circuit_breaker=True, name="shop.pay")(lambda: 1).opero.breaker


@pytest.fixture
def log(tmp_path, breaker):
    path = tmp_path / "audit.log"
    audit = Audit(path)
    breaker.force_open()
    breaker.force_close()
    breaker.reset()
    audit.close()
    return path


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_acts_are_written_with_who_what_and_when(log):
    told = entries(log)
    assert [entry["act"] for entry in told] == ["force_open", "force_close", "reset"]
    assert [entry["number"] for entry in told] == [1, 2, 3]
    assert {entry["operation"] for entry in told} == {"shop.pay"}
    assert all(entry["by"] and entry["at"] and entry["process"] for entry in told)
    assert log.stat().st_mode & 0o077 == 0
    assert command(["verify", str(log)]) == 0


def test_caches_chaos_and_knobs_are_written_and_no_key_with_them(tmp_path):
    chaos = o.Chaos(error=ConnectionError, name="shop.chaos")
    price = o.opero(o.Cache(60, tags=lambda sku: [f"tag-{sku}"]), bulkhead=4, name="shop.price")(lambda sku: sku)
    audit = Audit(tmp_path / "audit.log")
    price("canary")
    price.opero.cache.invalidate("canary")
    price.opero.cache.invalidate_tag("tag-canary")
    price.opero.cache.clear()
    chaos.enable()
    chaos.disable()
    chaos.disable()
    with o.testing.chaos(price, error=ConnectionError):
        pass
    actions = Actions([Rule(TurnKnob("bulkhead.limit", to=2))])
    actions.hear(Alert("opero.slo.alert_fired", "pay", "page-fast", "page", 0.0, operation="shop.price"))
    actions.stop()
    audit.close()
    told = [(e["operation"], e["act"], e["target"], e.get("value")) for e in entries(tmp_path / "audit.log")]
    assert told == [
        ("shop.price", "invalidate", "cache", None),
        ("shop.price", "invalidate_tag", "cache", None),
        ("shop.price", "clear_cache", "cache", None),
        ("shop.chaos", "chaos_on", "chaos", 1.0),
        ("shop.chaos", "chaos_off", "chaos", 1.0),
        ("shop.price", "chaos_on", "chaos", 1.0),
        ("shop.price", "chaos_off", "chaos", 1.0),
        ("shop.price", "turn_knob", "bulkhead.limit", 2),
    ]
    assert "canary" not in (tmp_path / "audit.log").read_text()
    assert verify(tmp_path / "audit.log")[0] == len(told)


HARMS = {
    "changed": lambda lines: [lines[0].replace("force_open", "force_shut"), *lines[1:]],
    "removed": lambda lines: [lines[0], lines[2]],
    "beheaded": lambda lines: lines[1:],
    "repeated": lambda lines: [lines[0], lines[0], *lines[1:]],
    "swapped": lambda lines: [lines[1], lines[0], lines[2]],
    "empty": lambda lines: [*lines, "{}"],
    "no json": lambda lines: [*lines, "no json"],
}


@pytest.mark.parametrize("harm", HARMS)
def test_any_change_is_found(log, harm, capsys):
    log.write_text("\n".join(HARMS[harm](log.read_text().splitlines())) + "\n")
    assert command(["verify", str(log)]) == 1
    assert "line " in capsys.readouterr().err


def test_lines_cut_off_at_the_end_are_found_by_the_hash_kept_elsewhere(log):
    _, last = verify(log)
    assert command(["verify", str(log), "--last", last]) == 0
    log.write_text("\n".join(log.read_text().splitlines()[:2]) + "\n")
    assert command(["verify", str(log)]) == 0
    assert command(["verify", str(log), "--last", last]) == 1


def test_with_a_key_nobody_forges_a_line_who_does_not_have_it(tmp_path, breaker, monkeypatch):
    monkeypatch.setenv(KEY, "secret")
    audit = Audit(tmp_path / "audit.log")
    breaker.force_open()
    audit.close()
    assert command(["verify", str(tmp_path / "audit.log")]) == 0
    monkeypatch.setenv(KEY, "guess")
    assert command(["verify", str(tmp_path / "audit.log")]) == 1
    assert "secret" not in (tmp_path / "audit.log").read_text()


def test_a_file_that_is_not_there_is_exit_2(tmp_path):
    assert command(["verify", str(tmp_path / "nothing")]) == 2


def test_threads_and_processes_append_to_one_chain(tmp_path, breaker):
    path = tmp_path / "audit.log"
    script = (
        "import sys, opero as o; from opero_telemetry.audit import Audit; Audit(sys.argv[1])\n"
        "b = o.opero(circuit_breaker=True, name='other')(abs).opero.breaker\n"
        "for _ in range(20): b.force_open()\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", script, path]) for _ in range(2)]
    audit = Audit(path)
    threads = [threading.Thread(target=lambda: [breaker.force_open() for _ in range(10)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(60) for other in others] == [0, 0]
    audit.close()
    assert verify(path)[0] == 70
