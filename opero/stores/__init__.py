"""Where state lives that processes share: a limit's quota, a breaker's circuit, a bulkhead's slots, a budget's tokens.

1. A store decides on its own clock, in one round trip, and says what it decided.
2. A store that fails, or takes longer than its timeout, is away: from then on calls go by the state of their own
   process, and nobody waits for it. That is said once. A thread looks whether it is back, and says so.
3. A store may work but for one state, under whose name lies what is not ours. Calls go by their process's in its place.
"""

from __future__ import annotations

from opero import forks
from opero.errors import ConfigurationError
from opero.signals import Event, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opero.stores.protocol import StateStore as StateStore

ASKED = ("name", "ping", "reserve", "lease", "give_back", "pay", "admit", "settle", "hold", "take", "leave", "renew")
LEASE = 30.0  # seconds for which a slot is held without a sign of life

LOST = Event(
    "opero.store.lost",
    "warning",
    "A store is away, or answers what no store may (`reason`); calls go by the state of their process.",
    ("store", "error", "reason"),
)
RETURNED = Event("opero.store.returned", "info", "The store is back, and decides again.", ("store", "after"))
UNUSABLE = Event(
    "opero.store.unusable",
    "error",
    "A state in the store cannot be used; calls go by that of their process.",
    ("store", "kind", "reason"),
)
SIGNALS = Signals("store", (LOST, RETURNED, UNUSABLE))


class Permit:
    """Leave to call, given by a circuit in a store."""

    __slots__ = ("generation", "probe")

    def __init__(self, generation: int, *, probe: bool) -> None:
        self.generation = generation
        self.probe = probe


class Given:
    """The permit that a store gave to a call. The copy of that in a forked child has nothing to say to the store."""

    __slots__ = ("_process", "permit")

    def __init__(self, permit: Permit) -> None:
        self.permit = permit
        self._process = forks.pid

    @property
    def ours(self) -> bool:
        """Whether it was given to this process."""
        return self._process == forks.pid


class Admission:
    """What a circuit in a store says to a call: a permit, or in how many seconds it makes sense to ask again."""

    __slots__ = ("changed", "permit", "retry_after", "state")

    def __init__(self, permit: Permit | None, state: str, *, changed: bool, retry_after: float | None) -> None:
        self.permit = permit
        self.state = state
        self.changed = changed
        self.retry_after = retry_after


class Address(str):
    """The address of a store; shown without user, password, and what comes after one among its options."""

    __slots__ = ()

    def __repr__(self) -> str:
        scheme, separator, rest = self.partition("://")
        before, password, _ = rest.partition("password=")
        if "@" in rest:
            before = f"***@{before.rpartition('@')[2] if '@' in before else '***'}"
        return repr(f"{scheme}{separator}{before}{password}{password and '***'}")


SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
ALLOWED = (
    "None, a URL like redis://host:6379/0 (rediss://, redis+cluster://, redis+sentinel://a,b,c/service), or a store"
)


def checked(field: str, value: Any, name: str | None) -> Any:
    """Return what may stand for `store=`, or raise `ConfigurationError`."""
    if value is None:
        return None
    if isinstance(value, str):
        value = Address(value)
        if value.partition("://")[0] not in SCHEMES:
            raise ConfigurationError(field, value, ALLOWED)
    elif isinstance(value, type) or not hasattr(value, "reserve"):
        raise ConfigurationError(field, value, ALLOWED)
    elif missing := [each for each in ASKED if not hasattr(value, each)]:
        raise ConfigurationError(field, value, f"an `opero.stores.StateStore`; this has no {', '.join(missing)}")
    elif type(value).__hash__ is None:
        raise ConfigurationError(field, value, "a store that is hashed by identity: a dataclass with eq=False")
    if not isinstance(name, str) or not name:
        raise ConfigurationError("name", name, f"a text, with {field}=: processes share a state by its name")
    if name.startswith("}") or not name.isprintable():
        allowed = f"a text without line breaks and the like, and none that begins with '}}', with {field}="
        raise ConfigurationError("name", name, f"{allowed}: the store finds the state by it")
    return value


def __getattr__(name: str) -> Any:
    if name == "StateStore":  # for who writes one: it needs `typing`
        from opero.stores.protocol import StateStore

        return StateStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def key_of(kind: str, name: str, key: object) -> str:
    """Return where a state is kept. The name is readable, a key only a digest; all parts lie in one cluster slot."""
    return f"opero:{{{name}{'' if key is None else ':' + _digest(key, kind, name)}}}:v1:{kind}"


def _digest(key: object, kind: str, name: str) -> str:
    from hashlib import blake2b

    return blake2b(_canonical(key, kind, name), digest_size=12).hexdigest()


def _canonical(key: object, kind: str, name: str) -> bytes:
    """Return the same bytes in every process, and others for every other key; `kind` and `name` are of its policy."""
    if isinstance(key, tuple):
        parts = [_canonical(part, kind, name) for part in key]
        return b"t%d:" % len(parts) + b"".join(b"%d:" % len(part) + part for part in parts)
    if isinstance(key, str):
        return b"s" + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if isinstance(key, bool | int | float):
        return f"{'o' if key is True or key is False else type(key).__name__[0]}{key!r}".encode()
    allowed = f"a text, bytes, a number or a tuple of them, where processes share the state of the {kind} {name!r}"
    raise ConfigurationError("key", key, allowed)
