"""Cache: answer from an earlier call of the same arguments.

1. An entry is fresh until `soft_ttl`, stale until `ttl`, expired after. A fresh one answers. A stale one answers too,
   and one call loads it anew in the background. With `early` (XFetch) a load may begin a little before the end: each
   call draws, and the odds grow with how long a load takes.
2. Of all who miss one key at once, one loads, and all get its result or its error (single-flight).
3. A failing load is answered with an expired entry for `stale_if_error` seconds more. An error is kept only where that
   was asked for.
4. Whatever the store does, the caller gets what the function gives: a store that fails, or an entry that cannot be
   trusted, is a miss, counted as `error`, and an event says why.

Source: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015 (XFetch).
"""

from __future__ import annotations

from math import inf, isnan

from opero.errors import ConfigurationError
from opero.kinds import is_coroutine_function
from opero.policy import Fragment, Policy, asked, choice, duration, number, optional, unread, whole
from opero.stores import Address
from opero.stores.cache.entry import drawn
from opero.stores.cache.said import COUNT, REQUESTS, SIGNALS, USAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from opero.call import Layer
    from opero.policy import Duration, Observation
    from opero.stores.cache.keyring import KeyRing
    from opero.stores.cache.state import State

TAGS = "texts, templates like 'user:{user_id}', or a function of the arguments"
BACKENDS = ("memory", "disk", "redis")
PLAIN = "(({kind} := kind_of({name})) is int_kind or {kind} is str_kind or {kind} in plain_kinds)"
SEVERAL = "cached_in.entries[cached_own, {parts}]"
ALONE = (
    "cached_alone[{name} if ({kind} := kind_of({name})) is int_kind or {kind} is str_kind"
    " else ({kind}, {name}) if {kind} in plain_kinds else None]"
)
FRESH = "clock.now() < entry.fresh"
COPY = "(now := clock.now()) < entry.fresh and now <= copies.until"
HIT = """\
if {plain}:
    try:
        entry = {found}
    except KeyError:
        pass
    else:
        if {until}:
            answers[0] += 1
            if entry.uses < 3:
                entry.uses += 1
            return entry.value
"""
LOOK = """\
if {plain}:
    now = clock.now()
    entry = {ask}(operation, own_runtime, (cached_own, {parts}), now){end}
    if kind_of(entry) is not missed:
        return entry
    HAND_OVER
"""


