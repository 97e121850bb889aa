"""Whether a store of the user's own keeps what `opero.stores.StateStore` promises."""

from __future__ import annotations

import asyncio
import os
from math import inf
from threading import Barrier, Thread
from typing import TYPE_CHECKING

from opero.drivers import aio, blocking
from opero.errors import ConfigurationError
from opero.runtime import run
from opero.stores import answers, checked, key_of
from opero.stores.by_hand import offers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from opero.primitives.circuit_breaker import CircuitBreaker
    from opero.runtime import Runtime
    from opero.stores import StateStore

    Check = Callable[["_Asked"], Awaitable[None]]

SLOWLY = 60.0  # seconds a call, where nothing may come back meanwhile
SILENT, LOOKS = 1.5, 5  # seconds after which who does not ask is gone for certain, and how often others ask meanwhile
CROWD, ROOM = 24, 10  # who ask at once, and how many of them may go


def check_store(make: Callable[[], StateStore]) -> None:
    """Ask a store what policies ask it, and raise `AssertionError` with each promise that it does not keep.

    `make` makes one; all that it makes have to share their states. It takes some seconds of real time, and leaves
    states under names of its own. Not inside an event loop: it begins one, since coroutine functions ask another way.
    """
    if not callable(make):
        raise ConfigurationError("make", make, "a function that makes a store, as `lambda: MyStore(url)`")
    stores = make(), make()
    for store in stores:
        checked("make", store, "check")
    broken = [*_broken(stores, blocking.RUNTIME, run), *_broken(stores, aio.RUNTIME, asyncio.run)]
    if broken:
        raise AssertionError(f"{type(stores[0]).__name__} is no StateStore:\n" + "\n".join(dict.fromkeys(broken)))


def _broken(stores: tuple[StateStore, StateStore], runtime: Runtime, begin: Callable[..., Any]) -> list[str]:
    """Return which promises were broken to callers of this kind."""
    broken = []
    for check in CHECKS:
        try:
            begin(check(_Asked(stores, runtime)))
        except Exception as error:  # noqa: BLE001 - told below
            who = "a coroutine function" if runtime is aio.RUNTIME else "a function"
            broken.append(f"- {check.__name__.replace('_', ' ').strip()}, asked by {who}: {_told(error)}")
    return broken


def _told(error: Exception) -> str:
    known = isinstance(error, AssertionError | answers.AnswerError)
    return str(error) if known else f"{type(error).__name__}: {error}"


class _Asked:
    """Two stores that share a state of their own; questions go to them in turn."""

    def __init__(self, stores: tuple[StateStore, StateStore], runtime: Runtime) -> None:
        self.stores, self.runtime, self.pause = stores, runtime, runtime.sleep
        self._name = f"check-{os.urandom(8).hex()}"
        self._turn = 0

    def key(self, kind: str) -> str:
        return key_of(kind, self._name, None)

    async def ask(self, method: str, kind: str, *args: Any) -> Any:
        """Ask, and look at the answer as a guard does."""
        self._turn += 1
        answer = await getattr(self.stores[self._turn % 2], method)(self.runtime, self.key(kind), *args)
        right = getattr(answers, method, None)
        if right is not None:
            given = {"reserve": args[-1:], "lease": args[-2:]}.get(method, ())
            answers.check(right, answer, given)
        return answer

    async def book(self, burst: float, patience: float = 0.0, *, weight: float = 1.0, interval: float = SLOWLY) -> Any:
        return await self.ask("reserve", "rate_limit", [(interval, burst)], weight, patience)

    async def took(self, token: str, *, limit: int = 1, room: int = 5) -> str:
        verdict: str = (await self.ask("take", "bulkhead", token, limit, room))[0]
        return verdict

    async def outcomes(self, rules: CircuitBreaker, told: str, *, slow: bool = False) -> Any:
        """Call once for each letter, f for a failure, s for a success; return what the last one led to."""
        led: Any = None
        for letter in told:
            permit = (await self.ask("admit", "circuit", rules)).permit
            _must(permit is not None, "it lets no call pass")
            led = await self.settle(rules, permit, "failure" if letter == "f" else "success", slow=slow)
        return led

    async def settle(self, rules: CircuitBreaker, permit: Any, outcome: str, *, slow: bool = False) -> Any:
        return await self.ask("settle", "circuit", rules, permit, outcome, slow)


