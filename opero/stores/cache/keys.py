"""Cache keys: which call has the same answer as which other.

1. Arguments are put in the order of the parameters with defaults filled in, so `f(1)`, `f(x=1)` and `f(1, y=default)`
   are one key.
2. A key of plain texts, integers and the like holds their types and them; any other holds its canonical bytes. Which
   of both depends on the arguments alone. The fast path writes the first kind out.
3. A template, "user:{user_id}", keeps the values apart from the text between them.
"""

from __future__ import annotations

from string import Formatter

from opero.errors import ConfigurationError
from opero.kinds import named, signature_of
from opero.stores.cache.canonical import encode, serial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping
    from typing import Any

    Key = tuple[Hashable, ...]

SIMPLE = frozenset({str, int, bytes, bool, type(None)})
POSITIONAL, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = (0, 1), 2, 3, 4  # inspect's kinds, as numbers


class Unbindable(Exception):
    """The arguments do not fit the function: it shall say so itself."""


class Same:
    """Stands for a callable in keys: equal to itself alone, which it keeps alive."""

    __slots__ = ("callable",)

    def __init__(self, callable: object) -> None:  # noqa: A002
        self.callable = callable

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.callable is other.callable

    def __hash__(self) -> int:
        return id(self.callable)


class Keys:
    """Makes the keys of one function. `of` is for this process, `full` for every store."""

    def __init__(
        self,
        function: Callable[..., Any],
        key: str | Callable[..., object] | None,
        version: object,
        tags: tuple[str, ...] | Callable[..., Iterable[str]] = (),
    ) -> None:
        self.own = own_of(function, version)
        self.shared = encode((name_of(function).encode(), encode(version)))
        self.parameters = Parameters(function)
        self._simple: dict[tuple[type, ...], bool] = {}
        self._plain = self.parameters.plain
        self._make = None if key is None else maker(key, self.parameters)
        self._tag_function = tags if callable(tags) else None
        self._tags = () if callable(tags) else tuple(_tag(text, self.parameters) for text in tags)

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Key:
        """Return the key of a call, to look it up in this process."""
        if self._make is not None:
            args = (self._make(args, kwargs),)
        elif kwargs or len(args) != self._plain:
            args = self.parameters.bind(args, kwargs)
        types = tuple(map(type, args))
        simple = self._simple.get(types)
        if simple is None:
            simple = self._remember(types)
        return (self.own, *types, *args) if simple else (self.own, encode(args))

    @property
    def tagged(self) -> bool:
        """Whether entries have tags."""
        return bool(self._tags) or self._tag_function is not None

    def full(self, key: Key) -> bytes:
        """Return the bytes of a key that `of` made: the same in every process, with the name of the function."""
        arguments = key[1] if len(key) == 2 else encode(key[len(key) // 2 + 1 :])
        return b"".join((self.shared, arguments))  # type: ignore[arg-type]

    def tags(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
        """Return the tags of a call's entry, their fields filled in; whatever the user's functions raise passes."""
        if self._tag_function is not None:
            given = self._tag_function(*args, **kwargs)
            return texts((given,) if isinstance(given, str) else given)
        return self._filled(self.parameters.named(args, kwargs)) if self._tags else ()

    @property
    def tells_tags(self) -> bool:
        """Whether a key may tell the tags of its call."""
        return self._tag_function is None and (self._make is None or not self._tags)

    def tags_of(self, key: Key) -> tuple[str, ...] | None:
        """Return the tags of a call by its key; None where that does not tell them."""
        if not self._tags:
            return ()
        if len(key) == 2:
            return None
        names = [*self.parameters.names, *self.parameters.keyword_only]
        try:
            return self._filled(dict(zip(names, key[len(key) // 2 + 1 :], strict=True)))
        except Exception:  # noqa: BLE001 - the long way meets it again, and says so
            return None

    def _filled(self, named: dict[str, Any]) -> tuple[str, ...]:
        return tuple(tag if isinstance(tag, str) else tag(named) for tag in self._tags)

    def _remember(self, types: tuple[type, ...]) -> bool:
        if len(self._simple) > 1000:  # a function of any number of arguments
            self._simple.clear()
        simple = self._simple[types] = SIMPLE.issuperset(types)
        return simple


class Parameters:
    """The parameters of a function, and how to lay arguments out in their order."""

    def __init__(self, function: Callable[..., Any]) -> None:
        told = signature_of(function)
        found = [] if told is None else list(told.parameters.values())
        self.any = told is None
        self.names = [p.name for p in found if p.kind in POSITIONAL]
        self.keyword_only = [p.name for p in found if p.kind == KEYWORD_ONLY]
        self.positional_only = {p.name for p in found if p.kind == 0}
        self.defaults = {p.name: p.default for p in found if p.default is not p.empty}
        self.varargs = next((p.name for p in found if p.kind == VAR_POSITIONAL), None)
        self.varkw = next((p.name for p in found if p.kind == VAR_KEYWORD), None)
        free = self.any or self.varargs or self.varkw or self.keyword_only
        self.plain = -1 if free else len(self.names)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return one value a parameter, in their order; what has no parameter of its own is a tuple and a dict."""
        if self.any:
            return (*args, dict(kwargs))
        named = self.named(args, kwargs)
        return tuple(named.values())

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter's value by its name."""
        left = dict(kwargs)
        if len(args) > len(self.names) and not self.varargs:
            raise Unbindable
        values: dict[str, Any] = {}
        for index, name in enumerate(self.names):
            if index < len(args):
                if name in left and name not in self.positional_only:
                    raise Unbindable
                values[name] = args[index]
            else:
                values[name] = self._given(name, left, by_name=name not in self.positional_only)
        if self.varargs:
            values[self.varargs] = args[len(self.names) :]
        for name in self.keyword_only:
            values[name] = self._given(name, left)
        if self.varkw:
            values[self.varkw] = left
        elif left:
            raise Unbindable
        return values

    def _given(self, name: str, left: dict[str, Any], *, by_name: bool = True) -> Any:
        if by_name and name in left:
            return left.pop(name)
        if name in self.defaults:
            return self.defaults[name]
        raise Unbindable


def texts(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags that are texts: any other would be ended by nobody."""
    given = tuple(tags)
    for tag in given:
        if not isinstance(tag, str):
            raise TypeError(f"a tag is a text, not of type {type(tag).__name__}")
    return given


def alone(kind: type, argument: Hashable) -> Hashable:
    """Return what stands for a plain argument that is the only one; a text or an integer is like no other kind."""
    return argument if kind is int or kind is str else (kind, argument)


def maker(key: str | Callable[..., object], parameters: Parameters) -> Callable[..., object]:
    """Return what makes the user's key of a call: their function, or their template filled in."""
    if not isinstance(key, str):
        return lambda args, kwargs: key(*args, **kwargs)
    fields, formatter = template(key, parameters), Formatter()
    known = [*parameters.names, *parameters.keyword_only]
    if known and not fields:
        meant = key if key in known else known[0]
        allowed = f"a template with a parameter in it, like '{{{meant}}}', or a function of the arguments"
        raise ConfigurationError("cache_key", key, f"{allowed}: a text alone is one key for all calls")

    def fill(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
        named = parameters.named(args, kwargs)
        return (key, *(formatter.get_field(field, (), named)[0] for field in fields))

    return fill


def template(text: str, parameters: Parameters, field: str = "cache_key") -> list[str]:
    """Return the fields of a template; refuse one that no parameter fills."""
    known = {*parameters.names, *parameters.keyword_only}
    try:
        parts = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ConfigurationError(field, text, "a template like 'user:{user_id}'") from error
    for name, spec, conversion in parts:
        first = name.partition(".")[0].partition("[")[0]
        if first not in known or spec or conversion:
            allowed = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(
                field, text, f"a template of parameters in braces, without formats; this function has {allowed}"
            )
    return [name for name, _, _ in parts]


def _tag(text: str, parameters: Parameters) -> Any:
    """Return a tag, or what fills one in; a tag is what somebody will write, so it is a text."""
    if not template(text, parameters, "tags"):
        return text.replace("{{", "{").replace("}}", "}")
    return lambda named: Formatter().vformat(text, (), named)


def own_of(function: Any, version: object) -> Hashable:
    """Return what stands for a function in this process; bytes keep their hash."""
    if type(function).__name__ == "function":
        return encode((serial(function), encode(version)))
    return Same(function), encode(version)


def name_of(function: Any) -> str:
    """Return `module:qualname`, of the type for a callable object."""
    return ":".join(named(function))
