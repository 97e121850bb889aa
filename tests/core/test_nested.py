"""Who is found to have given up on an error, by its marks and by what is behind it."""

import pytest

import opero as o
from opero import forks, nested
from opero.nested import GAVE_UP, marked


def given_up(error, *, at=5.0, operation="inner", process=None, where=0):
    error.__dict__[GAVE_UP] = (forks.pid if process is None else process, at, operation, where)
    return error


class Record:
    started = 4.0
    attempts = ()


class Operation:
    name = "outer"


class Call:
    record = Record()
    operation = Operation()


def throw(error, cause=None):
    raise error from cause


def raised(error, cause=None):
    with pytest.raises(type(error)) as caught:
        throw(error, cause)
    return caught.value


def handled(inner, outer):
    """Return the outer one, raised while the inner was handled, without `from`."""

    def translate():
        try:
            throw(inner)
        except type(inner):
            raise outer  # noqa: B904 - that is the case

    with pytest.raises(type(outer)) as caught:
        translate()
    return caught.value


def found_inside(call, error):
    return nested.retried_inside(call, error, call.record.started)


def test_a_mark_is_found_on_an_error_and_behind_it():
    assert not marked(raised(OSError(), KeyError()))
    assert marked(given_up(OSError()))
    assert marked(raised(OSError(), given_up(KeyError())))
    assert marked(raised(given_up(OSError()), KeyError()))
    assert marked(handled(given_up(KeyError()), OSError()))
    assert not marked(OSError())


def test_a_mark_of_this_call_names_who_gave_up():
    call = Call()
    assert found_inside(call, given_up(OSError())) == "inner"
    assert found_inside(call, OSError()) is None
    assert found_inside(call, given_up(OSError(), at=4.0)) is None  # of an earlier call
    assert found_inside(call, given_up(OSError(), process=forks.pid + 1, at=1.0)) == "inner"  # clocks differ
    assert found_inside(call, raised(KeyError(), given_up(OSError()))) == "inner"


def test_of_one_operation_a_mark_is_its_own_only_in_its_own_place():
    call = Call()
    elsewhere = given_up(OSError(), operation="outer", where=-1)
    assert found_inside(call, elsewhere) is None
    here = given_up(OSError(), operation="outer", where=nested.get_ident())
    assert found_inside(call, here) == "outer"


def test_of_a_group_each_error_must_have_been_retried():
    call = Call()
    both = ExceptionGroup("both", [given_up(OSError()), given_up(KeyError(), operation="second")])
    one = ExceptionGroup("one", [given_up(OSError()), KeyError()])
    assert (found_inside(call, both), found_inside(call, one)) == ("inner", None)


def test_an_error_stands_for_what_it_was_raised_in_place_of():
    call = Call()
    assert found_inside(call, handled(given_up(KeyError()), OSError())) == "inner"


def test_one_raised_further_in_while_another_was_handled_is_another_failure():
    def fails():
        raise OSError

    def go_on():
        try:
            throw(given_up(KeyError()))
        except KeyError:
            fails()

    with pytest.raises(OSError) as caught:
        go_on()
    assert found_inside(Call(), caught.value) is None


def test_where_a_traceback_was_taken_away_they_are_taken_for_one():
    for strip in ((True, False), (False, True), (True, True)):
        inner, outer = given_up(KeyError()), OSError()
        error = handled(inner, outer)
        for each, stripped in zip((inner, outer), strip, strict=True):
            if stripped:
                each.__traceback__ = None
        assert found_inside(Call(), error) == "inner", strip


def test_what_gave_up_is_marked_with_the_call():
    error = OSError()

    @o.opero(o.Retry(1, wait=0), name="marks")
    def f():
        raise error

    with pytest.raises(OSError) as caught:
        f()
    process, at, operation, where = caught.value.__dict__[GAVE_UP]
    assert (process, operation, where) == (forks.pid, "marks", nested.get_ident())
    assert at > 0
