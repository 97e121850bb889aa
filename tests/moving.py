"""What the tests of moving from another library call."""

from itertools import pairwise

import pytest

import opero as o
from opero import clock, testing


def outcomes(f, given):
    """Return what a function answers, or the name of its error, for each of these arguments."""
    said = []
    for argument in given:
        try:
            said.append(f(argument))
        except Exception as error:
            said.append(type(error).__name__)
    return said


def raising(error):
    if isinstance(error, type):
        raise error
    return error


def calls(policy, *errors):
    """Return how often a function is called that raises these, the last one again and again."""
    left, made = list(errors), []

    @policy
    def f():
        made.append(1)
        raise left.pop(0) if len(left) > 1 else left[0]

    with testing.no_waits(), pytest.raises(type(errors[-1])):
        f()
    return len(made)


def waited(**settings):
    """Return the waits between the attempts of a call that fails."""
    at = []

    @o.Retry(**settings)
    def f():
        at.append(clock.now())
        raise OSError

    with testing.clock(start=0), pytest.raises(OSError):
        f()
    return [later - earlier for earlier, later in pairwise(at)]
