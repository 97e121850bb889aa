"""The door for one function: `@opero`, and the handle it leaves on what it decorates."""

from __future__ import annotations

from functools import partial

from opero import catalogue, control, fused, objectives, recording, settings
from opero.breaker import Breaker
from opero.drivers import blocking
from opero.errors import ConfigurationError
from opero.kinds import (
    AWAIT_INSIDE,
    dress,
    is_async_generator_function,
    is_coroutine_function,
    is_generator_function,
    named,
    promises_awaitable,
    read,
)
from opero.pipeline import Operation
from opero.policy import Policy, decorates
from opero.runtime import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

    from opero.caching import CacheHandle
    from opero.control.loop import Controllers
    from opero.settings import Recipe, Settings

    P = ParamSpec("P")
    R = TypeVar("R", covariant=True)
    S = TypeVar("S", covariant=True)
    T = TypeVar("T")
    Q = ParamSpec("Q")

    class Decorated(Generic[P, R]):
        """A decorated function: its own signature, name and documentation, and the handle."""

        __name__: str
        __qualname__: str
        __module__: str
        __doc__: str | None
        __wrapped__: Callable[P, R]

        @property
        def opero(self) -> Handle[P, R]: ...
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        # Class method, plain function; class method, method and static method of an instance: told apart by the first
        # parameter, since neither checker shows a descriptor which of them it stands for. For a class method as a
        # Callable: mypy takes any Decorated for a Decorated[Concatenate[type[T], Q], R].
        @overload
        def __get__(  # type: ignore[misc]
            self: Callable[Concatenate[type[T], Q], R], instance: None, owner: type[T]
        ) -> Bound[type[T], Q, R]: ...
        @overload
        def __get__(self, instance: None, owner: type) -> Decorated[P, R]: ...
        @overload
        def __get__(  # type: ignore[misc]
            self: Callable[Concatenate[type[T], Q], R], instance: T, owner: type
        ) -> Bound[type[T], Q, R]: ...
        @overload
        def __get__(self: Decorated[Concatenate[T, Q], R], instance: T, owner: type) -> Bound[T, Q, R]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Decorated[P, R]: ...
        def __get__(self, instance: object, owner: type) -> Any: ...

    class Bound(Generic[S, Q, R]):
        """A decorated function as a method of one object: its handle is that of the function, and takes the object."""

        __name__: str
        __qualname__: str
        __module__: str
        __doc__: str | None

        @property
        def __self__(self) -> S: ...
        @property
        def __func__(self) -> Decorated[Concatenate[S, Q], R]: ...
        @property
        def __wrapped__(self) -> Callable[Concatenate[S, Q], R]: ...
        @property
        def opero(self) -> Handle[Concatenate[S, Q], R]: ...
        def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R: ...

    class Decorator(Protocol):
        """What `@opero(...)` returns."""

        @overload
        def __call__(self, function: classmethod[T, Q, R], /) -> classmethod[T, Q, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> Decorated[P, R]: ...

else:

    class _Subscriptable:
        def __class_getitem__(cls, _: object) -> type:
            return cls

    Generic = {("P", "R"): _Subscriptable}
    P, R = "P", "R"


class Handle(Generic[P, R]):
    """What may be asked of a decorated function, and done to it: `f.opero`."""

    def __init__(self, operation: Operation, settings: Mapping[str, Any]) -> None:
        self.operation = operation
        self._settings = settings

    @property
    def name(self) -> str:
        """Its name in all telemetry."""
        return self.operation.name

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Its policies, outermost first."""
        return self.operation.policies

    @property
    def tags(self) -> tuple[str, ...]:
        """What `tags=` says of it."""
        return recording.tags(self._settings.get("tags"))

    def stats(self) -> dict[str, float]:
        """Return its counts (calls, ok, errors, attempts, retries …) and percentiles in seconds.

        `rejected` counts refusals, not calls: each attempt may be refused, and a retry for which there is no time is
        one too. So it may be more than `calls`. `retries` counts those that were decided on: one whose wait is cut off
        is among them, and makes no attempt.
        """
        return self.operation.book.stats()

    @property
    def breaker(self) -> Breaker:
        """Its circuit breaker, or that of a decorator further in; `ConfigurationError` where there is none."""
        operation = self._with("circuit_breaker")
        policy: Any = operation.places.get("circuit_breaker")
        if policy is None:
            raise ConfigurationError(
                "breaker", None, f"a circuit breaker: decorate {self.name} with circuit_breaker=True"
            )
        return Breaker(operation, policy)

    @property
    def cache(self) -> CacheHandle[P]:
        """Its cache, or that of a decorator further in; raises `ConfigurationError` when it has none."""
        from opero.caching import CacheHandle

        return CacheHandle(self._with("cache"))

    @property
    def controllers(self) -> Controllers:
        """Its controllers, and those of decorators further in, by the names of their knobs.

        `f.opero.controllers["bulkhead.limit"].freeze()`; of two of one name that of the outer decorator.
        """
        return control.of(*self._stacked())

    def with_(self, *given: Policy | Recipe, **keywords: Unpack[Settings]) -> Decorated[P, R]:
        """Return a variant with other settings. Policies it keeps share their state with this one."""
        policies, overrides = settings.expanded(given, keywords, keywords.get("name") or self.name)
        settings.policies_from(policies, {}, retries=False)
        replaced = {policy.place for policy in policies}
        left = {k: v for k, v in self._settings.items() if settings.place_of(k) not in replaced}
        merged = settings.nearer(left, overrides)
        touched = {settings.place_of(keyword) for keyword in overrides} | replaced
        kept = [p for p in self.policies if p.place not in touched]
        asked = {k: v for k, v in merged.items() if settings.place_of(k) in touched}
        built = [
            settings.altered(self.operation.places.get(each.place), each, overrides)
            for each in settings.policies_from(policies, asked, retries=False)
        ]
        return _wrap(self.operation.function, (*kept, *built), merged, name=merged.get("name") or self.name)  # type: ignore[no-any-return]

    def bypass(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the bare function: nothing is retried, limited or counted."""
        return self.operation.function(*args, **kwargs)  # type: ignore[no-any-return]

    def source(self) -> str:
        """Return the source of its fast path, which is generated: what happens in a call that succeeds at once."""
        return fused.source(self.operation)

    def _with(self, place: str) -> Operation:
        """Return the outermost operation with a policy at this place; its own if there is none."""
        return next((each for each in self._stacked() if place in each.places), self.operation)

    def _stacked(self) -> Iterator[Operation]:
        """Yield its operation, and those of decorators further in."""
        handle: Handle[..., Any] | None = self
        while handle is not None:
            yield handle.operation
            function: Any = handle.operation.function
            while isinstance(function, partial):
                function = function.func
            handle = read(function, "opero", Handle)

    def __repr__(self) -> str:
        return f"<opero {self.name}: {', '.join(map(repr, self.policies)) or 'no policies'}>"


if TYPE_CHECKING:

    @overload
    def opero(function: classmethod[T, Q, R], /) -> classmethod[T, Q, R]: ...
    @overload  # before functions: a policy can be called, too
    def opero(  # type: ignore[overload-overlap]
        *policies: Policy | Recipe, **settings: Unpack[Settings]
    ) -> Decorator: ...
    @overload
    def opero(function: Callable[P, R], /) -> Decorated[P, R]: ...


def opero(*given: Any, **keywords: Any) -> Any:
    """Make a function resilient.

    Bare, it retries three times with exponential backoff and full jitter, and does nothing else. Keywords are those of
    `Settings`; policy objects go by position, and then nothing is retried unless one of them, or a keyword, says so.

    Works on functions, methods, static and class methods, coroutine functions, partials and callables. The function
    keeps its signature, and gets a handle, `f.opero`. Raises `ConfigurationError` for a wrong setting.

    Example:
        >>> @opero(retries=2, timeout=10.0)
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double(21)
        42
    """
    if len(given) == 1 and not keywords and is_decorable(given[0]):
        return decorate(given[0], (), {})

    def decorator(function: Callable[..., Any]) -> Any:
        return decorate(function, given, keywords)

    settings.policies_from(*settings.expanded(given, keywords, ""))  # what is wrong is said here, where it is written
    return decorator


def decorate(function: Any, given: Sequence[Any], keywords: Mapping[str, Any], *, retries: bool = True) -> Any:
    """Wrap a function by what the user wrote; it retries by default, unless `retries` or something built says no."""
    if isinstance(function, staticmethod | classmethod):
        return type(function)(decorate(function.__func__, given, keywords, retries=retries))
    retries = retries and not any(getattr(type(each), "complete", False) for each in given)
    given, keywords = settings.expanded(given, keywords, keywords.get("name") or name_of(function))
    name = keywords.get("name")
    policies = settings.policies_from(given, keywords, retries=retries)
    _refuse_unpaid(policies, keywords)
    return _wrap(function, policies, keywords, name=name or name_of(function))


BUILD = ("opero.builder", "build")  # which stands on this module


def name_of(function: Any) -> str:
    """Return `module.qualname`; of the type, for a callable object."""
    return ".".join(named(function))


def _wrap(function: Any, policies: Sequence[Policy], keywords: Mapping[str, Any], *, name: str) -> Any:
    _refuse(function)
    for policy in policies:
        function = policy.wrap(function)
    is_async = is_coroutine_function(function) or is_async_generator_function(function)
    for policy in policies:
        if policy.only_async and not is_async:
            allowed = "what can wait in a plain function: an AsyncLimiter waits for coroutine functions only"
            raise ConfigurationError(policy.place, policy, allowed)
    slos = objectives.of(keywords.get("slo"))
    operation = Operation(function, policies, name=name, is_async=is_async, order=keywords.get("order"), slos=slos)
    operation.recorded = recording.of(function, keywords.get("record"), recording.tags(keywords.get("tags")))
    control.attach(operation)
    wrapper: Any = (
        _streamer(operation) if is_generator_function(function) else fused.wrapper(operation, **_driver(is_async))
    )
    dress(wrapper, function)
    wrapper.opero = Handle(operation, keywords)
    catalogue.register(operation)
    return wrapper


def _driver(is_async: bool) -> dict[str, Any]:
    """Return what the fast path uses of a driver."""
    if not is_async:
        return {
            "general": blocking.call,
            "pause": blocking.pause,
            "plain_run": run,
            "own_runtime": blocking.RUNTIME,
        }
    from opero.drivers import aio, timers

    fast = {"begin": timers.begin, "judge": timers.judge, "pause": aio.pause}
    return {"general": aio.call, "own_runtime": aio.RUNTIME, **fast}


def _streamer(operation: Operation) -> Callable[..., Any]:
    from opero.drivers import inside_out

    if operation.controllers is not None:
        operation.controllers.start()
    return inside_out.streamer(operation)


def _refuse(function: Any) -> None:
    """Refuse what would be wrapped without effect."""
    if isinstance(function, type) and hasattr(function, "place"):
        raise ConfigurationError("policies", function, f"a policy, not its class: @opero({function.__name__}(...))")
    if isinstance(function, property):
        raise ConfigurationError("function", function, "a function: @property goes above this decorator")
    if named(function) == BUILD or type(read(function, "__self__", object, function)).__module__ == BUILD[0]:
        raise ConfigurationError("function", function, "a function; a builder is made first: @opero(build().retry(3))")
    if not callable(function) or isinstance(function, type | Policy):
        raise ConfigurationError(
            "function", function, "a function, method, coroutine function, partial or callable object"
        )
    if promises_awaitable(function):
        raise ConfigurationError("function", function, f"no plain function that returns an awaitable: {AWAIT_INSIDE}")


def _refuse_unpaid(policies: Sequence[Policy], keywords: Mapping[str, Any]) -> None:
    """Refuse a budget that nothing pays from. One made outside may have its income here, and be spent elsewhere."""
    ratio, places = keywords.get("retry_budget"), {policy.place for policy in policies}
    if ratio is None or isinstance(ratio, Policy) or places & {"retry", "hedge"} or keywords.get("retries") == 0:
        return
    raise ConfigurationError("retry_budget", ratio, "retries or a hedge that it bounds: retries=3")


def is_decorable(value: Any) -> bool:
    """Whether `@opero` without parentheses was meant."""
    return decorates(value) and not isinstance(value, Policy) and not hasattr(type(value), "recipe")
