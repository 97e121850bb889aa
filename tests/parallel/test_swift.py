"""Numbers that come quickly from process workers: as exact as anything else, whatever comes between them."""

import collections
import marshal
import math
import multiprocessing
import time

import pytest
import work

import opero as o
from opero import opmap, testing
from opero.drivers import blocking
from opero.workers import swift
from opero.workers.arena import send_descriptors
from opero.workers.chunk import Chunk
from opero.workers.journal import AT_REST, MAX_CHUNK, SIZE, USED, Journal, share
from opero.workers.worker import Job, Worker


@pytest.fixture(params=["fork", "spawn"])
def method(request):
    return request.param


def test_what_comes_between_quick_numbers_keeps_its_place(method):
    function = opmap(mode="process", workers=2, errors="return", start_method=method, name="swift.quick")(work.quick)
    with function.pool:
        assert function(range(400)) == [*range(1, 401)]
        found = function(range(10_000))
    odd = {n: found[n] for n in range(10_000) if n in work.QUICK}
    assert [found[n] for n in range(10_000) if n not in work.QUICK] == [n + 1 for n in range(10_000) if n not in odd]
    assert [odd[500], odd[1_500], odd[2_500], odd[5_500], odd[7_500]] == ["a text", True, 1 << 80, [5_500], None]
    assert odd[1_500] is True
    assert type(odd[3_500]) is KeyError
    assert [(type(odd[n]), odd[n].index, odd[n].exitcode) for n in (4_500, 6_500)] == [
        (o.WorkerLost, 4_500, -9),
        (o.WorkerLost, 6_500, 3),
    ]
    assert function.last_run.slowest[0][0] >= 0.01
    stats = function.opero.stats()
    assert (stats["calls"], stats["ok"], stats["errors"], stats["active"]) == (10_400, 10_397, 3, 0)


def test_floats_come_quickly_too():
    function = opmap(mode="process", workers=2, errors="return", name="swift.half")(work.half)
    with function.pool:
        function(range(4_000))
        found = function(range(10_000))
    assert type(found[5_000]) is o.WorkerLost
    assert math.isnan(found[7_000])
    assert [found[n] for n in range(10_000) if n not in {5_000, 7_000}] == [
        n / 2 for n in range(10_000) if n not in {5_000, 7_000}
    ]


def test_a_quick_item_that_fails_is_tried_again():
    function = opmap(mode="process", workers=1, retries=2, backoff="constant", min_delay=0.0, name="swift.again")(
        work.quick
    )
    with function.pool:
        function(range(400))
        with pytest.raises(o.MapError) as caught:
            function(range(1_000, 4_000))
    assert {n: len(o.attempts(e)) for n, e in caught.value.failures.items()} == {2_500: 3}
    stats = function.opero.stats()
    assert (stats["calls"], stats["attempts"], stats["retries"]) == (3_400, 3_402, 2)


def test_slots_tell_what_was_done_and_what_was_in_hand():
    journal = Journal(share(SIZE), b"an empty")
    journal.begin(7, 5)
    slots = journal.take_slots(int, 5)
    assert journal.read(5) == (0, [], [0])
    slots[0], slots[1] = -1, (1 << 63) - 1
    assert journal.read(5) == (0, [-1, (1 << 63) - 1], [2])
    journal.words[USED] |= AT_REST
    assert journal.read(5) == (0, [-1, (1 << 63) - 1], [])
    journal.mark(3)
    journal.restart(2)
    base, records, begun = journal.read(5)
    assert (base, records, [n for n in begun if n >= base]) == (2, [], [2])
    floats = journal.take_slots(float, MAX_CHUNK)
    floats[0] = math.inf
    assert journal.read(1)[1:] == ([], [])  # of a chunk of one, from the second on
    journal.restart(0)
    assert floats[0] == math.inf


@pytest.mark.parametrize("late", [0, 30_000])
def test_items_that_turn_slow_leave_for_threads_and_none_is_lost(late):
    @opmap(mode="auto", workers=4)
    def slow_from(x):
        if x >= late:
            time.sleep(0.002)
        return x

    assert slow_from(range(late + 900)) == list(range(late + 900))
    first, *others = slow_from.last_run.workers
    assert (first.name, first.items + sum(insight.items for insight in others)) == ("inline", late + 900)
    assert first.items < late + 700


def served(function, items):
    """Let a worker in this process serve a chunk of quick numbers; return its answers: number, slow ones, seconds."""
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        descriptor = share(SIZE)
        Journal(descriptor, b"an empty")
        send_descriptors(ours, [descriptor])
        worker = Worker(theirs, Job(opmap(mode="process")(function), general=blocking.call), shares=True)
        worker.numbers = int
        worker.journal.begin(1, len(items))
        Chunk(worker, [*items], plain=True).work()
        answers = []
        while ours.poll(0):
            place, entries, _, _, slow, seconds, last, *_ = marshal.loads(ours.recv_bytes())
            answers.append((place, len(entries) // 8, slow, seconds, last))
    return answers


def test_an_item_takes_what_it_takes_however_many_there_are_between_two_looks():
    with testing.clock() as time_:
        answers = served(lambda _: time_.advance(4e-5) or 1, range(2_000))
    assert sum(number for _, number, *_ in answers) == 2_000
    assert [slow for _, _, slow, *_ in answers if slow] == []


def test_one_slow_item_among_quick_ones_is_told_as_one_of_a_few():
    with testing.clock() as time_:
        answers = served(lambda n: time_.advance(0.02 if n == 700 else 1e-5) or n, range(2_000))
    ((first, seconds, among),) = [(start + n, *rest) for start, _, slow, *_ in answers for n, *rest in slow]
    assert first <= 700 < first + among
    assert among <= 20  # as many as take 0.2 ms
    assert seconds == pytest.approx(0.02, abs=1e-4)


def test_what_is_not_begun_of_a_chunk_that_takes_too_long_is_handed_back():
    with testing.clock() as time_:
        answers = served(lambda n: time_.advance(1e-5 if n < 1_000 else 0.03) or n, range(16_000))
    assert sum(number for _, number, *_ in answers) < 1_000 + swift.RUN + 5
    assert [last for *_, last in answers] == [*[False] * (len(answers) - 1), True]


def test_a_run_that_goes_on_is_cut_short_when_the_bell_rings_twice():
    def ringing(n):
        time_.advance(1e-6)
        if n == 500:
            time_.advance(0.01)
            swift.ring()
            swift.ring()
        return n

    with testing.clock() as time_:
        answers = served(ringing, range(1_000))
    assert sum(number for _, number, *_ in answers) == 1_000
    ((first, _, among),) = [(start + n, *rest) for start, _, slow, *_ in answers for n, *rest in slow]
    assert first + among - 1 == 500


@pytest.mark.parametrize("mode", ["thread", "process"])
@pytest.mark.parametrize("chunk_size", ["auto", 2_000])
def test_items_that_turn_slow_are_shared_by_all_workers_unless_the_chunk_size_is_given(mode, chunk_size):
    function = opmap(mode=mode, workers=2, chunk_size=chunk_size, name="swift.shared")(work.napped)
    with function.pool:
        function([0.0] * 2_000)  # so that each has a worker, and they know that items are quick
        who = function([0.0] * 2_000 + [0.01] * (150 if chunk_size == "auto" else 40))[2_000:]
    least = min(collections.Counter(who).values()) if len(set(who)) > 1 else 0
    assert least >= 30 if chunk_size == "auto" else least == 0
