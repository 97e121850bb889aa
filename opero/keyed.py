"""One state for each key, and a bounded number of them."""

from __future__ import annotations

from _heapq import heapify, heappop, heappush
from itertools import count, islice
from math import inf

from opero import forks
from opero.errors import ConfigurationError
from opero.exclusive import new_lock
from opero.kinds import signature_of
from opero.policy import NOT_AWAITED, answered, asked

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
    keys), or the least recently used is forgotten. `stays` says until when a state must not be: where all of them
    have to stay, the one that may go first goes. `policy` is told to who gives a key that cannot be one. Thread-safe.
    """

    def __init__(
        self,
        make: Callable[[], S],
        size: int,
        *,
        share: bool,
        stays: Callable[[S], float] | None = None,
        policy: str = "",
    ) -> None:
        self._make = make
        self._policy = policy
        self._size = size
        self._shared: S | None = None
        self._share = share
        self._stays = stays or _goes
        self._states: dict[Hashable, S] = {}
        self._kept: _Kept[S] = _Kept()
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Make the lock anew."""
        self._lock = new_lock()

    def get(self, key: Hashable, now: float) -> S:
        """Return the state of a key."""
        with self._lock:
            try:
                state = self._states.pop(key, None) or self._kept.pop(key)
                if state is None:
                    if len(self._states) + len(self._kept) >= self._size and not self._forget_one_locked(now):
                        if self._shared is None:
                            self._shared = self._make()
                        return self._shared
                    state = self._make()
                self._states[key] = state  # the most recently used is last
            except TypeError as error:  # an empty dictionary hashes nothing: it may come from any of these
                allowed = (
                    f"values that can be hashed, of which {self._policy} keeps one state each: return a str or a tuple"
                )
                raise ConfigurationError("key", type(key), allowed) from error
            return state

    def values(self) -> list[S]:
        """Return every state there is."""
        with self._lock:
            kept = [state for _, state in self._kept.items()]
            return [*self._states.values(), *kept, *([self._shared] if self._shared else [])]

    def release(self) -> list[S]:
        """Return every state there is, and let it be asked anew which of them stay: they are about to change."""
        with self._lock:
            self._states.update(self._kept.pop_until(inf))
        return self.values()

    def _forget_one_locked(self, now: float) -> bool:
        self._states.update(self._kept.pop_until(now))
        oldest = self._oldest_locked(now)
        if not oldest:
            self._kept.pop_first()
            return True
        idle = next((key for key, state in oldest if state.idle(now)), None)
        if idle is None and self._share:
            return False
        self._states.pop(oldest[0][0] if idle is None else idle, None)
        return True

    def _oldest_locked(self, now: float) -> list[tuple[Hashable, S]]:
        """Return the least recently used of those that may go; set aside who stand before them and have to stay."""
        while True:
            try:
                looked = [*islice(self._states.items(), LOOK)]
            except RuntimeError:  # a handler of a signal, or a finalizer, made a call of its own just there
                continue
            staying = {key: until for key, state in looked if (until := self._stays(state)) > now}
            for key, state in looked:
                if key in staying and self._states.pop(key, None) is not None:
                    self._kept.add(key, state, staying[key])
            if not looked or len(staying) < len(looked):
                return [(key, state) for key, state in looked if key not in staying]


class _Kept(Generic[S]):
    """States that must not be forgotten yet, in the order in which they may be."""

    def __init__(self) -> None:
        self._states: dict[Hashable, tuple[int, S]] = {}
        self._order: list[tuple[float, int, Hashable]] = []  # a heap; an entry whose number is not the state's is old
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._states)

    def items(self) -> list[tuple[Hashable, S]]:
        return [(key, state) for key, (_, state) in list(self._states.items())]

    def add(self, key: Hashable, state: S, until: float) -> None:
        number = next(self._numbers)
        self._states[key] = number, state
        heappush(self._order, (until, number, key))
        if len(self._order) > 2 * len(self._states) + LOOK:
            self._order = [entry for entry in self._order if self._is_current(entry)]
            heapify(self._order)

    def pop(self, key: Hashable) -> S | None:
        found = self._states.pop(key, None)
        return None if found is None else found[1]

    def pop_until(self, now: float) -> list[tuple[Hashable, S]]:
        """Take out those whose time is over."""
        over = []
        while self._order and (self._order[0][0] <= now or not self._is_current(self._order[0])):
            entry = heappop(self._order)
            if self._is_current(entry) and (state := self.pop(entry[2])) is not None:
                over.append((entry[2], state))
        return over

    def pop_first(self) -> None:
        """Forget the one that may go first; after `pop_until`."""
        if self._order:
            self._states.pop(heappop(self._order)[2], None)

    def _is_current(self, entry: tuple[float, int, Hashable]) -> bool:
        _, number, key = entry
        found = self._states.get(key)
        return found is not None and found[0] == number


def _goes(_: object) -> float:
    return -inf


def reader(field: str, key: str | Callable[..., Hashable], function: Callable[..., Any]) -> Reader:
    """Return what reads the key of a call: a function of its arguments, or the name of one of them."""
    if callable(key):
        return lambda args, kwargs: _told(field, key(*args, **kwargs))
    from inspect import Parameter

    told = signature_of(function)
    parameters = {} if told is None else told.parameters
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


def _told(field: str, key: Any) -> Hashable:
    try:
        return answered(key)  # type: ignore[no-any-return]
    except TypeError as error:
        raise ConfigurationError(field, type(key), f"a function of the call's arguments; {NOT_AWAITED}") from error


def checked(field: str, key: object) -> Any:
    """Return what may stand for `key=`, or raise `ConfigurationError`."""
    if key is None or (isinstance(key, str) and key.isidentifier()):
        return key
    return asked(field, key, "a function of the call's arguments, or the name of one of them")
