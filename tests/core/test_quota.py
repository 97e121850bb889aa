"""GCRA against the law it stands for, against a token bucket, and with those who wait and leave."""

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opero.quota import ROUNDING, Quota, Rate
from together import together

STEPS = st.lists(st.integers(0, 30), min_size=1, max_size=80)  # eighths of a second: exact in binary


def quota(*rates):
    return Quota(Rate(*rate) for rate in rates)


@given(STEPS, st.integers(1, 5))
def test_it_admits_what_a_token_bucket_admits(steps, burst):
    bucket, tokens, now = quota((1, 1, burst)), float(burst), 0.0
    for step in steps:
        now += step / 8
        tokens = min(burst, tokens + step / 8)
        admitted = bucket.book(now, 0.0)[1] is not None
        assert admitted == (tokens >= 1)
        tokens -= admitted


@given(STEPS, st.integers(1, 5), st.integers(1, 5))
def test_no_window_holds_more_than_the_burst_and_what_the_rate_adds(steps, burst, other):
    rates = [(1, 1, burst), (1, 2, other)]
    bucket, now, gone = quota(*rates), 0.0, []
    for step in steps:
        now += step / 8
        gone.append(now + bucket.book(now, inf)[0])
    assert gone == sorted(gone)
    holds(gone, rates)


def holds(gone, rates):
    for count, per, burst in rates:
        for first in range(len(gone)):
            for last in range(first, len(gone)):
                assert last - first + 1 <= burst + (gone[last] - gone[first]) * count / per + 1e-9


def test_threads_together_get_no_more_than_there_is():
    bucket, got = quota((1, 1, 50)), []

    def take():
        for _ in range(50):
            if bucket.book(0.0, 0.0)[1] is not None:
                got.append(1)

    together(*[take] * 8)
    assert len(got) == 50


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1e7))
def test_the_whole_burst_goes_at_once_however_its_parts_are_rounded(count, per, now):
    for rates in ([(count, per, count)], [(count, per, count), (count, per + 1, count)]):
        bucket = quota(*rates)
        assert [bucket.book(now, 0.0)[0] for _ in range(count)] == [0.0] * count
        assert bucket.book(now, 0.0)[1] is None


def test_a_thread_on_the_fast_path_and_one_that_waits_lose_nothing_to_each_other():
    """Whoever finds room moves `due` on without the lock; nothing may be called between the read and the write."""
    import dis

    charge = Quota._charge_locked.__code__
    names = [(i.opname, i.argval) for i in dis.get_instructions(charge)]
    read = len(names) - 1 - names[::-1].index(("LOAD_ATTR", "due"))
    write = len(names) - 1 - names[::-1].index(("STORE_ATTR", "due"))
    assert read < write
    assert not [op for op, _ in names[read:write] if op.startswith(("CALL", "JUMP_BACKWARD"))]


class Waiter:
    alive = True
    woken = 0

    def wake(self):
        self.woken += 1
        return self.alive


def test_who_leaves_moves_up_everyone_behind_and_they_are_told():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    tickets = [bucket.book(0.0, inf)[1] for _ in range(4)]
    waiters = [Waiter() for _ in tickets]
    for ticket, waiter in zip(tickets, waiters, strict=True):
        bucket.turn(ticket, waiter, 0.0)
    bucket.give_back(tickets[1], 0.5)
    assert waiters[3].woken == 1  # the last one looks, and tells the others
    assert bucket.turn(tickets[3], waiters[3], 0.5) == (3.0, False)
    assert [ticket.at for ticket in tickets] == [1, 2, 2, 3]
    assert [waiter.woken for waiter in waiters] == [0, 0, 1, 1]
    assert bucket.book(0.5, inf)[0] == 3.5


def test_who_books_before_anybody_has_looked_is_behind_those_who_moved_up():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    first, second = (bucket.book(0.0, inf)[1] for _ in range(2))
    waiter = Waiter()
    bucket.turn(second, waiter, 0.0)
    bucket.give_back(first, 0.5)
    assert (waiter.woken, second.at) == (1, 2)
    delay, third = bucket.book(0.5, inf)
    assert (second.at, third.at, delay) == (1, 2, 1.5)


def test_a_forked_child_waits_for_nobody():
    from opero import forks

    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    bucket.book(0.0, inf)
    assert any(known is bucket for known in forks._objects)
    bucket.after_fork()
    assert bucket.idle(2.0)


def test_a_waiter_that_is_gone_does_not_keep_the_others_from_moving_up():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    first, second, last = (bucket.book(0.0, inf)[1] for _ in range(3))
    dead = Waiter()
    dead.alive = False
    bucket.turn(last, dead, 0.0)
    bucket.give_back(first, 0.0)
    assert (second.at, last.at) == (1, 2)


def test_a_ticket_whose_time_has_come_is_used_up():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    ticket = bucket.book(0.0, inf)[1]
    bucket.give_back(ticket, 1.0)
    assert bucket.book(1.0, inf)[0] == 1.0


