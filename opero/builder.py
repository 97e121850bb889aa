"""Policies one after the other, for those who like to build: `opero.build().retry(3).circuit_breaker()`."""

from __future__ import annotations

from inspect import signature

from opero import settings
from opero.decorators import decorate, is_decorable
from opero.errors import ConfigurationError
from opero.objectives import SLO
from opero.policy import Policy
from opero.primitives.chaos import Chaos
from opero.primitives.timeout import Timeout
from opero.spelling import made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, ParamSpec, TypeVar, Unpack

    from opero.decorators import Decorated
    from opero.policy import Duration
    from opero.settings import Settings

    P = ParamSpec("P")
    R = TypeVar("R")
    Step = tuple[str, tuple[Any, ...], dict[str, Any]]


class Builder:
    """What a function is to be given. Never changes: each step returns another builder.

    Use it as a decorator, or give it to `@opero` with keywords that go before it. Policies are made anew for each
    function. Each step takes what the keyword of its name takes, a policy object too, or the settings of that policy.
    Of two steps for one policy the later holds, and so it does of a step and keywords.

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
        """Add a `Retry`, by its own settings and the keywords of one: `retry(5, min_delay=1)`."""
        return self._with("retry", args, settings)

    def retry_budget(self, *args: Any, **settings: Any) -> Builder:
        """Add a `RetryBudget`."""
        return self._with("retry_budget", args, settings)

    def timeout(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Timeout` for the whole call."""
        return self._with("timeout", args, settings)

    def attempt_timeout(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Timeout` for each attempt."""
        return self._with("attempt_timeout", args, settings)

    def circuit_breaker(self, *args: Any, **settings: Any) -> Builder:
        """Add a `CircuitBreaker`."""
        return self._with("circuit_breaker", args, settings)

    def rate_limit(self, *args: Any, **settings: Any) -> Builder:
        """Add a `RateLimit`."""
        return self._with("rate_limit", args, settings)

    def bulkhead(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Bulkhead`."""
        return self._with("bulkhead", args, settings)

    def hedge(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Hedge`."""
        return self._with("hedge", args, settings)

    def cache(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Cache`, by its own settings and the keywords of one; True is one without an end, None is none."""
        return self._with("cache", args, settings)

    def fallback(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Fallback`."""
        return self._with("fallback", args, settings)

    def arg_fallback(self, *args: Any, **settings: Any) -> Builder:
        """Add an `ArgFallback`."""
        return self._with("arg_fallback", args, settings)

    def chaos(self, *args: Any, **settings: Any) -> Builder:
        """Add a `Chaos`."""
        return self._with("chaos", args, settings)

    def validate(self, hold: bool = True) -> Builder:
        """Hold the function to its annotations, by pydantic."""
        return self.with_(validate=hold)

    def name(self, name: str) -> Builder:
        """Name the operation."""
        return self.with_(name=name)

    def order(self, *places: str | Sequence[str]) -> Builder:
        """Put the policies in an order of their own, outermost first."""
        return self.with_(order=_listed(places))

    def record(self, *parameters: str | Sequence[str]) -> Builder:
        """Put arguments on spans and events, by the names of their parameters."""
        return self.with_(record=_listed(parameters))

    def slo(self, *objectives: float | SLO | Sequence[float | SLO], **settings: Any) -> Builder:
        """Say what callers may expect; with settings, those of one `SLO`."""
        return self.with_(slo=SLO(*objectives, **settings) if settings else _listed(objectives))  # type: ignore[arg-type]

    def tags(self, *tags: str | Sequence[str]) -> Builder:
        """Put tags on spans and events."""
        return self.with_(tags=_listed(tags))

    def policy(self, policy: Policy) -> Builder:
        """Add a policy as it is: its state is shared by all who use the builder."""
        if not isinstance(policy, Policy):
            raise ConfigurationError("policy", policy, "a policy object like Retry(...)")
        return self._with(policy.place, (policy,), {})

    def with_(self, **keywords: Unpack[Settings]) -> Builder:
        """Add keywords of `@opero`, like `name`; they go before the steps so far."""
        merged = settings.nearer(self._keywords, keywords)
        settings.policies_from((), merged, retries=False)
        return Builder(self._steps, merged)

    def recipe(self, name: str) -> tuple[list[Policy], dict[str, Any]]:
        """Return what it stands for in `@opero`."""
        policies: dict[str, Policy | None] = {}
        for keyword, args, given in self._steps:
            policy = _made(keyword, args, given)
            policies[keyword if policy is None else policy.place] = policy
        said = {*map(settings.place_of, self._keywords)}
        none = {place: None for place, policy in policies.items() if policy is None and place not in said}
        return [policy for policy in policies.values() if policy is not None], none | self._keywords

    def __call__(self, function: Callable[P, R]) -> Decorated[P, R]:
        if not is_decorable(function):
            beside = f"; a policy goes beside this in @opero(..., {type(function).__name__}(...))"
            allowed = f"a function to decorate{beside if isinstance(function, Policy) else ''}"
            raise ConfigurationError("function", function, allowed)
        decorated: Decorated[P, R] = decorate(function, (self,), {})
        return decorated

    def __repr__(self) -> str:
        policies, keywords = self.recipe("")
        return (
            f"<build {', '.join([*map(repr, policies), *(f'{k}={settings.shown(v)!r}' for k, v in keywords.items())])}>"
        )

    def _with(self, keyword: str, args: tuple[Any, ...], given: dict[str, Any]) -> Builder:
        policy = _made(keyword, args, given)  # what is wrong is said where it is written
        place = keyword if policy is None else policy.place
        said = None if policy is None else _said(place, args, given)
        kept = {
            each: value
            for each, value in self._keywords.items()
            if settings.place_of(each) != place or (said is not None and settings.PARTS.get(each) not in said)
        }
        return Builder((*self._steps, (keyword, args, given)), kept)


def build() -> Builder:
    """Begin with nothing."""
    return Builder()


def _made(keyword: str, args: tuple[Any, ...], given: dict[str, Any]) -> Policy | None:
    """Make what a step says: of a value alone what the keyword of its name makes, else a policy of its settings."""
    if len(args) == 1 and not given:
        if isinstance(args[0], Policy) and args[0].place == keyword:
            return args[0]
        if keyword in settings.BUILDERS:
            return settings.BUILDERS[keyword](keyword, args[0])
    if keyword == "cache":
        ttl = args[0] if args else given.get("cache_ttl", True)
        own = [setting for setting in given if setting not in settings.CACHE]  # with some `None` is `Cache(None, ...)`
        if ttl is False or (ttl is None and not (args and own)):
            return None
        args = (None, *args[1:]) if args and ttl is True else args
    policy: Policy = made(KINDS[keyword], args, _spelt(keyword, given), keyword)
    return policy


def _said(place: str, args: tuple[Any, ...], given: dict[str, Any]) -> set[str] | None:
    """Return which settings of a retry or a cache a step says; None where it says all, as it does of other policies."""
    if place not in settings.PARTLY or any(isinstance(each, Policy) for each in args):
        return None
    named = [*signature(KINDS[place]).parameters][: len(args)]
    return {*named, *(settings.PARTS.get(each, each) for each in given)}


def _spelt(place: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a retry or a cache, also of those that were given as keywords of `@opero`."""
    parts = {keyword: part for keyword, part in settings.PARTS.items() if keyword in given and keyword != part}
    keywords = {keyword: given[keyword] for keyword in parts if settings.place_of(keyword) == place}
    if not keywords:
        return given
    for keyword, value in keywords.items():
        if parts[keyword] in given:
            raise ConfigurationError(keyword, value, f"nothing beside {parts[keyword]}=, which says the same")
    beside = {"cache": True} if place == "cache" else {}
    (policy,) = settings.policies_from((), {**beside, **keywords}, retries=False)
    own = {setting: value for setting, value in given.items() if setting not in keywords}
    return own | {parts[keyword]: policy.settings[parts[keyword]] for keyword in keywords}


def _each_attempt(seconds: Duration, **given: Any) -> Timeout:
    return Timeout(attempt=seconds, **given)


def _listed(given: tuple[Any, ...]) -> Any:
    """Return what a keyword takes in the place of several values, or of one that is their list."""
    return given[0] if len(given) == 1 and not isinstance(given[0], str) else given


KINDS: Mapping[str, Callable[..., Policy]] = {
    str(kind.place): kind for kind in settings.KINDS if kind is not Timeout
} | {
    "timeout": Timeout,
    "attempt_timeout": _each_attempt,
    "chaos": Chaos,
}
