"""Settings that fit a kind of dependency, to begin with. A keyword changes one of them; `repr` shows them all.

@opero.presets.http(timeout=5.0)
def fetch(url: str) -> httpx.Response: ...
"""

from __future__ import annotations

from opero import conditions, databases, responses, settings, waits
from opero.builder import build
from opero.errors import ConfigurationError
from opero.kinds import dress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar, Unpack, overload

    from opero.builder import Builder
    from opero.decorators import Decorated
    from opero.policy import Policy
    from opero.settings import Settings

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["Preset", "database", "http", "llm", "queue"]


def __dir__() -> list[str]:
    return __all__


TRANSPORT = {"httpx", "httpcore", "requests", "urllib3", "urllib", "aiohttp", "grpc", "botocore"}
BUSY = (429, 500, 502, 503, 504)


class Preset:
    """Makes a builder from keywords; without parentheses it decorates, and goes into `@opero`, as it is."""

    complete = True  # as a builder

    def __init__(self, make: Callable[..., Builder]) -> None:
        dress(self, make)
        self._make = make

    if TYPE_CHECKING:

        @overload
        def __call__(self, function: Callable[P, R], /) -> Decorated[P, R]: ...
        @overload
        def __call__(self, **keywords: Unpack[Settings]) -> Builder: ...

    def __call__(self, *given: Any, **keywords: Any) -> Any:
        if len(given) > 1 or (given and keywords):
            name = self._make.__name__
            raise ConfigurationError(name, given, "keywords of @opero, or one function and nothing else")
        return self._make()(*given) if given else self._make(**keywords)

    def recipe(self, name: str) -> tuple[list[Policy], dict[str, Any]]:
        """Return what it stands for in `@opero`."""
        return self._make().recipe(name)

    def __repr__(self) -> str:
        return f"<preset {self._make.__name__}: {self._make()!r}>"


@Preset
def http(**keywords: Unpack[Settings]) -> Builder:
    """Make a builder for calls of a service over HTTP that may be repeated.

    Three retries of transport errors and of the statuses 408, 425, 429, 500, 502, 503 and 504, as Retry-After says or
    from 0.2 s on; 10 s an attempt, 30 s in all; a circuit breaker that an answer like 404 does not open.
    """
    failed = conditions.of("retry_on", _transport) | conditions.status(408, 425, *BUSY)
    return _with(
        build().circuit_breaker(on=failed),
        _as_told(keywords, low=0.2, high=10.0, longest=30.0),
        retries=3,
        retry_on=failed,
        attempt_timeout=10.0,
        timeout=30.0,
    )


@Preset
def database(**keywords: Unpack[Settings]) -> Builder:
    """Make a builder for transactions of a database; the function is the whole transaction.

    Four quick retries of lost connections, serialization failures, deadlocks and locks, nothing else; 10 s in all; at
    most 20 at once, 100 more wait for 5 s.
    """
    return _with(
        build().bulkhead(20, max_queue=100, max_wait=5.0),
        keywords,
        retries=4,
        backoff="exponential",
        min_delay=0.02,
        max_delay=1.0,
        backoff_factor=2.0,
        retry_on=databases.passes,
        timeout=10.0,
    )


@Preset
def llm(**keywords: Unpack[Settings]) -> Builder:
    """Make a builder for calls of a language model.

    Five patient retries of transport errors, 429 and 5xx, as Retry-After says or from 1 s on; 60 s an attempt, 180 s in
    all; at most 8 at once, 100 more wait.
    """
    return _with(
        build().bulkhead(8, max_queue=100),
        _as_told(keywords, low=1.0, high=30.0, longest=60.0),
        retries=5,
        retry_on=conditions.of("retry_on", _transport) | conditions.status(408, 409, 529, *BUSY),
        attempt_timeout=60.0,
        timeout=180.0,
    )


@Preset
def queue(**keywords: Unpack[Settings]) -> Builder:
    """Make a builder for work taken from a queue, where nobody waits and giving up is what costs.

    Ten retries of anything, from 0.5 s to a minute, decorrelated; 120 s an attempt; a circuit breaker.
    """
    return _with(
        build(),
        keywords,
        retries=10,
        backoff="decorrelated_jitter",
        min_delay=0.5,
        max_delay=60.0,
        attempt_timeout=120.0,
        circuit_breaker=True,
    )


def _with(builder: Builder, keywords: Any, **defaults: Any) -> Builder:
    return builder.with_(**defaults).with_(**keywords)


def _as_told(keywords: Any, *, low: float, high: float, longest: float) -> Any:
    """Return keywords that wait as Retry-After says, else exponentially, by the delays among them."""
    if "backoff" in keywords:
        return keywords
    delays = {"min_delay": low, "max_delay": high, "backoff_factor": 2.0}
    wait = settings.wait_of("exponential", {keyword: keywords.pop(keyword, delays[keyword]) for keyword in delays})
    return {**keywords, "backoff": waits.retry_after(wait, high=longest)}


def _transport(error: BaseException) -> bool:
    """Whether a request got no answer: an error of the operating system, or of a client library that has no status."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    package = type(error).__module__.partition(".")[0]
    wrong = any(part in type(error).__name__ for part in ("Invalid", "Unsupported", "Schema", "Cookie", "Redirects"))
    return package in TRANSPORT and responses.status(error) is None and not wrong
