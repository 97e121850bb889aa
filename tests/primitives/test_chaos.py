"""Disturbance on purpose: off unless switched on, repeatable, and within the deadline."""

import asyncio
import copyreg
import gc
import traceback
import tracemalloc

import pytest
from tblib import pickling_support

import opero as o
from opero import events, testing


def struck(function, times):
    def one():
        try:
            return function() == 1
        except OSError:
            return False

    return [not one() for _ in range(times)]


def test_it_is_off_unless_switched_on(monkeypatch):
    assert not any(struck(o.opero(o.Chaos(error=OSError))(lambda: 1), 5))
    assert all(struck(o.opero(o.Chaos(error=OSError, enabled=True))(lambda: 1), 5))
    monkeypatch.setenv("OPERO_CHAOS", "1")
    policy = o.Chaos(error=OSError)
    f = o.opero(policy)(lambda: 1)
    assert all(struck(f, 5))
    policy.disable()
    assert not any(struck(f, 5))


def test_a_function_that_ran_untouched_is_struck_once_it_is_on():
    policy = o.Chaos(error=OSError)
    f = o.opero(policy, bulkhead=1)(lambda: 1)
    for strikes in (0, 5, 0, 5):
        assert sum(struck(f, 5)) == strikes
        policy.disable() if strikes else policy.enable()
    assert "chaos.active" in f.opero.source()
    assert {k: f.opero.stats()[k] for k in ("calls", "errors", "active")} == {"calls": 20, "errors": 10, "active": 0}


def test_a_seed_strikes_the_same_calls_each_time():
    def run(seed):
        return struck(o.opero(o.Chaos(error=OSError, rate=0.3, seed=seed, enabled=True))(lambda: 1), 400)

    first = run(7)
    assert first == run(7) != run(8)
    assert 80 < sum(first) < 160


def test_a_window_is_counted_from_when_it_was_switched_on():
    policy = o.Chaos(error=OSError, window=(10, 20))
    f = o.opero(policy)(lambda: 1)
    with testing.clock() as time:
        time.advance(100)
        policy.enable()
        seen = []
        for _ in range(4):
            seen += struck(f, 1)
            time.advance(8)
    assert seen == [False, False, True, False]


def test_latency_error_and_result_and_the_event_that_tells():
    heard = []
    with testing.clock() as time, events.subscribe(heard.append, "opero.chaos.*"):
        assert o.opero(o.Chaos(latency=(1, 3), result=None, enabled=True))(lambda: 1)() is None
        assert 1 <= time.elapsed() <= 3
        mine = KeyError("mine")
        with pytest.raises(KeyError) as caught:
            o.opero(o.Chaos(error=lambda: mine, enabled=True))(lambda: 1)()
        assert caught.value is mine
    assert [(e.fields["error"], e.fields["result"]) for e in heard] == [("", True), ("KeyError", False)]


def test_it_holds_for_coroutines_and_counts_as_an_attempt():
    @o.opero(o.Chaos(error=OSError, enabled=True), retries=2, min_delay=0)
    async def f():
        return 1

    with pytest.raises(OSError):
        asyncio.run(f())
    assert f.opero.stats()["attempts"] == 3


def test_its_latency_ends_at_the_deadline():
    @o.opero(o.Chaos(latency=60, enabled=True), attempt_timeout=2, retries=0)
    def f():
        return 1

    with testing.clock() as time, pytest.raises(o.CallTimeout):
        f()
    assert time.elapsed() == 2


