"""Who uses a policy that a controller turns, and what they did since the last look: sums are read as differences."""

from __future__ import annotations

from _weakref import ref

from opero import objectives
from opero.primitives.retry import SCHEDULED, SUCCEEDED
from opero.signals import REJECTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opero.pipeline import Operation

    Read = Callable[[Operation], Mapping[str, float]]

LIMITERS = {"rate_limiter", "bulkhead"}


class Users:
    """The operations that share a policy, for as long as they live."""

    def __init__(self) -> None:
        self._references: list[ref[Operation]] = []
        self._before: dict[int, Mapping[str, float]] = {}

    def add(self, operation: Operation) -> None:
        """Have one more."""
        number = id(operation)

        def gone(reference: ref[Operation]) -> None:
            self._references.remove(reference)
            self._before.pop(number, None)

        self._references.append(ref(operation, gone))

    def __iter__(self) -> Iterator[Operation]:
        return iter([operation for held in list(self._references) if (operation := held()) is not None])

    def since(self, read: Read) -> dict[str, float]:
        """Return how much more than at the last look each of the sums is, over all operations."""
        found: dict[str, float] = {}
        for operation in self:
            now, before = read(operation), self._before.get(id(operation), {})
            self._before[id(operation)] = now
            for name, amount in now.items():
                new = amount - before.get(name, 0.0)
                found[name] = found.get(name, 0.0) + max(0.0, new)  # a worker's sums are cut out when they travel
        return found

    def burn(self, now: float) -> float | None:
        """Return the worst burn rate of them; None where nobody judges."""
        rates = [objectives.burn(operation.name, now) for operation in self]
        return max((rate for rate in rates if rate is not None), default=None)

    def latency(self) -> float | None:
        """Return the shortest latency of their objectives; None without one."""
        found = [slo.latency for operation in self for slo in operation.slos if slo.latency is not None]
        return min(found, default=None)

    def open(self) -> float:
        """1 while a breaker of one of them is not closed."""
        breakers = [operation.places.get("circuit_breaker") for operation in self]
        return float(any(breaker is not None and breaker.state != "closed" for breaker in breakers))  # type: ignore[attr-defined]


def retries(operation: Operation) -> Mapping[str, float]:
    """Return the sums that tell whether retries help."""
    scheduled, recovered = operation.book.said(SCHEDULED, SUCCEEDED)
    return {"retries": scheduled, "recovered": recovered, "refused": refused(operation, LIMITERS)}


def refused(operation: Operation, kinds: set[str]) -> float:
    """Return how many calls were refused by policies of these kinds."""
    book = operation.book
    sums, tally = book.sums.copy(), book.tally
    counted = sum(n for (metric, labels), n in sums.items() if metric == REJECTIONS.name and labels[0] in kinds)
    quick = tally.refused[0] if tally.refusal is not None and tally.refusal[0] in kinds else 0
    return counted + quick
