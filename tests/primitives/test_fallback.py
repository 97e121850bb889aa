"""What a fallback says of its answer, and what it makes good."""

import pytest

import opero as o
from opero import events


class Down(Exception):
    pass


def fails():
    raise Down


@pytest.mark.parametrize(
    ("function", "answers", "told"),
    [
        (fails, ["spare"], {"error": "Down", "answer": 1}),
        (fails, [fails, "spare"], {"error": "Down", "answer": 2}),
        (lambda: None, ["spare"], {"error": "", "answer": 1}),
    ],
    ids=["an error", "an error, by the second", "a result"],
)
def test_what_was_answered_is_told(function, answers, told):
    f, heard = o.opero(o.Fallback(*answers, on_result=lambda result: result is None))(function), []
    with events.subscribe(lambda event: heard.append(event.fields), "opero.fallback.used"):
        assert f() == "spare"
    assert heard == [told]


def test_what_was_given_up_inside_and_made_good_is_retried_outside():
    """The retry inside gives up on a result; its fallback answers, so the failure that follows is one of its own."""
    asked, made = [], []

    @o.opero(
        o.Retry(1, wait=0.0001, on_result=lambda result: result == "busy"), o.Fallback("spare", on_result="busy".__eq__)
    )
    def inner():
        asked.append(1)
        return "busy"

    @o.opero(o.Retry(2, wait=0.0001))
    def outer():
        made.append(inner())
        raise Down

    with pytest.raises(Down):
        outer()
    assert (made, len(asked)) == (["spare"] * 3, 6)
