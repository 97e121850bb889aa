"""What benchmarks found is kept, held to goals and to what was reached, and shown as it is."""

import re
import sys
from html.parser import HTMLParser

import pytest

from benchmarks import budget, page, results, tables
from benchmarks.__main__ import SUITES, main
from benchmarks.harness import Table, once

KEPT = results.kept()
NAMES = {"ours": 2.0, "bare": 1.0, "slow": 4.0}
FOUND = {"work": {"suite": "calls", "unit": "ns", "rows": [[name, value, value] for name, value in NAMES.items()]}}


@pytest.fixture
def gates(monkeypatch):
    def hold(**settings):
        gate = budget.Gate(table="work", subject="ours", **settings)
        monkeypatch.setattr(budget, "gates", lambda: [gate])
        return gate

    return hold


@pytest.mark.parametrize(
    ("settings", "word", "good"),
    [
        ({"at_most": 2.5}, "met", True),
        ({"at_most": 1.5}, "LOST", False),
        ({"at_most": 1.5, "today": 2.1}, "missed", True),
        ({"at_most": 1.5, "today": 1.9}, "LOST", False),
        ({"at_most": 2.5, "today": 1.9}, "LOST", False),
    ],
)
def test_a_missed_goal_is_said_and_only_a_lost_one_fails(gates, settings, word, good):
    gates(against=("bare",), **settings)
    lines, held = budget.lines(FOUND)
    assert (lines[0].split()[0], held) == (word, good)


def test_a_goal_that_is_reached_asks_to_be_held(gates):
    gates(against=("bare",), at_most=2.5, today=9.0)
    assert budget.lines(FOUND)[0][0].endswith("take `today` out")


def test_a_gate_compares_with_the_fastest_that_was_measured(gates):
    assert gates(against=("slow", "bare", "absent"), at_most=1).value(FOUND) == 2.0
    assert gates(against=("absent",), at_most=1).value(FOUND) is None
    assert gates(at_most=1).value(FOUND) == 2.0
    assert gates(at_most=1).value({}) is None


def test_a_goal_missed_in_the_kept_run_says_why():
    found = [(gate, gate.value(KEPT[-1]["tables"])) for gate in budget.gates()]
    assert [gate for gate, value in found if value is not None and value > gate.at_most and not gate.why] == []


def test_why_a_goal_is_missed_is_said_as_long_as_it_is(gates):
    run = {**KEPT[-1], "tables": FOUND}
    gates(against=("bare",), at_most=1.5, today=3.0, why="It waits.")
    assert tables.goals(run).endswith("- work, ours: It waits.")
    assert "It waits." in page.page([run])
    gates(against=("bare",), at_most=2.5, why="It waits.")
    assert "It waits." not in tables.goals(run) + page.page([run])


def test_every_gate_names_a_table_and_subjects_of_the_newest_run_or_a_later_one():
    known = KEPT[-1]["tables"]
    for gate in budget.gates():
        if gate.table in known:
            assert gate.subject in {row[0] for row in known[gate.table]["rows"]}, gate


def test_a_run_is_kept_as_it_was(tmp_path):
    table = Table("work", {"a": lambda: 123.456, "b, c": lambda: 0.0}, once, rounds=1, unit="ns").run()
    kept = {"work": {"suite": "calls", **table.kept()}}
    path = results.save({"at": "2026-01-01T00:00:00"}, kept, tmp_path / "run.json")
    assert '["b, c", 0.0, 0.0]' in path.read_text()
    assert results.json.loads(path.read_text())["tables"] == kept


def test_a_run_tells_what_its_figures_depend_on():
    about = results.environment()
    assert all(about[name] for name in ("at", "commit", "python", "machine"))
    assert about["load"][0] >= 0
    for run in KEPT:
        assert {"tenacity", "pyresilience", "redis"} <= run["environment"]["peers"].keys()


def test_no_run_is_kept_that_others_disturbed(monkeypatch, capsys):
    monkeypatch.setattr(results, "load", lambda: results.CORES + 0.1)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--save"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "others keep the machine busy" in capsys.readouterr().err


class Page(HTMLParser):
    """Every tag that must be closed is."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "br", "th"}:
            self.open.append(tag)
        self.seen += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_drawing_needs_nothing_else_and_shows_every_table_and_gate():
    text = page.page(KEPT)
    parsed = Page()
    parsed.feed(text)
    assert parsed.open == []
    assert all(target.startswith("#") for target in parsed.seen)
    assert not re.search(r"https?://|@import|url\(", text)
    assert all(f"<h3>{page.escape(name)}</h3>" in text for name in KEPT[-1]["tables"])
    assert text.count('class="state"') == sum(gate.value(KEPT[-1]["tables"]) is not None for gate in budget.gates())


def test_the_drawing_shows_how_a_figure_went_over_the_runs():
    assert page.page([KEPT[-1]]).count("<polyline") == 0
    assert page.page([KEPT[-1], KEPT[-1]]).count("<polyline") == page.page([KEPT[-1]]).count('class="state"')


def test_a_suite_that_is_drawn_exists():
    assert set(page.SUITES) == set(SUITES)
    assert {table["suite"] for table in KEPT[-1]["tables"].values()} <= set(SUITES)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (25_300, "ns", "25.3 µs"),
        (0.0, "objects", "0 objects"),
        (9.41, "KiB", "9.41 KiB"),
        (2.99, "µs/item", "2.99 µs/item"),
    ],
)
def test_a_quantity_has_the_unit_that_suits_it(value, unit, said):
    assert tables.quantity(value, unit) == said
