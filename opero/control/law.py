"""What a control law is: it reads a snapshot and says where it would have knobs. Everything else is the loop's.

1. A law is pure: no clock, thread, lock or I/O. The time is `snapshot.now`; memory of its own is fine.
2. It defines the snapshot it reads beside itself: a named tuple whose first field is `now`, in monotonic seconds.
3. It wishes what it computes, and never clamps to a knob's bounds; a NaN is a wish nobody grants.
4. A wish for the value a knob has says that the law has looked, and is content. No wish: it does not know.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    class Law(Protocol):
        """Decides where knobs should be."""

        name: str  # "retry_budget", "concurrency", "pool_size", "batch_size"; a plugin's own

        def decide(self, snapshot: Any, /) -> Sequence[Wish]:
            """Return what it wishes, on what this snapshot says."""
            raise NotImplementedError


class Wish(NamedTuple):
    """Where a law would have a knob, and why.

    `parameter` is the knob's name, `reason` fixed words ("efficacy", "slo_burn", "binding", "drops", "contention",
    "probe" …), `inputs` the numbers it was decided on.

    Example:
        >>> Wish("bulkhead.limit", 12.0, "binding", {"p95": 0.08}).value
        12.0
    """

    parameter: str
    value: float
    reason: str
    inputs: Mapping[str, float]
