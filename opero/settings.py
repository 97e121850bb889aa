"""What a user writes at a decorator: keywords become the same policies that could be passed as objects."""

from __future__ import annotations

from opero import objectives, pipeline, recording, spelling, waits
from opero.errors import ConfigurationError
from opero.policy import Policy, choice, duration, instead, number, optional, text, whole
from opero.primitives.arg_fallback import ArgFallback
from opero.primitives.bulkhead import Bulkhead
from opero.primitives.cache import BACKENDS, Cache
from opero.primitives.circuit_breaker import CircuitBreaker
from opero.primitives.fallback import Fallback
from opero.primitives.hedge import Hedge
from opero.primitives.rate_limit import RATES, RateLimit
from opero.primitives.retry import Retry
from opero.primitives.retry_budget import RetryBudget
from opero.primitives.timeout import Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Literal, Protocol, TypedDict

    from opero.conditions import ConditionLike
    from opero.limiters import AsyncLimiter, RateLimiter
    from opero.objectives import SLO
    from opero.policy import Duration

    class Recipe(Protocol):
        """What stands for policies and keywords: a configuration, a builder, a preset."""

        def recipe(self, name: str, /) -> tuple[list[Policy], dict[str, Any]]: ...

    class Settings(TypedDict, total=False):
        """The keywords of `@opero`. Times in seconds."""

        retries: int
        backoff: Literal["exponential", "fibonacci", "linear", "constant", "decorrelated_jitter"] | waits.Wait
        backoff_factor: float
        min_delay: Duration
        max_delay: Duration
        jitter: Literal["full", "equal", "none"]
        retry_on: ConditionLike
        retry_on_result: Callable[[Any], object]
        retry_budget: float | Literal["adaptive"] | RetryBudget
        timeout: Duration | Timeout
        attempt_timeout: Duration | Timeout
        circuit_breaker: bool | CircuitBreaker
        rate_limit: str | float | RateLimit | RateLimiter | AsyncLimiter
        bulkhead: int | Literal["adaptive"] | Bulkhead
        hedge: Duration | str | Hedge
        fallback: Any
        arg_fallback: str
        cache: bool | Cache
        cache_ttl: float | Callable[[Any], float | None] | None
        cache_backend: Any
        cache_key: str | Callable[..., object]
        cache_namespace: str
        name: str
        order: Sequence[str]
        record: str | Sequence[str]
        slo: float | SLO | Sequence[float | SLO]
        tags: str | Sequence[str]
        validate: bool


RETRY = ("retries", "backoff", "backoff_factor", "min_delay", "max_delay", "jitter", "retry_on", "retry_on_result")
ABOUT = ("name", "order", "record", "slo", "tags")  # of the operation, not of a policy
DELAYS = ("backoff_factor", "min_delay", "max_delay")
CACHE = ("cache", "cache_ttl", "cache_backend", "cache_key", "cache_namespace")
PARTLY = {"retry", "cache"}  # places of policies that several keywords make
PARTS = {  # keywords that are one setting of a policy, and which
    **dict.fromkeys(("backoff", *DELAYS), "wait"),
    "retries": "retries",
    "jitter": "jitter",
    "retry_on": "on",
    "retry_on_result": "on_result",
    **{keyword: keyword.removeprefix("cache_") for keyword in CACHE[1:]},
}
KINDS = (Retry, Timeout, CircuitBreaker, RateLimit, Bulkhead, Hedge, Fallback, Cache, RetryBudget, ArgFallback)
RETRIES = 3  # where nobody says how often
BACKOFFS = {  # and which delays they read
    "exponential": DELAYS,
    "fibonacci": DELAYS[1:],
    "linear": DELAYS[1:],
    "constant": ("min_delay",),
    "decorrelated_jitter": DELAYS[1:],
}


