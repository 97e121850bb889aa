"""What the flat paths count, in as few additions a call as say everything; a book tells what they amount to."""

from __future__ import annotations

from _bisect import bisect_left
from collections import defaultdict

from opero.call import ATTEMPT_DURATION, ATTEMPT_STARTED, CALL_ATTEMPTS, DURATION, REJECTED, STARTED
from opero.signals import ATTEMPTS, REJECTIONS, SECONDS
from opero.windows import LatencyHistogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeVar

    from opero.signals import Attributes

    Key = tuple[str, Attributes]
    N = TypeVar("N", int, float)


class Tally:
    """The calls of the fast path, which all went alike: begun, and returned in their only attempt.

    Two additions a call say everything: `started[0]` and one bucket of `latency`; `total[0]` is the seconds they took.
    `passed` are the distributions, and their lengths, in which each of them counts as a 0: it did not wait at any gate.
    `refused[0]` are those that a gate refused at once, in no time, for the reason `refusal`; `answers[0]` those that a
    cache answered as fast, which count as `answered`.
    """

    __slots__ = ("answered", "answers", "latency", "marks", "passed", "refusal", "refused", "started", "total")

    def __init__(self, marks: tuple[float, ...]) -> None:
        self.started = [0]
        self.total = [0.0]
        self.refused = [0]
        self.refusal: tuple[str, str, str] | None = None
        self.answers = [0]
        self.answered: Key | None = None
        self.marks = marks
        self.latency = LatencyHistogram(marks)
        self.passed: dict[Key, int] = {}

    def clear(self) -> None:
        """Start at zero, in place: generated code holds the lists."""
        self.started[0], self.total[0], self.refused[0], self.answers[0] = 0, 0.0, 0, 0
        self.latency.counts[:] = [0] * len(self.latency.counts)

    def into(self, sums: dict[Key, float], distributions: dict[Key, list[float]]) -> list[int]:
        """Add what these calls amount to, and return their latencies in buckets.

        What ended is read before what began, so that nothing ends that did not begin.
        """
        latency, seconds = self.latency.copy(), self.total[0]
        counts = latency.below(SECONDS)
        ended = sum(counts)
        if ended:
            add(distributions, (DURATION.name, ("ok", "")), [*latency.below(self.marks), seconds])
            add(distributions, (ATTEMPT_DURATION.name, ("ok", "")), [*counts, seconds])
            add(distributions, (CALL_ATTEMPTS.name, ("ok",)), [ended, *[0] * len(ATTEMPTS), ended])
        refused, answers, begun = self.refused[0], self.answers[0], self.started[0]
        for event, number in ((STARTED, begun + refused + answers), (ATTEMPT_STARTED, begun)):
            count_in(sums, event.key, number)
        if begun:
            for key, size in self.passed.items():
                add(distributions, key, [begun, *[0] * (size - 1)])
        if self.refusal is not None and refused:
            kind, reason, error = self.refusal
            for key in ((REJECTIONS.name, (kind, reason)), REJECTED.key):
                count_in(sums, key, refused)
            self._at_once(distributions, "rejected", error, refused)
        if self.answered is not None and answers:
            count_in(sums, self.answered, answers)
            self._at_once(distributions, "cached", "", answers)
        latency.counts[0] += refused + answers
        return latency.counts

    def _at_once(self, distributions: dict[Key, list[float]], outcome: str, error: str, calls: int) -> None:
        """Add calls that ended in no time and without an attempt."""
        add(distributions, (DURATION.name, (outcome, error)), [calls, *[0] * (len(self.marks) + 1)])
        add(distributions, (CALL_ATTEMPTS.name, (outcome,)), [calls, *[0] * (len(ATTEMPTS) + 1)])


class Failing:
    """The attempts of the failing path that ended with one type of error, and the calls that gave up on it.

    Each of those made `made` attempts. `attempts[i]` and `ends[i]` are how many took as long as bucket i says, `trying`
    and `seconds` what they took together; `at_once` the waits of no time between them.
    """

    __slots__ = ("at_once", "attempts", "ends", "error", "gave_up", "made", "seconds", "trying", "waits")

    def __init__(self, error: str, gave_up: Key, made: int, waits: Key) -> None:
        self.error = error
        self.gave_up = gave_up
        self.made = made
        self.waits = waits
        self.attempts = [0] * (len(SECONDS) + 1)
        self.trying = 0.0
        self.ends: defaultdict[int, int] = defaultdict(int)
        self.seconds = 0.0
        self.at_once = 0

    def into(
        self, tally: Tally, sums: dict[Key, float], distributions: dict[Key, list[float]], latencies: dict[int, int]
    ) -> None:
        """Add what these amount to; `tally` has the bounds of the buckets."""
        if any(self.attempts):
            row = [*self.attempts, self.trying]
            add(distributions, (ATTEMPT_DURATION.name, ("retryable", self.error)), row)
        if self.at_once:
            add(distributions, self.waits, [self.at_once, *[0] * (len(SECONDS) + 1)])
            count_in(sums, ATTEMPT_STARTED.key, self.at_once)
        ends, durations = self.ends.copy(), [0.0] * (len(tally.marks) + 2)
        calls = sum(ends.values())
        if not calls:
            return
        for index, ended in ends.items():
            durations[bisect_left(tally.marks, tally.latency.bound(index))] += ended
            latencies[index] += ended
        durations[-1] = self.seconds
        tries = [0.0] * (len(ATTEMPTS) + 2)
        tries[bisect_left(ATTEMPTS, self.made)], tries[-1] = calls, calls * self.made
        add(distributions, (DURATION.name, ("error", self.error)), durations)
        add(distributions, (CALL_ATTEMPTS.name, ("error",)), tries)
        count_in(sums, self.gave_up, calls)

    def cut(self) -> Failing:
        """Take out what there is."""
        out = Failing(self.error, self.gave_up, self.made, self.waits)
        out.attempts = [take(self.attempts, index) for index in range(len(self.attempts))]
        for index in list(self.ends):
            out.ends[index] = take(self.ends, index)
        out.trying, out.seconds, out.at_once = self.trying, self.seconds, self.at_once
        self.trying -= out.trying
        self.seconds -= out.seconds
        self.at_once -= out.at_once
        return out


def count_in(sums: dict[Key, float], key: Key, amount: float) -> None:
    """Add to a sum of a copy."""
    sums[key] = sums.get(key, 0) + amount


def add(distributions: dict[Key, list[float]], key: Key, counts: Sequence[float]) -> None:
    """Add to a distribution of a copy."""
    distributions[key] = plus(counts, distributions.get(key))


def plus(counts: Sequence[N], others: Sequence[N] | None) -> list[N]:
    """Add two distributions."""
    return [a + b for a, b in zip(counts, others, strict=True)] if others else list(counts)


def minus(counts: Sequence[float], others: Sequence[float] | None) -> list[float]:
    """Subtract a distribution."""
    return [a - b for a, b in zip(counts, others, strict=True)] if others else list(counts)


def take(held: Any, place: Any) -> Any:
    """Take out what is there: what comes while we look stays."""
    amount = held[place]
    held[place] -= amount
    return amount