class Cache(Policy):
    """Answer calls of the same arguments from a store, for `ttl` seconds (None: until evicted).

    `ttl` may be a function of the result. `key` is a template of parameters ("user:{user_id}") or a function of the
    arguments; `tags` are templates, or a function that returns texts. `cache_if(result)` says whether to keep a result;
    `errors` are exception types to keep, for `error_ttl` seconds. `jitter` shortens each lifetime by up to that share.
    `backend` is "memory", "disk", "redis", a Redis URL, or an object with `get`, `set` and `delete`; `url` is, unless
    given, the environment's `OPERO_REDIS_URL`, else a server on this machine. `near` keeps copies of Redis entries in
    this process, never older than so many seconds. `patience` bounds each wait for the store, `lease` how long others
    wait for a load whose process died.
    One instance on several functions is one store with one bound; their entries stay apart. All callers share the
    object that was cached: do not change it.

    Example:
        >>> Cache(60, soft_ttl=30).soft_ttl
        30.0
    """

    fills = ()
    place = "cache"
    asks_functions = True
    SIGNALS = SIGNALS

    ttl: float | Callable[[Any], Duration | None] | None
    soft_ttl: float | None
    backend: Any
    max_entries: int
    max_bytes: int | None
    url: str | None
    directory: str | os.PathLike[str] | None
    signing_key: KeyRing | None
    encryption_key: KeyRing | None
    compress_above: int | None
    max_inflated: int
    near: float | None
    patience: float
    lease: float
    key: str | Callable[..., object] | None
    tags: tuple[str, ...] | Callable[..., Iterable[str]]
    namespace: str | None
    version: int | str
    cache_if: Callable[[Any], object] | None
    errors: tuple[type[Exception], ...]
    error_ttl: float
    stale_if_error: float
    early: float
    jitter: float
    eviction: str
    state: State

    def __init__(
        self,
        ttl: Duration | Callable[[Any], Duration | None] | None,
        *,
        soft_ttl: Duration | None = None,
        backend: Any = "memory",
        url: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        max_entries: int = 10_000,
        max_bytes: int | None = None,
        signing_key: bytes | Iterable[bytes] | KeyRing | None = None,
        encryption_key: bytes | Iterable[bytes] | KeyRing | None = None,
        compress_above: int | None = None,
        max_inflated: int = 64 * 1024 * 1024,
        near: Duration | None = None,
        patience: Duration = 0.05,
        lease: Duration = 10.0,
        tags: str | Iterable[str] | Callable[..., Iterable[str]] = (),
        key: str | Callable[..., object] | None = None,
        namespace: str | None = None,
        version: int | str = 0,
        cache_if: Callable[[Any], object] | None = None,
        errors: type[Exception] | tuple[type[Exception], ...] = (),
        error_ttl: Duration = 1.0,
        stale_if_error: Duration = 0.0,
        early: float = 0.0,
        jitter: float = 0.0,
        eviction: str = "s3-fifo",
        name: str | None = None,
    ) -> None:
        if isinstance(backend, str) and "://" in backend and url is None:
            backend, url = "redis", backend
        if directory is not None and backend == "memory":
            backend = "disk"
        if backend == "memory":
            unread("lease", lease, 10.0, "in memory: nobody else waits for a load")
            unread("compress_above", compress_above, None, "in memory: entries are kept as they are")
        if backend == "redis" and near is None:
            unread("max_bytes", max_bytes, None, "with backend='redis', which has bounds of its own; near= has copies")
            unread(
                "eviction", eviction, "s3-fifo", "with backend='redis', which has rules of its own; near= has copies"
            )
        if errors == ():
            unread("error_ttl", error_ttl, 1.0, "without errors=: none is kept")
        life = _callable("cache_ttl", ttl) if callable(ttl) else optional(duration, "cache_ttl", ttl, above=0)
        soft = optional(duration, "soft_ttl", soft_ttl, above=0)
        if soft is not None and isinstance(life, float) and soft > life:
            raise ConfigurationError("soft_ttl", soft_ttl, f"at most ttl ({life:g} s)")
        self.freeze(
            ttl=life,
            soft_ttl=soft,
            backend=_backend(backend, url, near, signing_key, encryption_key),
            url=None if url is None else Address(url),
            directory=optional(_directory, "directory", directory),
            max_entries=whole("max_entries", max_entries, low=1),
            max_bytes=optional(whole, "max_bytes", max_bytes, low=1),
            signing_key=_ring(signing_key, "signing_key", 16),
            encryption_key=_ring(encryption_key, "encryption_key", 32),
            compress_above=_compress(compress_above),
            max_inflated=whole("max_inflated", max_inflated, low=1),
            near=optional(duration, "near", near, above=0),
            patience=duration("patience", patience, above=0),
            lease=duration("lease", lease, above=0),
            tags=asked("tags", tags, TAGS) if callable(tags) else _texts("tags", tags),
            key=_key(key),
            namespace=_namespace(namespace),
            version=_version(version),
            cache_if=_callable("cache_if", cache_if),
            errors=_errors(errors),
            error_ttl=duration("error_ttl", error_ttl, above=0),
            stale_if_error=duration("stale_if_error", stale_if_error, low=0),
            early=number("early", early, low=0),
            jitter=number("jitter", jitter, low=0, high=1),
            eviction=choice("eviction", eviction, ("s3-fifo", "lru")),
            name=name,
        )
        self.start()

    def start(self) -> None:
        from opero.stores.cache.state import State

        self._keep(state=State(self))

    def attach(self, function: Callable[..., Any]) -> Layer:
        from opero.stores.cache.around import Around

        return Around(self, function).layer

    @property
    def reads_arguments(self) -> bool:  # type: ignore[override]
        """Whether a function of the user's is given them."""
        return callable(self.key) or callable(self.tags)

    def shortcut(self, function: Callable[..., Any], parameters: Sequence[str]) -> Fragment | None:
        """Return a hit for plain arguments: a fresh entry in memory, a fresh copy of one in Redis, or one there."""
        distant = self.state.memory is None
        if self.eviction == "lru" or self.key is not None or (distant and self.backend != "redis"):
            return None
        from opero.stores.cache.keys import SIMPLE, name_of, own_of
        from opero.stores.cache.state import forced, modes

        own, memory, single = own_of(function, self.version), self.state.memory, len(parameters) == 1
        names: dict[str, Any] = {"plain_kinds": SIMPLE, "cached_own": own}
        names |= {"int_kind": int, "str_kind": str, "forced": forced, "forced_mode": modes.get}
        kinds = [f"kind_of_{number}" for number in range(len(parameters))]
        found = [PLAIN.format(kind=kind, name=name) for kind, name in zip(kinds, parameters, strict=True)]
        free = "not (forced and forced_mode())"
        plain = " and ".join([free, *found])
        parts = ", ".join([*kinds, *parameters])
        if memory is None:
            return self._look(function, names, plain, parts)
        near = self.state.near(self.namespace or name_of(function))
        text = HIT.format(
            plain=free if single else plain,
            found=ALONE.format(kind=kinds[0], name=parameters[0]) if single else SEVERAL.format(parts=parts),
            until=COPY if near else FRESH,
        )
        view = memory.view(own) if single else None  # kept, too: else it would show nothing
        names |= {"cached_in": memory, "cached_view": view, "cached_alone": view and view.entries, "copies": near}
        return Fragment(text, names=names, counted=(REQUESTS.name, ("hit",)))

    def _look(self, function: Callable[..., Any], names: dict[str, Any], plain: str, parts: str) -> Fragment | None:
        from opero.stores.cache.around import Around
        from opero.stores.cache.look import Looked

        look = Around(self, function).place.look
        if look is None:
            return None
        ask = "await look" if is_coroutine_function(function) else "plain_run(look"
        text = LOOK.format(plain=plain, parts=parts, ask=ask, end="" if ask[0] == "a" else ")")
        return Fragment(text, names={**names, "look": look.counted, "missed": Looked}, held="entry")

    def observe(self, now: float) -> Iterable[Observation]:
        yield COUNT, (), self.state.count()
        yield USAGE, (), self.state.usage()

    def lifetimes(self, result: Any, chance: Callable[[], float] = drawn) -> tuple[float, float, float]:
        """Return for how many seconds a result is fresh, may be used at all, and is kept for a failing function."""
        ttl = self.ttl(result) if callable(self.ttl) else self.ttl
        told: Any = getattr(ttl, "total_seconds", None)
        seconds: Any = inf if ttl is None else ttl if told is None else told()
        if not isinstance(seconds, int | float) or isnan(seconds):
            raise ConfigurationError("cache_ttl", type(ttl), "a function that returns seconds, a timedelta or None")
        hard = seconds * (1 - self.jitter * chance())
        soft = hard if self.soft_ttl is None else min(hard, self.soft_ttl)
        return soft, hard, hard + self.stale_if_error


