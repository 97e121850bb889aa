"""Make a function resilient, and see the truth about what it did.

    from opero import opero

    @opero(retries=3, timeout=10.0, circuit_breaker=True)
    def fetch(url: str) -> str: ...

Everything here is imported when it is first asked for; `import opero` itself costs nothing.
"""

from __future__ import annotations

__version__ = "3.0.0.dev0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opero import conditions, errors, events, plugins, presets, stops, testing, waits
    from opero.builder import build
    from opero.config import OperoConfig
    from opero.deadlines import remaining
    from opero.debugging import debug
    from opero.decorators import opero
    from opero.errors import (
        AllFailedError,
        BulkheadFullError,
        CacheError,
        CallTimeout,
        CircuitOpenError,
        ConcurrencyError,
        ConfigurationError,
        DoNotRetry,
        ExecutionError,
        MapError,
        OperoError,
        RateLimitedError,
        Rejected,
        RetryBudgetExhausted,
        RetryNow,
        StateError,
        WorkerLost,
    )
    from opero.events import correlation_id
    from opero.objectives import SLO
    from opero.parallel import opmap
    from opero.primitives.arg_fallback import ArgFallback
    from opero.primitives.bulkhead import Bulkhead
    from opero.primitives.cache import Cache
    from opero.primitives.chaos import Chaos
    from opero.primitives.circuit_breaker import CircuitBreaker
    from opero.primitives.fallback import Fallback
    from opero.primitives.hedge import Hedge
    from opero.primitives.rate_limit import RateLimit
    from opero.primitives.retry import Retry
    from opero.primitives.retry_budget import RetryBudget
    from opero.primitives.timeout import Timeout
    from opero.record import Attempt, attempts
    from opero.stores.cache.keyring import KeyRing
    from opero.strategies import Strategy

_HOMES = {
    "opero": "decorators",
    "opmap": "parallel",
    "OperoConfig": "config",
    "build": "builder",
    "Attempt": "record",
    "attempts": "record",
    "remaining": "deadlines",
    "correlation_id": "events",
    "debug": "debugging",
    "ArgFallback": "primitives.arg_fallback",
    "Bulkhead": "primitives.bulkhead",
    "Chaos": "primitives.chaos",
    "Cache": "primitives.cache",
    "KeyRing": "stores.cache.keyring",
    "CircuitBreaker": "primitives.circuit_breaker",
    "Fallback": "primitives.fallback",
    "Hedge": "primitives.hedge",
    "RateLimit": "primitives.rate_limit",
    "Retry": "primitives.retry",
    "SLO": "objectives",
    "RetryBudget": "primitives.retry_budget",
    "Timeout": "primitives.timeout",
    "Strategy": "strategies",
    "AllFailedError": "errors",
    "BulkheadFullError": "errors",
    "CacheError": "errors",
    "CallTimeout": "errors",
    "CircuitOpenError": "errors",
    "ConcurrencyError": "errors",
    "ConfigurationError": "errors",
    "DoNotRetry": "errors",
    "ExecutionError": "errors",
    "MapError": "errors",
    "OperoError": "errors",
    "RateLimitedError": "errors",
    "Rejected": "errors",
    "RetryBudgetExhausted": "errors",
    "RetryNow": "errors",
    "StateError": "errors",
    "WorkerLost": "errors",
}
_MODULES = ("conditions", "errors", "events", "plugins", "presets", "stops", "testing", "waits")

__all__ = [
    "SLO",
    "AllFailedError",
    "ArgFallback",
    "Attempt",
    "Bulkhead",
    "BulkheadFullError",
    "Cache",
    "CacheError",
    "CallTimeout",
    "Chaos",
    "CircuitBreaker",
    "CircuitOpenError",
    "ConcurrencyError",
    "ConfigurationError",
    "DoNotRetry",
    "ExecutionError",
    "Fallback",
    "Hedge",
    "KeyRing",
    "MapError",
    "OperoConfig",
    "OperoError",
    "RateLimit",
    "RateLimitedError",
    "Rejected",
    "Retry",
    "RetryBudget",
    "RetryBudgetExhausted",
    "RetryNow",
    "StateError",
    "Strategy",
    "Timeout",
    "WorkerLost",
    "attempts",
    "build",
    "conditions",
    "correlation_id",
    "debug",
    "errors",
    "events",
    "opero",
    "opmap",
    "plugins",
    "presets",
    "remaining",
    "stops",
    "testing",
    "waits",
]

_NAMES = __all__
if not TYPE_CHECKING:
    del __all__  # `from opero import *` asks for it: a name that needs pydantic is there where pydantic is


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__all__":
        from importlib.util import find_spec

        return [each for each in _NAMES if each != "OperoConfig" or find_spec("pydantic")]
    if name in _MODULES:
        return import_module(f"opero.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'opero' has no attribute {name!r}")
    value = getattr(import_module(f"opero.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*_NAMES, "__version__"]