def _must(kept: object, otherwise: str) -> None:
    if not kept:
        raise AssertionError(otherwise)


async def _it_answers_a_look(asked: _Asked) -> None:
    asked.stores[0].ping()


async def _a_quota_lets_its_burst_go_and_no_more(asked: _Asked) -> None:
    for _ in range(3):
        _must(await _goes(asked.book(3)), "fewer went than the burst")
    wait, booking = await asked.book(3)
    _must(booking is None, "more went than the burst")
    _must(0 < wait <= SLOWLY, f"the next was to wait for {wait} s of {SLOWLY}")


async def _goes(question: Awaitable[Any]) -> bool:
    wait, booking = await question
    return wait == 0 and booking is not None


async def _a_refused_call_books_on_none_of_the_rates(asked: _Asked) -> None:
    rates = [(SLOWLY, 9.0), (2 * SLOWLY, 1.0)]
    for _ in range(4):
        await asked.ask("reserve", "rate_limit", rates, 1.0, 0.0)
    wait, _ = await asked.ask("reserve", "rate_limit", rates, 1.0, inf)
    _must(SLOWLY < wait <= 2 * SLOWLY, f"after three refusals the second was to wait for {wait} s of {2 * SLOWLY}")


async def _a_quota_refills_by_its_interval(asked: _Asked) -> None:
    await asked.book(1, interval=1.0)
    wait, _ = await asked.book(1, interval=1.0)
    _must(0 < wait <= 1, f"the second was to wait for {wait} s of 1")
    await asked.pause(1.1)
    _must(await _goes(asked.book(1, interval=1.0)), "nothing had come back after the interval")


async def _a_weight_counts(asked: _Asked) -> None:
    _must(await _goes(asked.book(3, weight=2.0)), "two of three could not go")
    _must(not await _goes(asked.book(3, weight=2.0)), "four of three went")


async def _a_booking_is_undone_unless_somebody_booked_behind_it(asked: _Asked) -> None:
    rates = [(SLOWLY, 2.0)]
    (_, first), (_, second) = await asked.book(2), await asked.book(2)
    await asked.ask("give_back", "rate_limit", rates, 1.0, first)
    _must(not await _goes(asked.book(2)), "what was given back was booked upon")
    await asked.ask("give_back", "rate_limit", rates, 1.0, second)
    _must(await _goes(asked.book(2)), "the last booking, given back, freed nothing")


async def _a_look_at_a_quota_books_nothing(asked: _Asked) -> None:
    if not offers(asked.stores[0], "peek"):
        return
    rates = [(SLOWLY, 2.0)]
    for went in range(3):
        count, wait = await asked.ask("peek", "rate_limit", rates, 1.0)
        _must(count == 2 - went, f"{count} were to go at once after {went} of a burst of 2")
        _must((wait == 0) == (went < 2) and wait <= SLOWLY, f"the next was to wait for {wait} s after {went} of 2")
        _must(await _goes(asked.book(2)) == (went < 2), "looking booked one")


async def _a_quota_is_reset(asked: _Asked) -> None:
    if not offers(asked.stores[0], "reset"):
        return
    for _ in range(2):
        _must(await _goes(asked.book(1)), "after a reset the burst could not go")
        await asked.ask("reset", "rate_limit")


async def _leased_calls_are_of_the_burst(asked: _Asked) -> None:
    wait, booking, more = await asked.ask("lease", "rate_limit", [(SLOWLY, 5.0)], 1.0, 0.0, 3)
    _must(wait == 0 and booking is not None, "the first call could not go")
    went = 1 + more
    while went <= 5 and await _goes(asked.book(5)):
        went += 1
    _must(went == 5, f"{went} went of a burst of 5, {more} of them leased")


