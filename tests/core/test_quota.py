"""GCRA against the law it stands for, against a token bucket, and with those who wait and leave."""

from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opero.quota import ROUNDING, Quota, Rate, due_by
from together import together, wait_for

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

    names = [(i.opname, i.argval) for i in dis.get_instructions(Quota._begin_locked.__code__)]
    read, write = (
        max(at for at, found in enumerate(names) if found == (f"{op}_ATTR", "due")) for op in ("LOAD", "STORE")
    )
    assert read < write
    assert not [op for op, _ in names[read:write] if op.startswith(("CALL", "JUMP_BACKWARD"))]


class Waiter:
    alive = True
    woken = 0

    def wake(self):
        self.woken += 1
        return self.alive


def test_who_leaves_makes_room_for_those_behind_and_the_first_is_told():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    tickets = [bucket.book(0.0, inf)[1] for _ in range(4)]  # for 1, 2, 3 and 4
    waiters = [Waiter() for _ in tickets]
    for ticket, waiter in zip(tickets, waiters, strict=True):
        bucket.turn(ticket, waiter, 0.0)
    bucket.give_back(tickets[1])
    assert bucket.book(0.5, inf)[0] == 3.5
    assert [waiter.woken for waiter in waiters] == [0, 0, 0, 0]
    assert bucket.turn(tickets[0], waiters[0], 1.0)[0] == 1.0
    assert [waiter.woken for waiter in waiters] == [0, 0, 1, 0]
    assert bucket.turn(tickets[2], waiters[2], 1.0) == (2.0, True)
    bucket.give_back(tickets[2])
    assert [waiter.woken for waiter in waiters] == [0, 0, 1, 1]
    assert bucket.turn(tickets[3], waiters[3], 1.0) == (2.0, True)


def test_a_forked_child_waits_for_nobody():
    from opero import forks

    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    bucket.book(0.0, inf)
    assert any(known is bucket for known in forks._objects)
    bucket.after_fork()
    assert bucket.idle(2.0)


def test_a_waiter_that_is_gone_does_not_keep_the_others_from_being_told():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    first, second, last = (bucket.book(0.0, inf)[1] for _ in range(3))
    dead, waiter = Waiter(), Waiter()
    dead.alive = False
    bucket.turn(second, dead, 0.0)
    bucket.turn(last, waiter, 0.0)
    bucket.give_back(first)
    assert (dead.woken, waiter.woken) == (1, 1)


def test_a_ticket_that_was_not_used_can_be_given_back_when_its_time_has_come():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    ticket = bucket.book(0.0, inf)[1]
    bucket.give_back(ticket)
    assert bucket.book(1.0, inf)[0] == 0.0
    bucket.give_back(ticket)
    assert bucket.book(1.0, inf)[0] == 1.0


def test_who_comes_late_moves_nobody_into_the_same_moment():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    tickets = [bucket.book(0.0, inf)[1] for _ in range(4)]  # for 1, 2, 3 and 4
    times = [bucket.turn(ticket, Waiter(), 3.5)[0] for ticket in tickets]
    assert times == [3.5, 4.5, 5.5, 6.5]
    assert bucket.book(3.5, inf)[0] == 4.0
    assert [bucket.turn(ticket, Waiter(), 6.5)[0] for ticket in reversed(tickets[1:])] == [6.5, 7.5, 7.5]


def test_where_the_first_must_wait_on_all_slide_back_with_it():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    first, second, third, fourth = (bucket.book(0.0, inf)[1] for _ in range(4))
    assert bucket.turn(first, Waiter(), 1.75)[0] == 1.75
    assert bucket.turn(second, Waiter(), 2.0) == (2.75, True)
    assert bucket.turn(third, Waiter(), 2.0) == (3.75, False)
    delay, fifth = bucket.book(2.0, inf)
    assert (delay, bucket.turn(fifth, Waiter(), 2.0)) == (3.75, (5.75, False))
    assert bucket.turn(second, Waiter(), 3.0)[0] == 3.0
    assert bucket.turn(third, Waiter(), 3.5) == (4.0, True)
    bucket.reset()
    assert [bucket.turn(each, Waiter(), 2.0) for each in (third, fourth)] == [(4.0, True), (5.0, True)]  # as they know
    assert bucket.book(2.0, 0.0)[0] == 0.0


def test_in_a_hurry_a_ticket_is_used_before_its_time_and_charged():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    ticket = bucket.book(0.0, inf)[1]
    bucket.go(ticket, 1.0)
    assert bucket.idle(2.0)
    assert bucket.book(0.0, inf)[0] == 2.0
    bucket.go(ticket, 1.0)
    assert bucket.wait(0.0, 1) == 3.0


def test_who_is_not_there_does_not_keep_the_others_waiting():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    absent, second, third = (bucket.book(0.0, inf)[1] for _ in range(3))
    assert [bucket.turn(ticket, Waiter(), at)[0] for ticket, at in ((second, 2.0), (third, 3.0))] == [2.0, 3.0]
    assert bucket.book(3.5, 0.0) == (1.5, None)
    assert bucket.book(5.0, 0.0)[0] == 0.0
    assert bucket.turn(absent, Waiter(), 5.0) == (6.0, True)
    assert bucket.turn(absent, Waiter(), 6.0) == (6.0, True)
    assert bucket.idle(7.0)


