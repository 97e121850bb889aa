"""What a map shows of itself: its last run, progress, its error."""

import time

import pytest
import work

import opero as o
from opero import opmap
from opero.parallel.insight import LastRun


def test_the_last_run_is_told():
    function = opmap(mode="thread", workers=2, chunk_size=1)(time.sleep)
    assert function.last_run is None
    function([0, 0.3, 0, 0.15])
    run = function.last_run
    assert (run.items, [index for _, index in run.slowest][:2]) == (4, [1, 3])
    assert run.duration >= 0.3
    assert 0 < run.busy <= 1
    assert all(w.starting + w.busy + w.waiting <= run.duration + 0.001 for w in run.workers)
    assert any(w.waiting > 0 for w in run.workers)
    assert "4 items in" in str(run)
    assert "item 1 took" in str(run)


def test_a_run_is_told_while_it_goes_on():
    function = opmap(mode="thread", workers=2, chunk_size=1)(time.sleep)
    stream = function.stream([0.002] * 50)
    stream.request(3)
    run = function.last_run
    assert run.running
    assert 3 <= run.items < 50
    assert " so far" in str(run)
    before = run.duration
    list(stream)
    assert not run.running
    assert (run.items, len(run.slowest)) == (50, 5)
    assert run.duration > before
    assert run.duration == run.duration


def test_start_up_is_told_of_the_run_in_which_it_was():
    function = opmap(mode="process", workers=2, chunk_size=1, name="features.started")(work.hang)
    with function.pool:
        function([0.0])  # one worker starts
        assert [worker.starting > 0 for worker in function.last_run.workers] == [True]
        function([0.0] * 50)
        assert function.last_run.workers[0].starting == 0
        assert all(w.starting + w.busy <= function.last_run.duration + 0.001 for w in function.last_run.workers)


def test_only_the_slowest_are_kept():
    run = LastRun("thread", 0.0)
    for n in range(100):
        run.note([n], float(n))
    assert [index for _, index in run.slowest] == [99, 98, 97, 96, 95]


def test_progress_calls_back_and_a_callback_that_fails_is_no_failure_of_the_map():
    told = []
    opmap(mode="thread", chunk_size=1, progress=lambda done, total: told.append((done, total)))(work.letter)(range(5))
    assert told[-1] == (5, 5)
    assert told == sorted(set(told))

    def broken(done, total):
        raise ValueError

    with pytest.warns(UserWarning, match="progress callback failed"):
        assert opmap(mode="thread", progress=broken)(work.letter)(range(5)) == list("abcde")


@pytest.mark.parametrize("rich", [True, False])
def test_progress_is_shown_where_it_is_wanted(capsys, monkeypatch, rich):
    if not rich:
        monkeypatch.setitem(__import__("sys").modules, "rich", None)
    opmap(mode="thread", progress=True, errors="skip", name="features.shown")(work.letter)([0, 1, 99])
    shown = capsys.readouterr().err
    assert "features.shown" in shown
    assert "3" in shown
    assert "1 failed" in shown


def test_progress_is_quiet_in_a_pipe(capsys):
    opmap(mode="thread")(work.letter)(range(5))
    assert capsys.readouterr() == ("", "")


def test_a_map_error_tells_causes_and_where():
    with pytest.raises(o.MapError) as caught:
        opmap(mode="thread", name="shop.parse")(lambda x: {}[x] if x % 2 else 1 / (x - 4))(range(6))
    text = str(caught.value)
    assert "4 of 6 items of shop.parse failed" in text
    assert "3 × KeyError, first at item 1: 1" in text
    assert "1 × ZeroDivisionError, first at item 4: division by zero" in text
