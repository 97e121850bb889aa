"""What stands at the right of the tables of docs/coming-from.md does what stood at the left."""

import re
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import opero as o
from moving import calls, outcomes, waited
from opero import conditions, events, testing, waits

PAGE = (Path(__file__).parents[2] / "docs/coming-from.md").read_text()
HOOKS = PAGE[PAGE.index("### Hooks") : PAGE.index("## Circuit breakers")]
CELLS = [row[1] for row in re.findall(r"^\| (.*?) (?<!\\)\| (.*) \|$", PAGE, re.MULTILINE)]
CODE = re.compile(r"[A-Z]\w+\(.*\)|@?(opero|waits|stops|conditions|events)[.(].*\)|[a-z_]+=\S.*")
SPANS = {span.replace("\\|", "|") for cell in CELLS for span in re.findall(r"`([^`]+)`", cell)}
TYPED = sorted(span for span in SPANS if CODE.fullmatch(span) and not re.search(r"\.\.\.[,)]|…", span))


def seconds(n, outcome):
    return 1


def anything(*args, **kwargs):
    return args


GIVEN = {
    "A": OSError,
    "B": KeyError,
    "E": KeyError,
    "Error": OSError,
    "c": bool,
    "classify": type,
    "error": OSError(),
    "f": anything,
    "flag": threading.Event(),
    "g": seconds,
    "h": repr,
    "handler": print,
    "host": "a",
    "p": bool,
    "re": re,
    "s": 1,
    "sys": sys,
    "tenant": "a",
    "x": 1,
}


def test_there_are_rows():
    assert len(CELLS) > 100
    assert len(TYPED) > 60


@pytest.mark.parametrize("typed", TYPED)
def test_what_stands_at_the_right_can_be_typed(typed):
    names = {name: getattr(o, name) for name in o.__all__} | GIVEN
    if typed.startswith("opero."):
        names["opero"] = o
    keywords = re.match(r"[a-z_]+=", typed)
    found = eval(f"dict({typed})" if keywords else typed.removeprefix("@"), names)
    if isinstance(found, events.Subscription):
        found.close()


def test_attempts_are_retries_and_one_more():
    assert calls(o.Retry(2), OSError()) == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"wait": 60, "jitter": "none"}, [60] * 5),
        ({"wait": waits.constant(60), "jitter": "none"}, [60] * 5),
        ({"wait": waits.sequence(4, 4, 4, 8, 10), "jitter": "none"}, [4, 4, 4, 8, 10]),
        ({"wait": waits.sequence(1, 2, 3), "jitter": "none"}, [1, 2, 3, 3, 3]),
        ({"wait": waits.linear(0, 900, 100), "jitter": "none"}, [0, 100, 200, 300, 400]),
        ({"wait": waits.fibonacci(1, 60), "jitter": "none"}, [1, 1, 2, 3, 5]),
        ({"wait": lambda n, outcome: n}, [1, 2, 3, 4, 5]),
    ],
)
def test_waits_without_jitter_are_what_was_asked_for(settings, expected):
    assert waited(retries=5, **settings) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wait", "low", "high"),
    [
        (waits.between(50, 60), [50] * 4, [60] * 4),
        (waits.summed(waits.exponential(1, 60, 2), waits.between(0, 1)), [1, 2, 4, 8], [2, 3, 5, 9]),
        (waits.exponential(1, 60, 2), [0] * 4, [1, 2, 4, 8]),
        (waits.constant(60), [0] * 4, [60] * 4),
        (waits.sequence(60), [0] * 4, [60] * 4),
    ],
)
def test_what_is_drawn_is_not_drawn_again_and_the_rest_is(wait, low, high):
    many = [waited(retries=4, wait=wait) for _ in range(50)]
    for n in range(4):
        drawn = [each[n] for each in many]
        assert low[n] <= min(drawn) <= low[n] + (high[n] - low[n]) / 3
        assert low[n] + (high[n] - low[n]) * 2 / 3 <= max(drawn) <= high[n]


def test_giveup_stands_beside_types():
    policy = o.Retry(3, on=conditions.types(OSError) & (lambda error: error.errno != 2))
    assert [calls(policy, error) for error in (OSError(), OSError(2, "no"), KeyError())] == [4, 1, 1]
    assert calls(o.Retry(3, on=lambda error: True), KeyError()) == 4


def test_a_condition_on_results_lets_errors_pass_at_once():
    unwanted = conditions.result(lambda result: result is None)
    assert calls(o.Retry(3, on=unwanted), PermissionError()) == 1
    assert calls(o.Retry(3, on_result=lambda result: result is None), PermissionError()) == 4
    made = []
    with testing.no_waits():
        assert o.Retry(3, on=unwanted)(lambda: made.append(1))() is None
    assert len(made) == 4


def test_who_answers_for_a_retry_answers_for_its_errors_only():
    @o.opero(o.Retry(1, wait=0, on=OSError), o.Fallback(lambda error: "given up", on=OSError))
    def f(error):
        raise error

    assert outcomes(f, [OSError(), KeyError()]) == ["given up", "KeyError"]


@pytest.mark.parametrize(("nested", "answers"), [(False, "failed"), (True, 4)])
def test_an_outer_retry_goes_on_after_an_inner_one_where_it_is_told(nested, answers):
    made = []

    @o.Retry(1)
    def inner():
        made.append(1)
        if len(made) < 4:
            raise ConnectionError
        return len(made)

    @o.Retry(5, nested=nested)
    def outer():
        return inner()

    with testing.no_waits():
        try:
            assert outer() == answers
        except ConnectionError:
            assert answers == "failed"


def test_each_hook_has_its_event():
    said = []
    patterns = re.findall(r"^\| `.*` \| `(opero\.[a-z.]+)`", HOOKS, re.MULTILINE)
    assert len(patterns) == 4

    @o.Retry(1, wait=0)
    def f(works):
        if not works:
            raise OSError

    with events.subscribe(lambda event: said.append((event.name, event.fields.get("outcome"))), *patterns):
        f(True)
        outcomes(f, [False])
    assert Counter(name for name, _ in said) == {
        "opero.attempt.started": 3,
        "opero.attempt.finished": 3,
        "opero.retry.scheduled": 1,
        "opero.call.finished": 2,
    }
    assert [outcome for name, outcome in said if name == "opero.call.finished"] == ["ok", "error"]


def test_a_loop_has_what_a_hook_got_as_arguments():
    connection, made = [], []
    for attempt in o.Retry(2, wait=0, on=ConnectionError):
        with attempt:
            if attempt.number > 1:
                connection.append("again")
            made.append(attempt.number)
            if not connection:
                raise ConnectionError
    assert (connection, made) == (["again"], [1, 2])


def test_where_a_loop_waits_is_said_as_it_begins_to():
    said = []
    with testing.no_waits(), events.subscribe(lambda e: said.append(e.fields["delay"]), "opero.retry.scheduled"):
        for attempt in o.Retry(1, wait=3, jitter="none"):
            with attempt:
                if attempt.number == 1:
                    raise OSError
    assert said == [3]
