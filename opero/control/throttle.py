"""Client-side throttling: turn away by chance what a service that refuses or fails would turn away dearly.

Over 10 s, with `requests` that wanted to go out, those turned away here included, and `accepts` that the service took:
chance = (requests − 2 accepts) / (requests + 1), .95 at most. So at most half of what reaches the service is refused by
it, and one call in twenty goes on asking whether it is back. Calls that time out count as neither: each of them holds a
slot of the limit meanwhile, which bounds them; a refusal comes back at once, and nothing else would.

Source: Beyer et al., "Site Reliability Engineering", chapter 21, "Handling Overload", 2016.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from opero.control.law import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PARAMETER = "bulkhead.throttle"
K, WINDOW, MOST = 2.0, 10.0, 0.95


class Snapshot(NamedTuple):
    """Calls that wanted to go out since the last one, and those the service took."""

    now: float
    requests: float
    accepts: float


class ThrottleLaw:
    """Computes the chance at which a call is turned away."""

    name = "throttle"

    def __init__(self) -> None:
        self._seen: deque[Snapshot] = deque()

    def decide(self, snapshot: Snapshot) -> Sequence[Wish]:
        """Return the chance for what the last 10 s were like."""
        self._seen.append(snapshot)
        while self._seen[0].now < snapshot.now - WINDOW:
            self._seen.popleft()
        requests = sum(each.requests for each in self._seen)
        accepts = sum(each.accepts for each in self._seen)
        chance = min(MOST, max(0.0, (requests - K * accepts) / (requests + 1)))
        return [Wish(PARAMETER, chance, "refused", {"requests": requests, "accepts": accepts})]