def policies_from(given: Sequence[Policy], settings: Mapping[str, Any], *, retries: bool = True) -> tuple[Policy, ...]:
    """Build the policies of one function. Without policy objects it retries by default, unless `retries` says no."""
    for policy in given:
        if not isinstance(policy, Policy):
            raise ConfigurationError(
                "policies", policy, "policy objects like Retry(...), by position; a setting goes by keyword"
            )
    check_names(settings)
    optional(text, "name", settings.get("name"))
    objectives.of(settings.get("slo"))
    recording.tags(settings.get("tags"))
    if settings.get("order") is not None:
        _order("order", settings["order"], [policy.place for policy in given])
    optional(_names, "record", settings.get("record"))
    built = list(given)
    _refuse_parts(given, settings)
    if any(keyword in settings for keyword in RETRY) or (not given and retries):
        built += [policy for policy in [_retry(settings)] if policy is not None]
    if any(keyword in settings for keyword in CACHE):
        built += [policy for policy in [_cache(settings)] if policy is not None]
    for keyword, build in BUILDERS.items():
        if keyword in settings:
            built += [policy for policy in [build(keyword, settings[keyword])] if policy is not None]
    added = [keyword for keyword in settings if keyword not in BUILDERS and keyword not in {*RETRY, *CACHE, *ABOUT}]
    return (*built, *(_plugin(keyword, settings[keyword]) for keyword in added))


def expanded(given: Sequence[Any], keywords: Mapping[str, Any], name: str) -> tuple[tuple[Policy, ...], dict[str, Any]]:
    """Put what configurations and builders stand for in their place; a keyword goes before what they say."""
    made: dict[str, Policy] = {}
    merged: dict[str, Any] = {}
    for recipe in given:
        if hasattr(type(recipe), "recipe"):
            policies, said = recipe.recipe(name)
            made.update((policy.place, policy) for policy in policies)
            merged = nearer(merged, said)
    own = [each for each in given if not hasattr(type(each), "recipe")]
    mine = {getattr(each, "place", "") for each in own}
    merged = nearer({key: value for key, value in merged.items() if place_of(key) not in mine}, keywords)
    kept = [each for place, policy in made.items() if place not in mine for each in _taking(policy, merged)]
    done = {policy.place for policy in kept} & PARTLY
    return (*kept, *own), {key: value for key, value in merged.items() if place_of(key) not in done}


def nearer(far: Mapping[str, Any], near: Mapping[str, Any]) -> dict[str, Any]:
    """Return all keywords; the near ones go before, and a backoff among them leaves out the delays it does not read."""
    left_out = _unread(near["backoff"]) if "backoff" in near else ()
    return {**{keyword: value for keyword, value in far.items() if keyword not in left_out}, **near}


def altered(before: Policy | None, after: Policy, keywords: Mapping[str, Any]) -> Policy:
    """Return what keywords made of a policy: of a retry and a cache it keeps the settings that they say nothing of."""
    mine = [keyword for keyword in keywords if place_of(keyword) == after.place]
    if before is None or type(before) is not type(after) or not mine or not all(keyword in PARTS for keyword in mine):
        return after
    said = {setting: after.settings[setting] for setting in map(PARTS.__getitem__, mine)}
    return type(after)(**{**before.settings, **said})


def _taking(policy: Policy, keywords: Mapping[str, Any]) -> list[Policy]:
    """Return the policy of a builder with what keywords say of it; nothing where they make another, or none."""
    mine = {keyword: value for keyword, value in keywords.items() if place_of(keyword) == policy.place}
    if mine and policy.place not in PARTLY:
        return []
    return [altered(policy, each, mine) for each in policies_from((), mine, retries=False)] if mine else [policy]


def added() -> list[str]:
    """Return the keywords that plugins add."""
    from opero import plugins

    return plugins.names("opero.primitives")


def _plugin(keyword: str, value: Any) -> Policy:
    from opero import plugins

    make = plugins.load("opero.primitives", keyword)
    policy = value
    if not isinstance(value, Policy):
        args = () if value is True or isinstance(value, dict) else (value,)
        given = value if isinstance(value, dict) else {}
        policy = spelling.made(make, args, given, getattr(make, "__name__", keyword))
    if not isinstance(policy, Policy):
        raise ConfigurationError(keyword, value, f"what {make!r} makes a policy of")
    return policy


def known() -> set[str]:
    """Return every keyword there is."""
    return {*RETRY, *CACHE, *BUILDERS, *ABOUT}


def check_names(settings: Mapping[str, Any], more: Iterable[str] = ()) -> None:
    """Raise `ConfigurationError` for a keyword that there is not, and say what there is; `more` besides ours."""
    for keyword in settings:
        if keyword not in known() and keyword not in added():
            elsewhere = spelling.elsewhere(keyword, KINDS)
            raise spelling.unknown(keyword, settings[keyword], sorted({*known(), *more}), elsewhere)


