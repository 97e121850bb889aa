"""What a parent counts, tells and keeps of a worker that died."""

import asyncio

import pytest
import work

import opero as o
from opero import opmap
from opero.call import ATTEMPT_FINISHED, ATTEMPT_STARTED, FINISHED, REJECTED, STARTED
from opero.workers.journal import CODES, SIZE, SLOT, Journal, share

SETTINGS = [{}, {"retries": 1, "min_delay": 0.0}, {"rate_limit": 1e9}, {"rate_limit": 1e9, "item_timeout": 60.0}]


def begun_and_ended(function):
    sums = function.opero.operation.book.read()[0]
    return [sums[event.key] for event in (STARTED, FINISHED, ATTEMPT_STARTED, ATTEMPT_FINISHED)]


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_a_dead_worker_did_not_tell_is_counted_as_begun_and_as_ended(settings):
    function = opmap(mode="process", workers=1, errors="return", name="deaths.counted", **settings)(work.deadly)
    with function.pool:
        found = function([*range(300), "fail", *range(300), "kill", *range(300)])
    assert [type(x) for x in found if not isinstance(x, int)] == [OSError, o.WorkerLost]
    again = "retries" in settings
    assert begun_and_ended(function) == [902, 902, 902 + again, 902 + again]
    stats = function.opero.stats()
    assert [stats[key] for key in ("calls", "ok", "errors", "attempts", "retries", "active")] == [
        902, 900, 2, 902 + again, again, 0,
    ]  # fmt: skip


def test_refused_calls_of_a_dead_worker_are_no_attempts():
    limit = o.RateLimit(5, per=3600.0, burst=5, wait=False, key=lambda x: str(type(x)))
    function = opmap(
        mode="process", workers=1, chunk_size=20, errors="return", rate_limit=limit, name="deaths.refused"
    )(work.deadly)
    with function.pool:
        function([*range(19), "kill"])
    assert begun_and_ended(function) == [20, 20, 6, 6]
    stats = function.opero.stats()
    assert [stats[key] for key in ("calls", "ok", "errors", "rejected", "attempts")] == [20, 5, 15, 14, 6]
    assert function.opero.operation.book.read()[0][REJECTED.key] == 14


def test_items_for_which_no_worker_could_start_are_no_attempts():
    function = opmap(mode="process", workers=1, errors="return", worker_init=work.fail, name="deaths.init")(work.deadly)
    function(range(3))
    assert begun_and_ended(function) == [3, 3, 0, 0]


@pytest.mark.parametrize(("init", "reason"), [(work.fail, "OSError: no licence"), (work.give_up, "exit code 3")])
def test_why_no_worker_could_start_is_said_and_nothing_else(init, reason):
    function = opmap(mode="process", workers=1, worker_init=init, name=f"deaths.{init.__name__}")(work.deadly)
    with pytest.raises(o.MapError, match=rf"a worker could not start: {reason}") as caught:
        function(range(3))
    assert "__main__" not in str(caught.value)


def test_coroutines_of_a_dead_worker_are_counted_once_each():
    function = opmap(mode="async_process", workers=1, errors="return", name="deaths.later")(work.deadly_later)

    async def main():
        return await function([*range(30), *[0.2] * 10, "kill", *range(300)])

    found = asyncio.run(main())
    function.pool.close()
    lost = sum(isinstance(x, o.WorkerLost) for x in found)
    assert lost > 1
    assert begun_and_ended(function) == [341, 341, 341, 341]
    stats = function.opero.stats()
    assert (stats["calls"], stats["ok"], stats["errors"], stats["active"]) == (341, 341 - lost, lost, 0)


def test_an_item_tried_again_after_a_death_is_one_call_of_two_attempts(tmp_path):
    function = opmap(mode="process", workers=1, errors="return", on_death="retry", name="deaths.again")(
        work.unlucky.opero.operation.function
    )
    with function.pool:
        assert function([(tmp_path, n) for n in range(10)]) == [*range(10)]
    assert begun_and_ended(function) == [10, 10, 11, 11]


def test_the_last_run_is_whole_after_a_death():
    function = opmap(mode="process", workers=2, errors="return", name="deaths.insight")(work.deadly)
    with function.pool:
        function([*range(500), "kill", *range(500)])
    assert function.last_run.items == 1001
    assert function.last_run.busy > 0


@pytest.mark.parametrize("kind", [int, float])
def test_a_result_that_looks_like_an_empty_slot_makes_no_item_run_twice(tmp_path, kind):
    (tmp_path / "ticks").write_bytes(bytes(20_000))
    mark = memoryview(b"opero!\xf8\x7f").cast(CODES[kind])[0]  # what an empty slot once held
    constants = {"folder": tmp_path, "mark": mark}
    function = opmap(mode="process", workers=1, errors="return", constants=constants, name="deaths.mark")(work.marked)
    with function.pool:
        found = function(range(20_000))
    ran = (tmp_path / "ticks").read_bytes()
    assert max(ran) == 1
    assert [n for n, x in enumerate(found) if isinstance(x, o.WorkerLost)] == [10_000]


def test_each_worker_has_a_mark_of_its_own_for_an_empty_slot():
    descriptor = share(SIZE)
    parents = Journal(descriptor, b"drawn by")
    assert Journal(descriptor).empty == parents.empty == b"drawn by"
    with work.square.pool:
        work.square(range(100))
        marks = [worker.journal.empty for worker in work.square.pool._plan._pool._idle]
    assert len(marks) == len(set(marks)) > 0
    assert all(len(mark) == SLOT for mark in marks)
