"""The scenarios by their numbers in the design, with what each is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.simulation import amplification, hedging, layers, limits, metastable, overload, s6, worker_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Figures = Mapping[str, float]
    Gates = Mapping[str, tuple[str, float]]


def workers(seed: int, *, short: bool = False) -> dict[str, float]:  # noqa: ARG001 - has one form
    """S8: the share of the best fixed size, by phase."""
    shares = worker_pool.shares(seed)
    return dict(zip(WORKERS, shares, strict=True))


def batches(seed: int, *, short: bool = False) -> dict[str, float]:  # noqa: ARG001 - has one form
    """S6: the worst phase, of a device that time binds and one that memory binds."""
    phases = [phase for limits in ((400, 200, 400), (120, 60, 120)) for phase in s6.run(seed, limits)]
    worst = (
        min(phase.throughput for phase in phases),
        max(phase.misses for phase in phases),
        max(float(phase.out_of_memory) for phase in phases),
    )
    return dict(zip(BATCHES, worst, strict=True))


WORKERS: Gates = {f"of the best size at {capacity}": (">=", worker_pool.GATE) for capacity in worker_pool.PHASES}
BATCHES: Gates = {"of the oracle": (">=", 0.95), "steady misses": ("<=", 0.06), "out of memory": ("<=", 3.0)}

SCENARIOS: Mapping[str, tuple[Callable[..., Figures], Gates]] = {
    "s1": (amplification.figures, amplification.GATES),
    "s2": (metastable.figures, metastable.GATES),
    "s3": (limits.figures, limits.GATES),
    "s4": (overload.figures, overload.GATES),
    "s5": (hedging.figures, hedging.GATES),
    "s6": (batches, BATCHES),
    "s8": (workers, WORKERS),
    "s10": (layers.figures, layers.GATES),
}
PLOTS = {"s1": amplification.plot, "s2": metastable.plot, "s3": limits.plot, "s4": overload.plot}


def met(figure: float, gate: tuple[str, float]) -> bool:
    """Whether a figure is on the right side of its gate."""
    way, bound = gate
    return figure <= bound if way == "<=" else figure >= bound
