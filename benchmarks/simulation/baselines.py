"""What others' laws do in the same scenarios, with the same seed: one table each, no gates.

Budgets: attempts a call in the first 10 s and in the second half of an outage, the share answered while 10 % fail (S1),
and the seconds S2 takes to recover. Limits: the use of the capacity, the limit over the servers, and p99 over the
objective, at 4 times of the capacity (S3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.simulation import amplification, limits, metastable
from benchmarks.simulation.peers import BUDGETS, LIMITS, PeerBudget
from opero import Bulkhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Row = tuple[str, tuple[float, ...]]
BUDGET_FIGURES = ("amp 0-10 s", "amp later", "answered", "S2 recovers in s")
LIMIT_FIGURES = ("capacity used", "limit / servers", "p99 / objective")


def budgets(seed: int) -> Iterator[Callable[[], Row]]:
    """Yield what makes a row for each budget."""
    made: dict[str, Any] = {
        "no budget": lambda: None,
        **{name: lambda law=law: PeerBudget(law()) for name, law in BUDGETS.items()},
        "Opero": lambda: "adaptive",
        "Opero, and a limit": lambda: "adaptive",
    }
    for name, budget in made.items():
        limit = metastable.ADAPTIVE if "limit" in name else {}
        yield lambda name=name, budget=budget, limit=limit: (name, _budget(seed, budget, limit))  # type: ignore[misc]


def _budget(seed: int, budget: Callable[[], Any], limit: dict[str, Any]) -> tuple[float, ...]:
    client, start, end = amplification.play(seed, short=True, budget=budget())
    last = max(outcome.at for outcome in client.outcomes)
    outage = client.amplification(start, start + 10), client.amplification((start + end) / 2, end)
    after = 90.0
    recovered = metastable.recovery(metastable.play(seed, after=after, **{**limit, "retry_budget": budget()}), after)
    return (*outage, client.share(end + 10, last), recovered)


def tables(seed: int) -> Iterator[tuple[tuple[str, ...], list[Callable[[], Row]]]]:
    """Yield the heads of the columns, and what makes the rows."""
    yield BUDGET_FIGURES, list(budgets(seed))
    yield LIMIT_FIGURES, list(limiters(seed))


def limiters(seed: int) -> Iterator[Callable[[], Row]]:
    """Yield what makes a row for each limit."""
    for name, law in {**LIMITS, "Opero": None}.items():
        yield lambda name=name, law=law: (name, _limit(seed, name, law))  # type: ignore[misc]


def _limit(seed: int, name: str, law: Callable[[], Any] | None) -> tuple[float, ...]:
    setting = limits.SETTINGS[0]
    run = limits.Run(seed, setting, name, policy=None if law is None else Bulkhead(20, max_queue=0))
    if law is not None:
        run.follow(law())
    end = limits.WARM + 60.0
    run.client.offer(4 * run.capacity, end)
    run.world.run(end)
    late = [limit for at, limit in run.limits if at > limits.WARM]
    mean = sum(late) / len(late) / setting.servers
    return run.throughput(limits.WARM, end) / run.capacity, mean, run.late(limits.WARM, end)