async def _of_a_crowd_as_many_go_as_may(asked: _Asked) -> None:
    went: list[bool] = []

    async def one() -> None:
        went.append(await _goes(asked.book(ROOM)))

    if asked.runtime is aio.RUNTIME:
        await asyncio.gather(*(one() for _ in range(CROWD)))
    else:
        begin = Barrier(CROWD)
        threads = [Thread(target=lambda: (begin.wait(), run(one())), daemon=True) for _ in range(CROWD)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    _must(len(went) == CROWD, f"{CROWD - len(went)} of {CROWD} who asked at once had no answer")
    _must(sum(went) == ROOM, f"{sum(went)} of {CROWD} went where {ROOM} may")


async def _a_budget_pays_what_came_in(asked: _Asked) -> None:
    async def pay(cost: float, income: int = 0, back: float = 0.0) -> Any:
        return await asked.ask("pay", "retry_budget", (0.1, 0.0, 50.0), income, back, cost)

    paid = [(await pay(1.0))[0] for _ in range(11)]
    _must(paid == [True] * 10 + [False], f"of the ten tokens that there are at first {sum(paid)} were given")
    _must((await pay(0.0))[1] > 0.99, "a budget that is spent says that it is not")
    paid = [(await pay(1.0, income=25))[0], (await pay(1.0))[0], (await pay(1.0))[0]]
    _must(paid == [True, True, False], f"25 successes at 0.1 brought {sum(paid)} tokens, and not 2")
    _must((await pay(1.0, back=1.0))[0], "a token given back was gone")


def _rules(**settings: Any) -> CircuitBreaker:
    from opero.primitives.circuit_breaker import CircuitBreaker

    return CircuitBreaker(reset_after=0.5, max_reset_after=0.5, half_open_probes=1, **settings)


async def _a_circuit_opens_by_its_rules(asked: _Asked) -> None:
    state, led = await asked.outcomes(_rules(failure_ratio=0.5, min_calls=4), "ssff")
    _must(state == "open", "two failures of four did not open it")
    _must((led["failure_ratio"], led["calls"], led["pause"]) == (0.5, 4, 0.5), f"it opened by {led}")
    admission = await asked.ask("admit", "circuit", _rules())
    _must(admission.permit is None and admission.state == "open", f"open, it was {admission.state}, and let one pass")
    _must(0 < (admission.retry_after or 0) <= 0.5, f"it was to be asked again in {admission.retry_after} s of 0.5")


async def _a_circuit_counts_slow_calls_and_failures_in_a_row(asked: _Asked) -> None:
    slow = _rules(slow_call=1.0, slow_ratio=1.0, min_calls=2)
    _must((await asked.outcomes(slow, "ss", slow=True))[0] == "open", "two slow calls of two did not open it")
    await asked.ask("hold", "circuit", slow, "auto")
    row = _rules(consecutive=2)
    _must((await asked.outcomes(row, "fsf"))[0] == "", "two failures with a success between opened it")
    _must((await asked.outcomes(row, "f"))[0] == "open", "two failures in a row did not open it")


async def _a_circuit_gives_its_probes_and_closes(asked: _Asked) -> None:
    rules = _rules(consecutive=1)
    await asked.outcomes(rules, "f")
    await asked.pause(0.6)
    probe, other = await asked.ask("admit", "circuit", rules), await asked.ask("admit", "circuit", rules)
    _must(probe.permit is not None and probe.permit.probe, "it gave no probe after its pause")
    _must((probe.state, probe.changed) == ("half_open", True), f"with its probe it was {probe.state}, not half_open")
    _must(other.permit is None and not other.changed, "it gave two probes where there is one")
    await asked.settle(rules, probe.permit, "none")
    again = await asked.ask("admit", "circuit", rules)
    _must(again.permit is not None, "a probe that went back was not given again")
    _must((await asked.settle(rules, again.permit, "success"))[0] == "closed", "its probe's success did not close it")
    _must((await asked.ask("admit", "circuit", rules)).state == "closed", "closed, it says otherwise")


async def _an_outcome_from_before_a_change_changes_nothing(asked: _Asked) -> None:
    rules = _rules(consecutive=1)
    late = (await asked.ask("admit", "circuit", rules)).permit
    await asked.outcomes(rules, "f")
    await asked.pause(0.6)
    probe = (await asked.ask("admit", "circuit", rules)).permit
    _must((await asked.settle(rules, late, "success"))[0] == "", "a late success closed it")
    await asked.settle(rules, probe, "success")
    _must((await asked.settle(rules, late, "failure"))[0] == "", "a late failure opened it")


async def _a_circuit_is_held_by_hand(asked: _Asked) -> None:
    rules = _rules(consecutive=1)
    told = [await asked.ask("hold", "circuit", rules, mode) for mode in ("forced_open", "forced_open")]
    _must(told == ["forced_open", ""], f"forced open twice it said {told}")
    admission = await asked.ask("admit", "circuit", rules)
    _must((admission.permit, admission.state) == (None, "forced_open"), "forced open it let a call pass")
    for mode in ("forced_closed", "disabled"):
        await asked.ask("hold", "circuit", rules, mode)
        _must((await asked.outcomes(rules, "fff"))[0] == "", f"{mode} it opened")
    await asked.ask("hold", "circuit", rules, "auto")
    _must((await asked.outcomes(rules, "f"))[0] == "open", "let go it does not run by itself")


async def _a_bulkhead_has_its_slots_and_its_room(asked: _Asked) -> None:
    said = [await asked.ask("take", "bulkhead", token, 1, 1) for token in ("a", "b", "b", "c")]
    _must(said == [("taken", 1, 0), ("queued", 1, 1), ("queued", 1, 1), ("full", 1, 1)], f"it said {said}")
    asked.stores[0].renew(asked.key("bulkhead"), ["a"])
    _must(await asked.took("b") == "queued", "a slot that was renewed was given to another")
    await asked.ask("leave", "bulkhead", "a")
    _must(await asked.took("b") == "taken", "a slot that was left was not given to who waited")
    _must(await asked.took("d", limit=2) == "taken", "one more slot, by a higher limit, was not given")


async def _its_queue_is_served_in_order(asked: _Asked) -> None:
    for token in "abcd":
        await asked.took(token)
    await asked.took("b")  # asks again, and keeps its place
    await asked.ask("leave", "bulkhead", "a")
    _must(await asked.took("c") == "queued", "the second of the queue was served before the first")
    _must(await asked.took("b") == "taken", "the first of the queue was not served")
    for token in "bc":
        await asked.ask("leave", "bulkhead", token)
    _must(await asked.took("d") == "taken", "one that left the queue held up the next")


async def _who_is_silent_has_left_the_queue(asked: _Asked) -> None:
    for token in "abc":
        await asked.took(token)
    for _ in range(LOOKS):
        await asked.pause(SILENT / LOOKS)
        await asked.took("c")
    await asked.ask("leave", "bulkhead", "a")
    _must(await asked.took("c") == "taken", f"one that had not asked for {SILENT} s held up the next")


CHECKS: tuple[Check, ...] = (
    _it_answers_a_look,
    _a_quota_lets_its_burst_go_and_no_more,
    _a_refused_call_books_on_none_of_the_rates,
    _a_quota_refills_by_its_interval,
    _a_weight_counts,
    _a_booking_is_undone_unless_somebody_booked_behind_it,
    _a_look_at_a_quota_books_nothing,
    _a_quota_is_reset,
    _leased_calls_are_of_the_burst,
    _of_a_crowd_as_many_go_as_may,
    _a_budget_pays_what_came_in,
    _a_circuit_opens_by_its_rules,
    _a_circuit_counts_slow_calls_and_failures_in_a_row,
    _a_circuit_gives_its_probes_and_closes,
    _an_outcome_from_before_a_change_changes_nothing,
    _a_circuit_is_held_by_hand,
    _a_bulkhead_has_its_slots_and_its_room,
    _its_queue_is_served_in_order,
    _who_is_silent_has_left_the_queue,
)