def test_within_the_burst_it_matters_to_nobody_that_one_is_late():
    bucket = quota((1, 1, 3))
    for _ in range(3):
        bucket.book(0.0, inf)
    first, second = (bucket.book(0.0, inf)[1] for _ in range(2))
    assert bucket.turn(first, Waiter(), 2.5)[0] == bucket.turn(second, Waiter(), 2.5)[0] == 2.5
    assert [bucket.book(2.5, inf)[0] for _ in range(2)] == [0.5, 1.5]


def test_a_forked_child_does_not_wait_for_the_places_of_its_parent():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    bucket.book(0.0, inf)
    bucket.after_fork()
    assert bucket.book(1.0, 0.0)[0] == 0.0
    bucket = quota((1, 1, 1))
    bucket.rates[0].due = inf  # the parent was about to write down who waits
    bucket.after_fork()
    assert bucket.book(1.0, 0.0)[0] == 0.0


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


def test_who_may_not_go_earlier_is_not_woken():
    bucket = quota((1, 1, 1))
    bucket.book(0.0, inf)
    light, middle = (bucket.book(0.0, inf, weight)[1] for weight in (0, 1))
    waiter = Waiter()
    bucket.turn(middle, waiter, 0.0)
    bucket.give_back(light)
    assert (middle.at, waiter.woken) == (1.0, 0)


def test_available_says_what_would_go_at_once():
    bucket = quota((10, 1, 10), (100, 60, 12))
    assert bucket.available(0.0) == 10
    for _ in range(10):
        bucket.book(0.0, 0.0)
    assert bucket.available(0.0) == 0
    assert bucket.available(0.35) == 2


class Machine(RuleBasedStateMachine):
    """Arrivals, departures, time and who is late, in any order: everyone goes, and the law of each rate holds."""

    RATES = ((2, 1, 2), (3, 4, 5))

    def __init__(self):
        super().__init__()
        self.quota = quota(*self.RATES)
        self.now = 0.0
        self.waiting = {}  # until when each sleeps
        self.waiters = {}
        self.gone = []

    @rule(weight=st.integers(1, 2))
    def arrive(self, weight):
        delay, ticket = self.quota.book(self.now, inf, weight)
        if delay <= 0:
            self.gone += [self.now] * weight
        else:
            self.waiting[ticket] = self.now
            self.wake(ticket)

    @rule(eighths=st.integers(1, 12))
    def pass_time(self, eighths):
        """Everyone is there when its time comes."""
        until = self.now + eighths / 8
        self.look()
        while self.waiting and min(self.waiting.values()) <= until:
            ticket = min(self.waiting, key=self.waiting.get)
            self.now = max(self.now, self.waiting[ticket])
            self.wake(ticket)
            self.look()
        self.now = until

    @precondition(lambda self: self.waiting)
    @rule(eighths=st.integers(1, 24), data=st.data())
    def stand_still(self, eighths, data):
        """Nobody is there for a while; then some come, in any order."""
        self.now += eighths / 8
        for ticket in data.draw(st.lists(st.sampled_from([*self.waiting]), unique=True)):
            self.wake(ticket)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data):
        ticket = data.draw(st.sampled_from([*self.waiting]))
        del self.waiting[ticket]
        self.quota.give_back(ticket)
        self.look()

    def look(self):
        """Let those look who were told to."""
        for ticket in [ticket for ticket in self.waiting if self.waiters[ticket].woken]:
            self.wake(ticket)

    def wake(self, ticket):
        self.waiters[ticket] = Waiter()
        at, first = self.quota.turn(ticket, self.waiters[ticket], self.now)
        assert first == (ticket is next(iter(self.waiting)))
        self.waiting[ticket] = at
        if at <= self.now:
            del self.waiting[ticket]
            self.gone += [self.now] * int(ticket.weight)

    @invariant()
    def nobody_is_forgotten(self):
        assert [*self.quota._waiting] == [*self.waiting]

    def teardown(self):
        self.pass_time(8 * 600)
        assert not self.waiting
        assert self.quota.idle(self.now)
        holds(self.gone, self.RATES)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_in_the_middle_of_itself_it_gives_nothing_and_takes_back_later():
    law = quota((1, 2, 1))  # one in two seconds
    law.book(0.0, inf)
    _, waits = law.book(0.0, inf)
    with law._lock:
        assert law.book(100.0, inf) == (2.0, None)
        law.give_back(waits)
        assert waits in law._waiting
    wait_for(lambda: waits not in law._waiting)
    assert law.book(100.0, inf)[1] is not None


def test_what_is_kept_by_intervals_is_due_by_them_and_now_where_nothing_is():
    assert due_by([(1.0, 2), (60.0, 5)], {1.0: 7.0, 5.0: 9.0}, 3.0) == [7.0, 3.0]