def _refuse_parts(given: Sequence[Policy], settings: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for a keyword that is one setting of a policy, where that is given as an object."""
    kinds = {policy.place: type(policy).__name__ for policy in given if policy.place in PARTLY}
    for keyword, value in settings.items():
        if (kind := kinds.get(place_of(keyword))) and keyword in PARTS:
            raise ConfigurationError(keyword, value, f"nothing beside {kind}(...): give it there, as {PARTS[keyword]}=")


def _order(field: str, value: Any, given: Sequence[str]) -> None:
    """Raise `ConfigurationError` for places that there are not, or that stand there twice."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ConfigurationError(field, value, f"a list of places, outermost first: {', '.join(pipeline.ORDER)}")
    for each in value:
        if each not in pipeline.ORDER and each not in (more := [*added(), *given]):
            instead = spelling.instead_of(each, [*pipeline.ORDER, *more], "place")
            raise ConfigurationError(field, value, f"for {each!r} {instead}")
        if value.count(each) > 1:
            raise ConfigurationError(field, value, f"each place once, and {each!r} is there twice")


def _names(field: str, value: Any) -> None:
    each = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(name, str) and name for name in each):
        raise ConfigurationError(field, value, "the name of a parameter, or a list of them")


def shown(value: object) -> object:
    """Return what may be shown of a value: the address of a store has a password in it."""
    from opero.stores import Address

    return Address(value) if isinstance(value, str) and "://" in value else value


def place_of(keyword: str) -> str:
    """Return the place of the policy that a keyword configures."""
    return "retry" if keyword in RETRY else "cache" if keyword in CACHE else keyword


def _retry(settings: Mapping[str, Any]) -> Retry | None:
    retries = whole("retries", settings.get("retries", RETRIES), low=0)
    policy = Retry(
        retries,
        wait=wait_of(settings.get("backoff", "exponential"), settings),
        jitter=choice("jitter", settings.get("jitter", "full"), ("full", "equal", "none")),
        on=_named("retry_on", settings),
        on_result=_predicate("retry_on_result", settings.get("retry_on_result")),
    )
    return policy if retries else None


def _cache(settings: Mapping[str, Any]) -> Cache | None:
    policy = settings.get("cache", settings.get("cache_ttl", True) is not None)
    given = {keyword.removeprefix("cache_"): settings[keyword] for keyword in CACHE[1:] if keyword in settings}
    if policy is None or policy is False:
        return None
    if isinstance(policy, Cache) and not given:
        return policy
    if policy is not True:
        allowed = "True, False or a Cache" + (" without the other cache keywords" if given else "")
        raise ConfigurationError("cache", policy, allowed)
    if isinstance(given.get("backend"), str) and "://" not in given["backend"] and given["backend"] not in BACKENDS:
        from opero import plugins

        if given["backend"] in plugins.names("opero.cache_backends"):
            given["backend"] = plugins.load("opero.cache_backends", given["backend"])()
    return Cache(given.pop("ttl", None), **given)


def wait_of(backoff: object, settings: Mapping[str, Any]) -> waits.Wait:
    """Return the wait of a retry, by its keyword and those of its delays."""
    for keyword in _unread(backoff):
        if keyword in settings:
            way_out = "give it the delays" if isinstance(backoff, waits.Wait) else "it does not read that"
            raise ConfigurationError(keyword, settings[keyword], f"nothing beside {backoff!r}: {way_out}")
    if isinstance(backoff, waits.Wait):
        return backoff
    low = duration("min_delay", settings.get("min_delay", 0.1), low=0)
    high = duration("max_delay", settings.get("max_delay", 30.0), low=0)
    if low > high:
        raise ConfigurationError("min_delay", low, f"0 to {high:g} seconds here, which is max_delay")
    factor = number("backoff_factor", settings.get("backoff_factor", 1.5), low=1)
    if backoff == "exponential":
        return waits.exponential(low, high, factor)
    if backoff == "constant":
        return waits.constant(low)
    if isinstance(backoff, str) and backoff in BACKOFFS:
        wait: waits.Wait = getattr(waits, backoff)(low, high)
        return wait
    raise ConfigurationError("backoff", backoff, f"{', '.join(map(repr, BACKOFFS))}, or a strategy of opero.waits")