def test_a_heavy_call_waits_for_all_it_weighs():
    bucket = quota((1, 1, 4))
    assert bucket.book(0.0, inf, 3)[0] == 0
    assert bucket.book(0.0, inf, 3)[0] == 2
    assert (bucket.fits(4), bucket.fits(5)) == (True, False)


def test_it_is_idle_from_when_it_is_full_again():
    bucket = quota((1, 1, 1), (1, 1, 2))
    bucket.book(5.0, 0.0)
    assert (bucket.idle(5.9), bucket.idle(6.0)) == (False, True)
    bucket.book(7.0, inf)
    bucket.book(7.0, inf)
    assert not bucket.idle(7.5)


def test_patience_is_counted_from_now():
    for rates in ([(1, 1, 1)], [(1, 1, 1), (9, 1, 9)]):
        bucket = quota(*rates)
        bucket.book(100.0, 0.0)
        assert bucket.book(100.0, 0.5) == (1.0, None)
        assert bucket.book(100.0, 1.5)[1].at == 101.0


def test_a_millionth_of_a_second_early_is_a_matter_of_rounding():
    for rates in ([(1, ROUNDING, 1)], [(1, ROUNDING, 1), (1, ROUNDING / 2, 1)]):
        bucket = quota(*rates)
        assert bucket.book(0.0, 0.0)[1] is not None
        delay, ticket = bucket.book(0.0, 0.0)
        assert (delay, ticket is None) == (0.0, False)
        assert bucket.book(0.0, 0.0)[1] is None
    patience = 1.0 - ROUNDING
    assert patience + ROUNDING == 1.0
    for rates in ([(1, 1, 1)], [(1, 1, 1), (9, 1, 9)]):
        bucket = quota(*rates)
        bucket.book(0.0, 0.0)
        assert bucket.book(0.0, patience)[1] is not None
        assert bucket.book(0.0, patience)[1] is None


def test_who_does_not_move_up_is_not_woken():
    bucket = quota((1, 1, 1))
    for _ in range(3):
        bucket.book(0.0, inf)
    light, middle, last = (bucket.book(0.0, inf, weight)[1] for weight in (0, 1, 1))
    waiters = {ticket: Waiter() for ticket in (middle, last)}
    for ticket, waiter in waiters.items():
        bucket.turn(ticket, waiter, 0.0)
    bucket.give_back(light, 0.5)
    bucket.turn(last, waiters[last], 0.5)
    assert (middle.at, waiters[middle].woken) == (3.0, 0)


def test_available_says_what_would_go_at_once():
    bucket = quota((10, 1, 10), (100, 60, 12))
    assert bucket.available(0.0) == 10
    for _ in range(10):
        bucket.book(0.0, 0.0)
    assert bucket.available(0.0) == 0
    assert bucket.available(0.35) == 2


class Machine(RuleBasedStateMachine):
    """Arrivals, departures and time in any order: first come first served, and the law of each rate holds."""

    RATES = ((2, 1, 2), (3, 4, 5))

    def __init__(self):
        super().__init__()
        self.quota = quota(*self.RATES)
        self.now = 0.0
        self.waiting = []
        self.gone = []

    @rule(weight=st.integers(1, 2))
    def arrive(self, weight):
        delay, ticket = self.quota.book(self.now, inf, weight)
        if delay <= 0:
            assert not self.waiting
            self.gone += [self.now] * weight
        else:
            self.waiting.append((ticket, Waiter()))
            self.quota.turn(ticket, self.waiting[-1][1], self.now)

    @rule(eighths=st.integers(1, 12))
    def pass_time(self, eighths):
        self.look()
        self.now += eighths / 8
        while self.waiting and self.waiting[0][0].at <= self.now:
            ticket, _ = self.waiting.pop(0)
            self.quota.go(ticket)
            self.gone += [ticket.at] * int(ticket.weight)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data):
        place = data.draw(st.integers(0, len(self.waiting) - 1))
        before = [ticket.at for ticket, _ in self.waiting]
        ticket, _ = self.waiting.pop(place)
        self.quota.give_back(ticket, self.now)
        self.look()
        after = [ticket.at for ticket, _ in self.waiting]
        assert after[:place] == before[:place]
        assert all(new <= old for new, old in zip(after[place:], before[place + 1 :], strict=True))

    def look(self):
        """Let those look who were told to."""
        for ticket, waiter in self.waiting:
            if waiter.woken:
                waiter.woken = 0
                self.quota.turn(ticket, waiter, self.now)

    @invariant()
    def first_come_first_served(self):
        times = [ticket.at for ticket, _ in self.waiting]
        assert times == sorted(times)
        assert len(self.quota._waiting) == len(self.waiting)

    def teardown(self):
        self.look()
        self.gone += [ticket.at for ticket, _ in self.waiting for _ in range(int(ticket.weight))]
        holds(self.gone, self.RATES)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