def _backend(value: Any, url: str | None, near: object, *keys: object) -> Any:
    own = not isinstance(value, str) and all(callable(getattr(value, name, None)) for name in ("get", "set", "delete"))
    if not own and value not in BACKENDS:
        allowed = f"{', '.join(map(repr, BACKENDS))}, or an object with get, set and delete"
        raise ConfigurationError("cache_backend", value, allowed)
    if url is not None and value != "redis":
        raise ConfigurationError("url", "…", "a Redis URL with backend='redis', and only there")
    if near is not None and value != "redis":
        raise ConfigurationError("near", near, "seconds, with backend='redis'")
    for field, key in zip(("signing_key", "encryption_key"), keys, strict=True):
        if value == "memory" and key is not None:
            raise ConfigurationError(field, "…", "a key where entries leave this process: on disk, in Redis")
    from opero.stores import SCHEMES

    if url is not None and url.partition("://")[0] not in SCHEMES:
        raise ConfigurationError("url", Address(url), "redis://, rediss:// or unix:// with host and port")
    return value


def _version(value: Any) -> int | str:
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise ConfigurationError("version", type(value), "a number or a text that changes with the results")
    return value


def _ring(keys: Any, field: str, least: int) -> Any:
    if keys is None:
        return None
    from opero.stores.cache.keyring import ring

    if field == "encryption_key":
        _needs(field, "cryptography")
    return ring(keys, field, least)


def _compress(above: Any) -> int | None:
    if above is not None:
        _needs("compress_above", "zstandard")
    size: int | None = optional(whole, "compress_above", above, low=0)
    return size


def _needs(field: str, module: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ConfigurationError(field, "…", f"the {module} library: pip install 'opero[cache]'")


def _texts(field: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple | set) else (value,)
    if not all(isinstance(text, str) and text for text in texts):
        raise ConfigurationError(field, value, TAGS)
    return texts


def _key(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value and _is_template(value)):
        return value
    return asked("cache_key", value, "a template like 'user:{user_id}' or a function of the arguments")


def _is_template(text: str) -> bool:
    from string import Formatter

    try:
        return bool([*Formatter().parse(text)])
    except ValueError:
        return False


def _namespace(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isprintable() or set(value) & set("{}*?[] \\"):
        raise ConfigurationError("cache_namespace", value, "a printable text without spaces, braces and wildcards")
    return value


def _callable(field: str, value: Any) -> Any:
    return None if value is None else asked(field, value, "a function of the result")


def _directory(field: str, value: Any) -> Any:
    if not (isinstance(value, str) and value) and not hasattr(value, "__fspath__"):
        raise ConfigurationError(field, value, "the path of a directory")
    return value


def _errors(value: Any) -> tuple[type[Exception], ...]:
    kinds = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise ConfigurationError("errors", value, "an exception type or a tuple of them")
    return kinds
