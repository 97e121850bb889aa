"""How many calls may be in flight: as many as a service can work on, and a queue no longer than the objective allows.

1. A window is half a second and 30 calls at least. Throughput X is the 80th percentile of the windows of 10 s, the time
   R of a call nobody waits for the least 10th percentile of the windows of 30 s. By Little's law N = X·R are at work;
   the knee is N + √N, room for chance.
2. The limit binds and p95 is below .8 of the objective: 5 % more; half as many more while it is below the knee.
3. More than 2 % dropped (timed out, refused, connection lost): .9 of it, down to .7 of the knee.
4. p95 above the objective: .9 of it, never below the knee, nor where throughput falls as the limit does: there the
   queue is not what is slow (`slo_unreachable`). For 20 s it stays where all the throughput was, then tries again.
5. More in flight brought less, beyond chance: .9 of it (`contention`).

Source: Little's law; Vegas (Brakmo, Peterson, 1995) for the knee; Netflix concurrency-limits for limits in clients.
"""

from __future__ import annotations

from collections import deque
from math import exp, log, sqrt
from typing import NamedTuple

from opero.control.law import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

PARAMETER = "bulkhead.limit"
SECONDS, ENOUGH = 0.5, 30.0
RATES, TIMES = 10.0, 30.0  # seconds that throughput and the unhindered time are remembered
CALM, DROPPED = 0.8, 0.02
FASTER, UP, DOWN, FLOOR = 1.5, 1.05, 0.9, 0.7
CONTENTION, EVIDENCE, SPREAD = -0.1, 20, 0.05  # elasticity; windows it is seen in; what their limits differ by
STARVING, LATELY, NEEDED = 0.5, 6, 20.0  # elasticity; windows it is seen in; seconds that it is heeded
JUMP = 0.35  # log of a change of throughput that no limit explains
UNKNOWN, CALMEST = 2.0, 300.0  # without an objective: so many times the least p95 of so many seconds


class Snapshot(NamedTuple):
    """What came back since the last one; `p10` and `p95` of the seconds it took, 0 without any.

    `dropped` are calls that timed out or were refused by the service, `pressed` those that found the limit reached.
    `target` is the objective in seconds, None if there is none.
    """

    now: float
    limit: float
    completed: float
    dropped: float = 0.0
    pressed: float = 0.0
    p10: float = 0.0
    p95: float = 0.0
    target: float | None = None