def _unread(backoff: object) -> tuple[str, ...]:
    """Return the delays that a backoff does not read."""
    if isinstance(backoff, waits.Wait):
        return DELAYS
    read = BACKOFFS.get(backoff, DELAYS) if isinstance(backoff, str) else DELAYS
    return tuple(keyword for keyword in DELAYS if keyword not in read)


def _named(field: str, settings: Mapping[str, Any]) -> Any:
    from opero.conditions import of

    value = settings.get(field, Exception)
    of(field, value, awaits=True)
    return value


def _predicate(field: str, value: Any) -> Any:
    if value is not None:
        from opero.conditions import of_result

        of_result(field, value, awaits=True)
    return value


def _timeout(field: str, value: Any) -> Timeout | None:
    attempt = field == "attempt_timeout"
    if not isinstance(value, Timeout | None):
        seconds = duration(field, value, above=0)
        return Timeout(attempt=seconds) if attempt else Timeout(seconds)
    if value is not None and value.place != field:
        raise ConfigurationError(field, value, f"Timeout({'attempt=' if attempt else ''}...)")
    return value


def _circuit_breaker(field: str, value: Any) -> CircuitBreaker | None:
    if value is None or value is False:
        return None
    if value is True:
        return CircuitBreaker()
    if not isinstance(value, CircuitBreaker):
        raise ConfigurationError(field, value, "True, False or a CircuitBreaker")
    return value


def _rate_limit(field: str, value: Any) -> RateLimit | None:
    if value is None or isinstance(value, RateLimit):
        return value
    try:
        if isinstance(value, str) and not {"/", " "} & set(value.strip()):
            from opero import plugins

            return RateLimit(plugins.load("opero.rate_limiters", value)())
        return RateLimit(value)
    except ConfigurationError as error:
        raise ConfigurationError(field, value, instead(error, RATES)) from None


def _bulkhead(field: str, value: Any) -> Bulkhead | None:
    if value is None or isinstance(value, Bulkhead):
        return value
    if isinstance(value, str):
        return Bulkhead(10, max_queue=100, max_wait=0.1, control=_law(field, value))
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        allowed = 'how many calls may run at once, 1 or more, "adaptive", or a Bulkhead'
        raise ConfigurationError(field, value, allowed)
    return Bulkhead(value)


def _retry_budget(field: str, value: Any) -> RetryBudget | None:
    if value is None or isinstance(value, RetryBudget):
        return value
    if isinstance(value, str):
        return RetryBudget(control=_law(field, value))
    return RetryBudget(number(field, value, low=0, high=1))


def _law(field: str, value: str) -> str:
    """Return the name of a law that there is."""
    if value != "adaptive":
        from opero import plugins

        if value not in (known := plugins.names("opero.controllers")):
            raise ConfigurationError(field, value, f'"adaptive"{"".join(f", {name!r}" for name in known)}, or a number')
    return value


def _hedge(field: str, value: Any) -> Hedge | None:
    if value is None or isinstance(value, Hedge):
        return value
    try:
        return Hedge("p95" if value == "adaptive" else value)
    except ConfigurationError as error:
        raise ConfigurationError(field, value, f'{error.allowed}, or "adaptive"') from None


def _fallback(_: str, value: Any) -> Fallback:
    return value if isinstance(value, Fallback) else Fallback(value)


def _arg_fallback(_: str, value: Any) -> ArgFallback | None:
    return value if value is None or isinstance(value, ArgFallback) else ArgFallback(value)


def _validate(field: str, value: Any) -> Policy | None:
    if not isinstance(value, bool):
        raise ConfigurationError(field, value, "True or False")
    if not value:
        return None
    from opero.validation import Validation

    return Validation()


BUILDERS: dict[str, Callable[[str, Any], Policy | None]] = {
    "validate": _validate,
    "retry_budget": _retry_budget,
    "timeout": _timeout,
    "attempt_timeout": _timeout,
    "circuit_breaker": _circuit_breaker,
    "rate_limit": _rate_limit,
    "bulkhead": _bulkhead,
    "hedge": _hedge,
    "fallback": _fallback,
    "arg_fallback": _arg_fallback,
}
