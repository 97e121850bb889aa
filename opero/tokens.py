"""Tokens that pay for retries: what a retry budget is, without anybody who spends. Pure but for the lock.

In t seconds with s successes `ratio * s + trickle * t` tokens come in. They are kept up to a cap of what comes in from
the successes of `HORIZON` seconds, between `FLOOR` and `most`: these three are the law.
"""

from __future__ import annotations

from math import exp

from opero import forks
from opero.exclusive import exclusive, hand_back, new_lock
from opero.knobs import Knob

HORIZON = 10.0  # seconds over which successes fade
FLOOR = 10.0  # tokens that may be kept however little succeeds


def opening(most: float) -> float:
    """How many there are at first."""
    return min(FLOOR, most)


def gathered(
    law: tuple[float, float, float], left: float, successes: float, passed: float, count: int
) -> tuple[float, float, float]:
    """Return tokens, fading successes and cap, after so many seconds with so many new successes."""
    ratio, trickle, most = law
    faded = exp(-passed / HORIZON)
    spread = HORIZON * (1.0 - faded) / passed if passed else 1.0  # as if they had come evenly
    successes = successes * faded + count * spread
    cap = min(most, max(FLOOR, ratio * successes))
    return min(cap, left + ratio * count + trickle * passed), successes, cap


def enough(left: float, cost: float) -> bool:
    """Whether they pay for it."""
    return left + 1e-9 >= cost


def spent(left: float, cap: float) -> float:
    """Return the share that is spent, from 0 to 1."""
    return 1.0 - max(0.0, left) / cap


class Tokens:
    """The state: tokens, and how much succeeded of late. Time is an argument; the lock is held for arithmetic only.

    Successes are only counted (`funding[0] += 1`), and turned into tokens when somebody asks for some.
    """

    def __init__(self, ratio: float, min_per_second: float, cap: float) -> None:
        self.ratio = Knob("retry_budget.ratio", ratio, low=min(ratio, 0.02), high=max(ratio, 0.2))
        self.min_per_second = min_per_second
        self.most = cap
        self.left = self.cap = opening(cap)
        self.successes = 0.0  # of the last `HORIZON` seconds, fading
        self.since: float | None = None
        self.funding = [0]
        self.gathered = 0  # successes, ever
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew."""
        self._lock = new_lock()

    @exclusive
    def fund(self) -> None:
        """Count a success that needed one attempt."""
        self.funding[0] += 1

    def gather(self, now: float) -> int:
        """Turn successes into tokens; return how many there ever were."""
        with self._lock:
            self._gather_locked(now)
            return self.gathered

    def reserve(self, now: float, cost: float) -> bool:
        """Take so many tokens, if there are."""
        with self._lock:
            self._gather_locked(now)
            if not enough(self.left, cost):
                return False
            self.left -= cost
            return True

    def refund(self, cost: float) -> None:
        """Put tokens back."""
        hand_back(self._lock, self._refund_locked, cost)

    def utilization(self, now: float) -> float:
        """Return the share that is spent, from 0 to 1."""
        with self._lock:
            self._gather_locked(now)
            return spent(self.left, self.cap)

    def wait_for(self, cost: float) -> float | None:
        """Seconds until the trickle alone brings so many; None without one."""
        with self._lock:
            return max(0.0, cost - self.left) / self.min_per_second if self.min_per_second else None

    def _refund_locked(self, cost: float) -> None:
        self.left = min(self.cap, self.left + cost)

    def _gather_locked(self, now: float) -> None:
        passed = 0.0 if self.since is None else max(0.0, now - self.since)
        self.since = now
        count = self.funding[0]
        self.funding[0] -= count
        self.gathered += count
        law = self.ratio.value, self.min_per_second, self.most
        self.left, self.successes, self.cap = gathered(law, self.left, self.successes, passed, count)
