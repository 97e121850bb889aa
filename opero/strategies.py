"""What to do about which error, each with its own limit and wait: `{QuotaError: "rotate", AuthError: "raise"}`."""

from __future__ import annotations

from opero import conditions
from opero.errors import ConfigurationError
from opero.policy import choice, optional, unread, whole
from opero.spelling import read_settings
from opero.waits import Wait, waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opero.waits import WaitLike

RETRY, ROTATE, FALLBACK, RAISE = ACTIONS = ("retry", "rotate", "fallback", "raise")


@read_settings
class Strategy:
    """What to do about one class of errors.

    "retry" calls again; "rotate" goes on with the next alternative of `arg_fallback`, and calls again when all of them
    failed; "fallback" gives up at once, and the fallback answers; "raise" gives up, past any fallback. `limit` retries
    are counted for this class alone; None counts them with all the others. `wait` None waits like all the others.
    """

    def __init__(self, action: str = RETRY, *, limit: int | None = None, wait: WaitLike | None = None) -> None:
        self.action: str = choice("action", action, ACTIONS)
        if action in {FALLBACK, RAISE}:
            unread("limit", limit, None, f"with {action!r}, which gives up at once")
            unread("wait", wait, None, f"with {action!r}, which gives up at once")
        self.limit: int | None = optional(whole, "limit", limit, low=0)
        self.wait: Wait | None = None if wait is None else waiting("wait", wait)

    def __repr__(self) -> str:
        return f"Strategy({self.action!r}, limit={self.limit}, wait={self.wait})"


class Strategies:
    """The first entry that matches an error says what to do about it."""

    def __init__(self, given: Mapping[Any, Strategy | str] | None) -> None:
        if given is not None and not hasattr(given, "items"):
            raise ConfigurationError("strategies", given, "a mapping of exception types to a Strategy or an action")
        self.entries = tuple(
            (conditions.of("strategies", key), value if isinstance(value, Strategy) else Strategy(value))
            for key, value in (given or {}).items()
        )
        conditions.in_order("strategies", given or {})

    def of(self, error: BaseException) -> Strategy | None:
        """Return what was said about this error."""
        for matches, strategy in self.entries:
            if matches(error):
                return strategy
        return None

    def has(self, action: str) -> bool:
        """Whether any entry says so."""
        return any(strategy.action == action for _, strategy in self.entries)
