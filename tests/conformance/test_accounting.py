"""Nothing is lost and nothing counted twice: threads and tasks together, 30 % of the attempts fail."""

import asyncio
import random
import threading
from collections import Counter

import pytest

import opero as o
from opero import events
from opero.call import ATTEMPT_DURATION, DURATION
from opero.signals import EVENTS

LIMIT, THREADS, TASKS = 40, 4, 20
FAULTS = (0.30, 0.01)  # errors, cancellations


class Service:
    """Counts what really happened, itself."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.lock = threading.Lock()
        self.really = Counter()
        self.most = 0

    def enter(self):
        with self.lock:
            self.really["attempts"] += 1
            self.really["inside"] += 1
            self.most = max(self.most, self.really["inside"])
            return self.draw.random()

    def leave(self, drawn):
        with self.lock:
            self.really["inside"] -= 1
            if drawn < FAULTS[0]:
                self.really["failed"] += 1
                raise ConnectionError
            if drawn < sum(FAULTS):
                self.really["cancelled"] += 1
                raise asyncio.CancelledError
            self.really["ok"] += 1
            return drawn

    def sync(self, x=None):
        return self.leave(self.enter())

    async def aio(self, x=None):
        drawn = self.enter()
        await asyncio.sleep(0)
        return self.leave(drawn)


def shared():
    """Return policies that every function shares."""
    return [
        o.RetryBudget(0.5, cap=500),
        o.CircuitBreaker(failure_ratio=0.99),
        o.RateLimit(1_000_000),
        o.Bulkhead(LIMIT, max_queue=10_000),
    ]


class Player:
    """One thread: makes its share of the calls, plainly or in tasks, and counts what came of them."""

    def __init__(self, functions, calls, barrier):
        self.functions = functions
        self.calls = calls
        self.barrier = barrier
        self.outcomes = Counter()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        self.barrier.wait(30)
        for number in range(self.calls):
            try:
                self.functions[number % 2]()
            except BaseException as error:
                self.note(error)
            else:
                self.outcomes["returned"] += 1

    def note(self, error):
        self.outcomes["cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__] += 1


class TaskPlayer(Player):
    def run(self):
        self.barrier.wait(30)
        asyncio.run(self.together())

    async def together(self):
        await asyncio.gather(*(self.work() for _ in range(TASKS)))

    async def work(self):
        for number in range(self.calls // TASKS):
            try:
                await self.functions[2 + number % 2]()
            except BaseException as error:
                self.note(error)
            else:
                self.outcomes["returned"] += 1


def play(functions, calls):
    """Make so many calls, half of them in threads and half in tasks, all beginning at once; return the outcomes."""
    barrier, share = threading.Barrier(2 * THREADS), calls // (2 * THREADS)
    players = [(Player, TaskPlayer)[n % 2](functions, share, barrier) for n in range(2 * THREADS)]
    for player in players:
        player.thread.start()
    for player in players:
        player.thread.join()
    return sum((player.outcomes for player in players), Counter())


def books(functions):
    """Return what all functions counted together: calls by outcome, attempts by outcome, events by name."""
    calls, attempts, said = Counter(), Counter(), Counter()
    for function in functions:
        sums, distributions, _ = function.opero.operation.book.read()
        for (name, attributes), counts in distributions.items():
            if name in {DURATION.name, ATTEMPT_DURATION.name}:
                (calls if name == DURATION.name else attempts)[attributes[0]] += int(sum(counts[:-1]))
        for (name, attributes), amount in sums.items():
            if name == EVENTS.name:
                said[attributes[0]] += int(amount)
    return calls, attempts, said


def check(calls, *, listening):
    service, policies = Service(seed=calls), shared()
    retry = {"retries": 3, "min_delay": 0, "max_delay": 0}
    functions = [
        o.opero(*policies, **retry, name="a")(service.sync),
        o.opero(*policies, **retry, name="b", fallback=0)(service.sync),
        o.opero(*policies, **retry, name="c", timeout=60)(service.aio),
        o.opero(*policies, **retry, name="d", hedge=30, fallback=0)(service.aio),
    ]
    heard, lock = Counter(), threading.Lock()

    def hear(event):
        with lock:
            heard[event.name] += 1

    subscription = events.subscribe(hear, "opero.*") if listening else None
    try:
        outcomes = play(functions, calls)
    finally:
        if subscription is not None:
            subscription.close()
    counted, attempts, said = books(functions)
    made = sum(outcomes.values())
    really = service.really
    assert sum(counted.values()) == made == said["opero.call.finished"] == said["opero.call.started"]
    assert counted["ok"] + counted["fallback"] == outcomes["returned"]
    assert counted["cancelled"] == outcomes["cancelled"]
    assert counted["error"] == outcomes["ConnectionError"]
    assert attempts["ok"] == really["ok"]
    assert attempts["cancelled"] == really["cancelled"] == outcomes["cancelled"]
    assert attempts["retryable"] == really["failed"]
    assert sum(attempts.values()) == really["attempts"] == really["ok"] + really["failed"] + really["cancelled"]
    assert said["opero.retry.scheduled"] == really["attempts"] - made
    assert service.most <= LIMIT
    assert sum(function.opero.stats()["active"] for function in functions) == 0
    assert functions[0].opero.operation.places["bulkhead"].slots.used == 0
    if listening:
        assert heard == +said
    return really


@pytest.mark.parametrize("listening", [True, False], ids=["listening", "silent"])
def test_the_books_agree_with_what_happened(listening):
    really = check(4_000, listening=listening)
    assert really["failed"] / really["attempts"] == pytest.approx(0.3, abs=0.05)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("listening", [True, False], ids=["listening", "silent"])
def test_the_books_agree_after_a_million_calls(listening):
    check(1_000_000, listening=listening)