@pytest.mark.parametrize("settings", [{"error": OSError}, {"result": 7}], ids=str)
def test_what_else_it_would_do_comes_too_late_after_the_deadline(settings):
    @o.opero(o.Chaos(latency=60, enabled=True, **settings), attempt_timeout=2, retries=0)
    def f():
        return 1

    with testing.clock(), pytest.raises(o.CallTimeout):
        f()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "Chaos"),
        ({"latency": -1}, "latency"),
        ({"latency": (3, 1)}, "latency"),
        ({"latency": (1,)}, "latency"),
        ({"error": 5}, "error"),
        ({"result": 1, "rate": 1.5}, "rate"),
        ({"result": 1, "window": 5}, "window"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(settings, field):
    with pytest.raises(o.ConfigurationError) as caught:
        o.Chaos(**settings)
    assert caught.value.field == field


def test_switching_it_is_told_once_by_name():
    heard = []
    with events.subscribe(heard.append, "opero.admin.acted"):
        policy = o.Chaos(error=OSError, rate=0.5, name="shop")
        policy.disable()
        policy.enable()
        policy.disable()
        policy.disable()
        o.Chaos(error=OSError).enable()
    said = [(e.operation, e.fields["act"], e.fields["target"], e.fields["value"]) for e in heard]
    assert said == [
        ("shop", "chaos_on", "chaos", 0.5),
        ("shop", "chaos_off", "chaos", 0.5),
        ("", "chaos_on", "chaos", 1),
    ]


def test_a_span_may_begin_at_zero_and_be_a_moment():
    policy = o.Chaos(latency=(0, 0.5), window=(2, 2))
    assert (policy.latency, policy.window) == ((0, 0.5), (2, 2))


class Teapot(Exception):
    """One whose copy cannot be made of its arguments, as those of httpx."""

    def __init__(self, message, *, status):
        super().__init__(message)
        self.status = status


@pytest.fixture(params=["plain", "tblib"])
def copying(request):
    """Let errors be copied in ways of others': dask registers tblib's."""
    before = dict(copyreg.dispatch_table)
    if request.param == "tblib":
        pickling_support.install()
    yield
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)


@pytest.mark.usefixtures("copying")
def test_an_error_given_as_an_object_is_raised_as_it_was_given_each_time():
    cause, decoded = KeyError("cause"), UnicodeDecodeError("utf-8", b"x", 0, 1, "mine")
    for given in (
        OSError(5, "mine"),
        Teapot("mine", status=418),
        ExceptionGroup("mine", [OSError()]),
        decoded,
        o.RetryNow("mine", after=0),
    ):
        given.__cause__ = cause
        given.add_note("given")
        f = o.opero(o.Chaos(error=given, enabled=True), retries=1, min_delay=0)(lambda: 1)
        with pytest.raises(type(given)):
            f()
        seen = []
        for _ in range(5):
            try:
                f()
            except type(given) as error:
                error.add_note("caught")
                depth = len(traceback.extract_tb(error.__traceback__))
                notes = [note for note in error.__notes__ if not note.startswith("opero: ")]
                seen.append((depth, notes, str(error), error.__cause__, vars(error).get("status"), error.args))
        assert len({repr(each) for each in seen}) == 1
        assert seen[0][1:] == (["given", "caught"], str(given), cause, vars(given).get("status"), given.args)
        assert given.__traceback__ is None
        assert given.__context__ is None
        assert given.__notes__ == ["given"]


class Single(Exception):
    """There is one of it, and no copy."""

    def __new__(cls, *_):
        raise TypeError

    def __reduce__(self):
        raise TypeError


def test_an_error_that_cannot_be_copied_keeps_nothing_of_the_last_time():
    single = Exception.__new__(Single)
    f, depths = o.opero(o.Chaos(error=single, enabled=True))(lambda: 1), []
    with pytest.raises(Single):
        f()
    for _ in range(5):
        with pytest.raises(Single) as caught:
            f()
        assert caught.value is single
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(set(depths)) == 1


def test_the_memory_of_chaos_does_not_grow():
    f = o.opero(o.Chaos(error=ConnectionError("x"), enabled=True), retries=1, min_delay=0)(lambda: 1)

    def rounds(many):
        for _ in range(many):
            try:
                f()
            except ConnectionError as error:
                error.add_note("seen")

    rounds(50)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        rounds(500)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
