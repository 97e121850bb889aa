"""One state for each key, and a bounded number of them."""

from __future__ import annotations

from _thread import allocate_lock

from opero import forks
from opero.errors import ConfigurationError
from opero.policy import answered, asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from typing import Any, Generic, Protocol, TypeVar

    class State(Protocol):
        """What there is one of for each key."""

        def idle(self, now: float) -> bool:
            """Whether it is as good as new, so that nothing is lost by forgetting it."""
            raise NotImplementedError

    S = TypeVar("S", bound=State)
    Reader = Callable[[tuple[Any, ...], Mapping[str, Any]], Hashable]
else:
    Generic, S = {None: object}, None

LOOK = 8  # how many of the least recently used are looked at for one that is idle


class Keyed(Generic[S]):
    """At most `size` states. A new key takes the place of an idle one among those least recently used.

    Where none is idle, `share` decides: new keys share one state (a quota must not be had anew by asking for many
    keys), or the least recently used is forgotten. Thread-safe.
    """

    def __init__(self, make: Callable[[], S], size: int, *, share: bool) -> None:
        self._make = make
        self._size = size
        self._shared: S | None = None
        self._share = share
        self._states: dict[Hashable, S] = {}
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew."""
        self._lock = allocate_lock()

    def get(self, key: Hashable, now: float) -> S:
        """Return the state of a key."""
        with self._lock:
            state = self._states.pop(key, None)
            if state is None:
                if len(self._states) >= self._size and not self._forget_one_locked(now):
                    if self._shared is None:
                        self._shared = self._make()
                    return self._shared
                state = self._make()
            self._states[key] = state  # the most recently used is last
            return state

    def values(self) -> list[S]:
        """Return every state there is."""
        with self._lock:
            return [*self._states.values(), *([self._shared] if self._shared else [])]

    def _forget_one_locked(self, now: float) -> bool:
        oldest = [key for key, _ in zip(self._states, range(LOOK), strict=False)]
        idle = next((key for key in oldest if self._states[key].idle(now)), None)
        if idle is None and self._share:
            return False
        del self._states[oldest[0] if idle is None else idle]
        return True


def reader(field: str, key: str | Callable[..., Hashable], function: Callable[..., Any]) -> Reader:
    """Return what reads the key of a call: a function of its arguments, or the name of one of them."""
    if callable(key):
        return lambda args, kwargs: answered(key(*args, **kwargs))
    from inspect import Parameter, signature

    parameters = signature(function).parameters
    found = parameters.get(key)
    if found is None and any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        return lambda _, kwargs: kwargs.get(key)
    if found is None or found.kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}:
        named = ", ".join(parameters) or "it has none"
        raise ConfigurationError(field, key, f"a function of the arguments, or a parameter of the function: {named}")
    place = None if found.kind is Parameter.KEYWORD_ONLY else list(parameters).index(key)
    default = None if found.default is Parameter.empty else found.default

    def read(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        value: Hashable = args[place] if place is not None and place < len(args) else kwargs.get(key, default)
        return value

    return read


def checked(field: str, key: object) -> Any:
    """Return what may stand for `key=`, or raise `ConfigurationError`."""
    if key is None or (isinstance(key, str) and key.isidentifier()):
        return key
    return asked(field, key, "a function of the call's arguments, or the name of one of them")
