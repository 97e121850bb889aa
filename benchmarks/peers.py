"""The same work by other libraries; what is not installed is left out (`pip install --group peers`)."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Subjects = dict[str, Callable[[int], Any]]


def plain(work: Callable[[int], int]) -> Subjects:
    """Retry, breaker and limit around a plain function."""
    found: Subjects = {}
    if there("tenacity"):
        import tenacity

        found["tenacity, retry alone"] = tenacity.retry(stop=tenacity.stop_after_attempt(4))(work)
    if there("stamina"):
        import stamina

        found["stamina, retry alone"] = stamina.retry(on=ValueError, attempts=4)(work)
    if there("backoff"):
        import backoff

        found["backoff, retry alone"] = backoff.on_exception(backoff.expo, ValueError, max_tries=4)(work)
    if there("circuitbreaker"):
        import circuitbreaker

        found["circuitbreaker alone"] = circuitbreaker.CircuitBreaker()(work)
    if there("pyresilience"):
        found["pyresilience, breaker, limit"] = _pyresilience()(work)
        found["pyresilience, breaker, limit, metrics"] = _pyresilience(metrics=True)(work)
    return found


def coroutine(work: Callable[[int], Any]) -> Subjects:
    """The same around a coroutine function."""
    found: Subjects = {}
    if there("tenacity"):
        import tenacity

        found["tenacity, retry alone"] = tenacity.retry(stop=tenacity.stop_after_attempt(4))(work)
    if there("pyresilience"):
        found["pyresilience, breaker, limit"] = _pyresilience()(work)
    return found


def failing(boom: Callable[[int], int]) -> Subjects:
    """Three attempts without waits."""
    found: Subjects = {}
    if there("tenacity"):
        import tenacity

        found["tenacity"] = tenacity.retry(
            stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none(), reraise=True
        )(boom)
    if there("backoff"):
        import logging

        import backoff

        logging.getLogger("backoff").setLevel(logging.CRITICAL)
        found["backoff"] = backoff.on_exception(backoff.constant, KeyError, max_tries=3, interval=0, jitter=None)(boom)
    if there("pyresilience"):
        import pyresilience as peer

        again = peer.RetryConfig(max_attempts=3, delay=0.0, jitter=False)
        closed = peer.CircuitBreakerConfig(failure_threshold=10**9)
        found["pyresilience"] = peer.resilient(retry=again)(boom)
        found["pyresilience, breaker that stays closed"] = peer.resilient(retry=again, circuit_breaker=closed)(boom)
    return found


def opened(boom: Callable[[int], int]) -> Subjects:
    """A breaker that is open."""
    found: Subjects = {}
    if there("circuitbreaker"):
        import circuitbreaker

        found["circuitbreaker"] = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=1000)(boom)
    if there("pybreaker"):
        import pybreaker

        found["pybreaker"] = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=1000)(boom)
    for function in found.values():
        for _ in range(2):
            with contextlib.suppress(Exception):
                function(0)
    return found


def there(name: str) -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec(name) is not None


def _pyresilience(*, metrics: bool = False) -> Any:
    import pyresilience as peer

    listeners = [peer.MetricsCollector()] if metrics else []
    return peer.resilient(
        retry=peer.RetryConfig(max_attempts=4),
        circuit_breaker=peer.CircuitBreakerConfig(),
        rate_limiter=peer.RateLimiterConfig(max_calls=1_000_000_000, period=1.0),
        listeners=listeners,
    )
