"""Policies one after the other, for those who like to build: `opero.build().retry(3).circuit_breaker()`."""

from __future__ import annotations

from importlib import import_module

from opero import settings
from opero.decorators import decorate, is_decorable
from opero.errors import ConfigurationError
from opero.policy import Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ParamSpec, TypeVar, Unpack

    from opero.decorators import Decorated
    from opero.objectives import SLO
    from opero.settings import Settings

    P = ParamSpec("P")
    R = TypeVar("R")
    Step = tuple[str, tuple[Any, ...], dict[str, Any]]


class Builder:
    """What a function is to be given. Never changes: each step returns another builder.

    Use it as a decorator, or give it to `@opero` with keywords that go before it. Policies are made anew for each
    function. Each step takes what the policy of its name takes.

    Example:
        >>> polite = build().retry(2).timeout(10.0).rate_limit("100/s")
        >>> @polite
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double(21)
        42
    """

    __slots__ = ("_keywords", "_steps")
    complete = True  # nothing is retried that it does not say

    def __init__(self, steps: tuple[Step, ...] = (), keywords: Mapping[str, Any] | None = None) -> None:
        self._steps = steps
        self._keywords = dict(keywords or {})

    def retry(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Retry`."""
        return self._with("Retry", args, settings)

    def retry_budget(self, *args: Any, **settings: Any) -> Builder:
        """Add a `RetryBudget`."""
        return self._with("RetryBudget", args, settings)

    def timeout(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Timeout` for the whole call."""
        return self._with("Timeout", args, settings)

    def attempt_timeout(self, seconds: float, **settings: Any) -> Builder:
        """Add a `Timeout` for each attempt."""
        return self._with("Timeout", (), {"attempt": seconds, **settings})

    def circuit_breaker(self, *args: Any, **settings: Any) -> Builder:
        """Add a `CircuitBreaker`."""
        return self._with("CircuitBreaker", args, settings)

    def rate_limit(self, *args: Any, **settings: Any) -> Builder:
        """Add a `RateLimit`."""
        return self._with("RateLimit", args, settings)

    def bulkhead(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Bulkhead`."""
        return self._with("Bulkhead", args, settings)

    def hedge(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Hedge`."""
        return self._with("Hedge", args, settings)

    def cache(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Cache`."""
        return self._with("Cache", args, settings)

    def fallback(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Fallback`."""
        return self._with("Fallback", args, settings)

    def arg_fallback(self, *args: Any, **settings: Any) -> Builder:
        """Add an `ArgFallback`."""
        return self._with("ArgFallback", args, settings)

    def chaos(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Chaos`."""
        return self._with("Chaos", args, settings)

    def validate(self) -> Builder:
        """Hold the function to its annotations, by pydantic."""
        return self.with_(validate=True)

    def name(self, name: str) -> Builder:
        """Name the operation."""
        return self.with_(name=name)

    def order(self, *places: str) -> Builder:
        """Put the policies in an order of their own, outermost first."""
        return self.with_(order=places)

    def record(self, *parameters: str) -> Builder:
        """Put arguments on spans and events, by the names of their parameters."""
        return self.with_(record=parameters)

    def slo(self, *objectives: float | SLO) -> Builder:
        """Say what callers may expect."""
        return self.with_(slo=objectives)

    def tags(self, *tags: str) -> Builder:
        """Put tags on spans and events."""
        return self.with_(tags=tags)

    def policy(self, policy: Policy) -> Builder:
        """Add a policy as it is: its state is shared by all who use the builder."""
        if not isinstance(policy, Policy):
            raise ConfigurationError("policy", policy, "a policy object like Retry(...)")
        return Builder((*self._steps, ("", (policy,), {})), self._keywords)

    def with_(self, **keywords: Unpack[Settings]) -> Builder:
        """Add keywords of `@opero`, like `name`; they go before the steps."""
        merged = settings.nearer(self._keywords, keywords)
        settings.policies_from((), merged, retries=False)
        return Builder(self._steps, merged)

    def recipe(self, name: str) -> tuple[list[Policy], dict[str, Any]]:
        """Return what it stands for in `@opero`."""
        return [_made(*step) for step in self._steps], dict(self._keywords)

    def __call__(self, function: Callable[P, R]) -> Decorated[P, R]:
        if not is_decorable(function):
            raise ConfigurationError("function", function, "a function to decorate")
        decorated: Decorated[P, R] = decorate(function, (self,), {})
        return decorated

    def __repr__(self) -> str:
        policies, keywords = self.recipe("")
        return (
            f"<build {', '.join([*map(repr, policies), *(f'{k}={settings.shown(v)!r}' for k, v in keywords.items())])}>"
        )

    def _with(self, policy: str, args: tuple[Any, ...], settings: dict[str, Any]) -> Builder:
        _made(policy, args, settings)  # what is wrong is said where it is written
        return Builder((*self._steps, (policy, args, settings)), self._keywords)


def build() -> Builder:
    """Begin with nothing."""
    return Builder()


def _made(policy: str, args: tuple[Any, ...], given: dict[str, Any]) -> Policy:
    if not policy:
        return args[0]  # type: ignore[no-any-return]
    return getattr(import_module("opero"), policy)(*args, **given)  # type: ignore[no-any-return]