class ConcurrencyLaw:
    """Keeps a limit between the knee and what the objective allows."""

    name = "concurrency"

    def __init__(self) -> None:
        self._start: float | None = None
        self._parts: list[Snapshot] = []
        self._rates: deque[tuple[float, float]] = deque()
        self._times: deque[tuple[float, float]] = deque()
        self._tails: deque[tuple[float, float]] = deque()
        self._bound: deque[tuple[float, float]] = deque(maxlen=EVIDENCE)  # logs of limit and throughput where it bound
        self._least: tuple[float, float] = (0.0, 0.0)  # until when, and what limit the throughput needs

    def decide(self, snapshot: Snapshot) -> Sequence[Wish]:
        """Return the limit, when a window is full."""
        if self._start is None:
            self._start = snapshot.now
            return []
        self._parts.append(snapshot)
        passed = snapshot.now - self._start
        calls = sum(part.completed + part.dropped for part in self._parts)
        if passed < SECONDS or (calls < ENOUGH and passed < RATES):
            return []
        parts, self._parts, self._start = self._parts, [], snapshot.now
        return [self._judged(parts, snapshot, calls, passed)] if calls else []

    def _judged(self, parts: Sequence[Snapshot], last: Snapshot, calls: float, passed: float) -> Wish:
        completed = sum(part.completed for part in parts)
        dropped = 1 - completed / calls
        pressed = sum(part.pressed for part in parts)
        timed = [part for part in parts if part.completed]
        p95 = max((part.p95 for part in timed), default=0.0)
        rate, knee = completed / passed, self._knee(last.now, completed / passed, timed)
        target = last.target if last.target is not None else UNKNOWN * min((t for _, t in self._tails), default=0.0)
        inputs = {"p95": p95, "target": target, "dropped": dropped, "throughput": rate, "knee": knee}
        limit, slope = last.limit, self._slope(last.limit, rate, pressed)
        if dropped > DROPPED:
            return self._less(limit, FLOOR * knee, "drops", inputs)
        if p95 > target:
            return self._less(limit, max(knee, self._needed(last.now, limit, rate)), "slo_exceeded", inputs)
        if slope < CONTENTION:
            self._bound.clear()
            return self._less(limit, knee, "contention", {**inputs, "elasticity": slope})
        if pressed and p95 < CALM * target:
            return Wish(PARAMETER, limit * (FASTER if limit < knee else UP), "binding", inputs)
        return Wish(PARAMETER, limit, "steady", inputs)

    def _less(self, limit: float, floor: float, reason: str, inputs: Mapping[str, float]) -> Wish:
        """Wish for less, but nothing below the floor; and for no more, where it is below already."""
        value = max(limit * DOWN, min(limit, floor))
        if reason == "slo_exceeded" and self._least[1] > limit:
            value = min(self._least[1], limit * FASTER)
        unreachable = value >= limit and reason == "slo_exceeded"
        return Wish(PARAMETER, value, "slo_unreachable" if unreachable else reason, inputs)

    def _knee(self, now: float, rate: float, timed: Sequence[Snapshot]) -> float:
        if timed:  # an outage teaches nothing about what the service can do, and makes nothing forgotten
            self._rates.append((now, rate))
            self._times.append((now, min(part.p10 for part in timed)))
            self._tails.append((now, max(part.p95 for part in timed)))
        memories = ((self._rates, RATES), (self._times, TIMES), (self._tails, CALMEST))
        for known, seconds in memories if timed else ():
            while known and known[0][0] < now - seconds:
                known.popleft()
        if not self._times:
            return 1.0
        rates = sorted(each for _, each in self._rates)
        at_work = rates[min(len(rates) - 1, int(0.8 * len(rates)))] * min(each for _, each in self._times)
        return max(1.0, at_work + sqrt(at_work))

    def _needed(self, now: float, limit: float, rate: float) -> float:
        """Return the limit that the throughput needs, where it was seen to fall with the limit; 0 elsewhere."""
        if self._least[0] <= now:
            self._least = (0.0, 0.0)
        lately = list(self._bound)[-LATELY:]
        slope, _, across = _line(lately) if len(lately) >= LATELY - 2 else (0.0, 0.0, 0.0)
        if across >= SPREAD and slope > STARVING:
            best, most = max(rate for _, rate in self._rates), exp(max(x for x, _ in lately))
            self._least = (now + NEEDED, min(most, limit * best / rate))
        return self._least[1]

    def _slope(self, limit: float, rate: float, pressed: float) -> float:
        """Return the elasticity of throughput by the limit, at the upper end of what chance allows; 0 if unknown.

        A window of 150 calls is off by 8 %, and a step of the limit is 5 %: two windows say nothing, a line says.
        """
        if pressed and rate:
            now = log(limit), log(rate)
            if any(abs(now[1] - y) - abs(now[0] - x) > JUMP for x, y in list(self._bound)[-2:]):
                self._bound.clear()  # the service changed
            self._bound.append(now)
        if len(self._bound) < EVIDENCE // 2:
            return 0.0
        slope, left, across = _line(self._bound)
        return slope + 2 * sqrt(left / across) if across >= SPREAD else 0.0


def _line(points: Collection[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the slope of a line through points, what it leaves unexplained, and how far they lie apart."""
    count = len(points)
    x0, y0 = (sum(values) / count for values in zip(*points, strict=True))
    across = sum((x - x0) ** 2 for x, _ in points)
    slope = sum((x - x0) * (y - y0) for x, y in points) / across if across else 0.0
    left = sum((y - y0 - slope * (x - x0)) ** 2 for x, y in points) / (count - 2) if count > 2 else 0.0
    return slope, left, across
