"""What callers may expect of an operation, as a value: `slo=SLO(0.999, latency=0.3)`. `opero_slo` judges by it."""

from __future__ import annotations

from math import isfinite

from opero.errors import ConfigurationError
from opero.signals import SECONDS
from opero.spelling import read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

OUTCOMES = ("ok", "error", "timeout", "rejected", "fallback", "cached")
ANSWERED = ("ok", "cached", "fallback")
UNITS = "mhdwMQY"

_burning: dict[tuple[str, str], tuple[float, float]] = {}  # (operation or pattern, objective) → burn rate, until when
_expected: list[tuple[str, float]] = []  # (operation or pattern, seconds): thresholds of specifications that were read


@read_settings
class SLO:
    """The share `objective` of calls is answered, within `latency` seconds if that is given, over a rolling `window`.

    A call is good when its outcome is one of `good`; cancelled calls do not count. The window is a text like "30d" or
    "4w". `latency` becomes a bound of the operation's histogram, so what is counted is exact.

    Example:
        >>> SLO(0.999, latency=0.3)
        SLO(objective=0.999, latency=0.3, window='30d', good=('ok', 'cached', 'fallback'), name=None)
    """

    __slots__ = ("good", "latency", "name", "objective", "window")

    def __init__(
        self,
        objective: float,
        *,
        latency: float | None = None,
        window: str = "30d",
        good: Iterable[str] = ANSWERED,
        name: str | None = None,
    ) -> None:
        outcomes = (good,) if isinstance(good, str) else tuple(good) if hasattr(good, "__iter__") else ()
        if not _number(objective) or not 0 < objective < 1:
            raise ConfigurationError("objective", objective, "the share of good calls, above 0 and below 1, like 0.999")
        if latency is not None and (not _number(latency) or latency <= 0):
            raise ConfigurationError("latency", latency, "seconds, above 0, or None")
        if not _text(window) or not window[:-1].isdecimal() or window[0] == "0" or window[-1] not in UNITS:
            raise ConfigurationError("window", window, 'a number and m, h, d, w, M, Q or Y, like "30d"')
        if not outcomes or not all(each in OUTCOMES for each in outcomes):
            raise ConfigurationError("good", good, f"outcomes of calls: {', '.join(OUTCOMES)}")
        if name is not None and not _text(name):
            raise ConfigurationError("name", name, "a text that is not empty")
        given = {"objective": float(objective), "latency": latency, "window": window, "good": outcomes, "name": name}
        for field, value in given.items():
            object.__setattr__(self, field, value)

    if TYPE_CHECKING:
        objective: float
        latency: float | None
        window: str
        good: tuple[str, ...]
        name: str | None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"SLO.{name}: objectives are frozen; make another one")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SLO) and _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, _values(self)

    def __repr__(self) -> str:
        fields = ("objective", "latency", "window", "good", "name")
        return f"SLO({', '.join(f'{field}={getattr(self, field)!r}' for field in fields)})"


def of(value: Any) -> tuple[SLO, ...]:
    """Return the objectives that `slo=` was given: an `SLO`, a share like 0.999, a list of them, or None."""
    if value is None:
        return ()
    found = tuple(SLO(v) if _number(v) else v for v in (value if isinstance(value, list | tuple) else [value]))
    for slo in found:
        if not isinstance(slo, SLO):
            raise ConfigurationError("slo", slo, "an SLO, a share of good calls like 0.999, or a list of them")
    return found


def expect(operation: str, latency: float) -> None:
    """Let operations decorated from now on, whose names match (`*` is any run of characters), keep this bound."""
    if (operation, latency) not in _expected:
        _expected.append((operation, latency))


def judged(operation: str, objective: str, burn: float, until: float) -> None:
    """Take down how many times too fast an error budget is spent; who judges says until when (monotonic) that holds."""
    _burning[operation, objective] = (burn, until)


def burn(operation: str, now: float) -> float | None:
    """Return how many times too fast the error budget of an operation is spent, the worst; None where nobody knows."""
    if not _burning:
        return None
    from fnmatch import fnmatchcase

    held = [b for (of, _), (b, until) in _burning.items() if now < until and fnmatchcase(operation, of)]
    return max(held, default=None)


def bounds(operation: str, slos: Iterable[SLO]) -> tuple[float, ...]:
    """Return the bounds of an operation's durations: the usual ones, and every threshold."""
    own = {slo.latency for slo in slos if slo.latency is not None}
    if _expected:
        from fnmatch import fnmatchcase

        own.update(seconds for pattern, seconds in _expected if fnmatchcase(operation, pattern))
    return tuple(sorted({*SECONDS, *own})) if own else SECONDS


def _values(slo: SLO) -> tuple[Any, ...]:
    return slo.objective, slo.latency, slo.window, slo.good, slo.name


def _rebuild(objective: float, latency: float | None, window: str, good: tuple[str, ...], name: str | None) -> SLO:
    return SLO(objective, latency=latency, window=window, good=good, name=name)


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
