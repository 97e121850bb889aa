"""State in memory that the processes of one machine share: that of the policies of a map.

1. A state has a record, found by the digest of its name. It is there twice: a change is written beside the state that
   counts, and then takes its place, so a process that dies in between leaves what was. One that does not fit is
   refused, and that of each process takes its place.
2. One lock for all of it. It belongs to a process, and the system frees it when that dies.
3. Decisions are those of one process: circuits are `opero.circuit`, quotas and budgets count by `opero.quota` and
   `opero.tokens`. Time is the monotonic clock, which is one for all processes of a machine.
4. A slot of a bulkhead is held while its process lives.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
from contextlib import contextmanager
from hashlib import blake2b
from math import inf

from opero import circuit, clock, forks
from opero.errors import StateError
from opero.quota import ROUNDING, charged, due_by, earliest, left_at_once
from opero.stores import Admission, Permit
from opero.tokens import enough, gathered, opening, spent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from opero.circuit import Rules
    from opero.runtime import Runtime

RECORDS, LOOK = 4096, 32  # states there may be; places where one may lie, before an older one is forgotten
DIGEST, HEAD, HALF = 16, 32, 32 * 1024
RECORD = HEAD + 2 * HALF
SIZE = RECORDS * RECORD  # of which the system gives what is used
EMPTY = bytes(DIGEST)
SILENCE = 1.0  # seconds after which who does not ask again has left the queue of a bulkhead


class Mapped:
    """A store over a file descriptor of `SIZE` bytes. Thread-safe."""

    name = "map"

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, SIZE)
        self._lock = forks.lock()

    def ping(self) -> None:
        """It is always there."""

    async def reserve(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float, patience: float
    ) -> tuple[float, Any]:
        with self._held(key) as state:
            now, held = clock.common(), state.value or {}
            dues = due_by(rates, held, now)
            at = earliest(rates, dues, now, weight)
            if at - now > patience + ROUNDING:
                return at - now, None
            booking = _by_interval(rates, charged(rates, dues, at, weight))
            state.value = held | booking
            return at - now, booking

    async def lease(  # noqa: PLR0917 - as the protocol has it
        self,
        runtime: Runtime,
        key: str,
        rates: Sequence[tuple[float, float]],
        weight: float,
        patience: float,
        more: int,
    ) -> tuple[float, Any, int]:
        return *await self.reserve(runtime, key, rates, weight, patience), 0  # asking costs less than a lease saves

    async def peek(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float
    ) -> tuple[int, float]:
        now, held = clock.common(), self.known(key) or {}
        dues = due_by(rates, held, now)
        return left_at_once(rates, dues, now), earliest(rates, dues, now, weight) - now

    async def reset(self, runtime: Runtime, key: str) -> None:
        with self._held(key) as state:
            state.value = None

    async def pay(  # noqa: PLR0917 - as the protocol has it
        self, runtime: Runtime, key: str, law: tuple[float, float, float], income: int, back: float, cost: float
    ) -> tuple[bool, float]:
        with self._held(key) as state:
            now = clock.common()
            left, successes, since = state.value or (opening(law[2]), 0.0, now)
            left, successes, cap = gathered(law, left + back, successes, max(0.0, now - since), income)
            granted = enough(left, cost)
            left -= cost * granted
            state.value = left, successes, now
            return granted, spent(left, cap)

    async def give_back(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float, booking: Any
    ) -> None:
        with self._held(key) as state:
            held = state.value or {}
            if booking.items() <= held.items():
                state.value = held | {interval: due - interval * weight for interval, due in booking.items()}

    async def admit(self, runtime: Runtime, key: str, rules: Rules) -> Admission:
        with self._circuit(key, rules) as found:
            given, change, retry_after = found.circuit.admit(clock.common())
            found.generation += change is not None
            generation = -1 if found.circuit.mode == circuit.DISABLED else found.generation
            permit = None if given is None else Permit(generation, probe=given.probe)
            return Admission(permit, found.circuit.state, changed=change is not None, retry_after=retry_after)

    async def settle(  # noqa: PLR0917 - as the protocol has it
        self, runtime: Runtime, key: str, rules: Rules, permit: Permit, outcome: str, slow: bool
    ) -> tuple[str, dict[str, Any]]:
        with self._circuit(key, rules) as found:
            if permit.generation != found.generation:
                return "", {}
            given = circuit.Permit(found.circuit.good, probe=permit.probe)
            change = found.circuit.settle(given, outcome, inf if slow else 0.0, clock.common())
            found.generation += change is not None
            return (change.state, change.fields) if change is not None else ("", {})

    async def hold(self, runtime: Runtime, key: str, rules: Rules, mode: str) -> str:
        with self._circuit(key, rules) as found:
            change = found.circuit.hold(mode, clock.common())
            found.generation += 1
            return "" if change is None else change.state

    def look(self, key: str, rules: Rules) -> tuple[str, float, float] | None:
        """Return state, failure ratio and slow ratio of a circuit; None if nobody asked it for leave yet."""
        with self._held(key) as state:
            return None if state.value is None else _Circuit(rules, state.value).circuit.read(clock.common())

    def known(self, key: str) -> Any:
        """Return a state as it is kept; None if nobody asked for it yet."""
        with self._held(key) as state:
            return state.value

    def slots(self, key: str) -> tuple[int, int]:
        """Return how many slots of a bulkhead are in use, and how many wait for one."""
        slots, queue = self.known(key) or ({}, {})
        return sum(map(_lives, slots.values())), sum(clock.common() - seen <= SILENCE for seen in queue.values())

    async def take(self, runtime: Runtime, key: str, token: str, limit: int, room: int) -> tuple[str, int, int]:
        with self._held(key) as state:
            now, (slots, queue) = clock.common(), state.value or ({}, {})
            slots = {each: process for each, process in slots.items() if _lives(process)}
            queue = {each: seen for each, seen in queue.items() if each == token or now - seen <= SILENCE}
            before = list(queue).index(token) if token in queue else len(queue)
            verdict = "queued"
            if len(slots) + before < limit:
                verdict, slots[token] = "taken", os.getpid()
                queue.pop(token, None)
            elif token not in queue and len(queue) >= room:
                verdict = "full"
            else:
                queue[token] = now
            state.value = slots, queue
            return verdict, len(slots), len(queue)

    async def leave(self, runtime: Runtime, key: str, token: str) -> None:
        with self._held(key) as state:
            for each in state.value or ():
                each.pop(token, None)
            state.value = state.value and tuple(state.value)

    def renew(self, key: str, tokens: Sequence[str]) -> None:
        """A slot needs no renewal."""

    @contextmanager
    def _circuit(self, key: str, rules: Rules) -> Iterator[_Circuit]:
        with self._held(key) as state:
            found = _Circuit(rules, state.value)
            yield found
            state.value = found.saved()

    @contextmanager
    def _held(self, key: str) -> Iterator[_State]:
        """Hold the state of a name; what it is at the end is kept."""
        with self._lock:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
            try:
                place = self._find(blake2b(key.encode(), digest_size=DIGEST).digest())
                state = _State(self._read(place))
                yield state
                self._write(place, pickle.dumps(state.value, protocol=5), key)
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def _find(self, digest: bytes) -> int:
        first = int.from_bytes(digest[:4], "little")
        for n in range(LOOK):
            place = (first + n) % RECORDS * RECORD
            held = self._map[place : place + DIGEST]
            if held == digest:
                return place
            if held == EMPTY:
                break
        else:
            place = first % RECORDS * RECORD
        self._map[place : place + HEAD] = digest + bytes(HEAD - DIGEST)
        return place

    def _read(self, place: int) -> Any:
        """Return what counts: the half that the head says, 1 or 2; 0 where nothing was written yet."""
        which = self._map[place + DIGEST]
        if not which:
            return None
        start, length = place + HEAD + (which - 1) * HALF, place + DIGEST + 4 * which
        end = start + int.from_bytes(self._map[length : length + 4], "little")
        return pickle.loads(self._map[start:end])  # noqa: S301 - memory only our own processes have

    def _write(self, place: int, payload: bytes, key: str) -> None:
        if len(payload) > HALF:
            why = f"{len(payload)} bytes, and a map has room for {HALF}; take a smaller calls=, limit or max_queue=, or"
            raise StateError(key.rpartition(":")[2], f'{why} give store="redis://…" and a name=')
        which = 1 if self._map[place + DIGEST] == 2 else 2
        start, length = place + HEAD + (which - 1) * HALF, place + DIGEST + 4 * which
        self._map[start : start + len(payload)] = payload
        self._map[length : length + 4] = len(payload).to_bytes(4, "little")
        self._map[place + DIGEST] = which


class _State:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Circuit:
    """A circuit as it was kept, and the number of its changes, by which other processes know their permits."""

    def __init__(self, rules: Rules, kept: Any) -> None:
        self.circuit = circuit.Circuit(rules)
        self.generation = 0
        if kept is not None:
            self.generation, attributes = kept
            self.circuit.__dict__.update(attributes)

    def saved(self) -> Any:
        """Return what must be kept: all but the rules and the lock."""
        return self.generation, {k: v for k, v in self.circuit.__dict__.items() if k not in {"rules", "_lock"}}


def _by_interval(rates: Sequence[tuple[float, float]], dues: Sequence[float]) -> dict[float, float]:
    return {interval: due for (interval, _), due in zip(rates, dues, strict=True)}


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
