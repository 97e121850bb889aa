"""What a fallback says of its answer, and what it makes good."""

import inspect

import pytest

import opero as o
from opero import events, kinds


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


def one(a):
    return a


def several(a, b=1, *, c, d=2):
    return a, b, c, d


def anything(*args, **kwargs):
    return args, kwargs


def by_name(*, a):
    return a


class Proxy:
    """Stands for a function that it calls with more, and looks like it, as wrapt's do."""

    def __init__(self, wrapped):
        self._wrapped = wrapped

    __signature__ = property(lambda self: inspect.signature(self._wrapped))
    __wrapped__ = property(lambda self: self._wrapped)

    def __call__(self, *args):
        return self._wrapped("more", *args)


TAKEN = [
    (one, lambda b: b), (one, lambda a, b=1: a), (one, lambda *args: args), (one, anything), (one, lambda **kwargs: 1),
    (one, by_name), (one, dict), (one, print), (several, lambda a, *, c: 1), (several, lambda a, b, *, c: 1),
    (several, lambda a, c: 1), (several, lambda a, **kwargs: 1), (several, lambda a, *, b, c, d: 1),
    (anything, lambda: 1), (anything, lambda a, b: 1), (by_name, one), (by_name, lambda **kwargs: 1),
    (one, Proxy(lambda more, a: a)), (Proxy(lambda more, a: a), one),
    (one, o.opero(retries=0)(lambda: 1)),  # what shows another's signature as its own may take anything
]  # fmt: skip
REFUSED = [
    (one, lambda: 1), (one, lambda a, b: 1), (one, lambda *, b: 1), (one, lambda b, /, c: 1), (several, one),
    (several, lambda a, *, c, e: 1), (several, lambda: 1), (by_name, lambda: 1), (by_name, lambda b: 1),
    (by_name, lambda *args: 1), (list.append, lambda self: 1),
]  # fmt: skip


@pytest.mark.parametrize(("function", "answer"), TAKEN, ids=map(str, range(len(TAKEN))))
def test_a_fallback_that_some_call_fits_is_taken(function, answer):
    assert kinds.fits(answer, function)


@pytest.mark.parametrize(("function", "answer"), REFUSED, ids=map(str, range(len(REFUSED))))
@pytest.mark.parametrize("among", ["answers", "by"])
def test_one_that_no_call_fits_is_refused_with_the_signature(function, answer, among):
    policy = o.Fallback(answer) if among == "answers" else o.Fallback(by={OSError: answer})
    with pytest.raises(o.ConfigurationError, match=r"a function of the arguments, \(.*; sys.exception\(\) in it is"):
        o.opero(policy)(function)
