"""Configuration from outside: a dictionary, a TOML file, the environment. Checked here, with what is wrong and where.

A configuration is the keywords of `@opero` as values. It carries no state: two functions with one configuration share
nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

try:
    from pydantic import (
        BaseModel,
        ConfigDict,
        Field,
        NonNegativeInt,
        PositiveFloat,
        PrivateAttr,
        StrictInt,
        ValidationError,
        ValidationInfo,
        ValidatorFunctionWrapHandler,
        field_validator,
        model_validator,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("OperoConfig needs pydantic: pip install 'opero[config]'", name=error.name) from None

from opero import settings, values
from opero.errors import ConfigurationError
from opero.policy import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from opero.policy import Policy

PREFIX = "OPERO_CALL_"
TRUTHS = {"circuit_breaker", "cache", "fallback", "validate"}
TEXTS = {"arg_fallback", "cache_backend", "cache_key", "cache_namespace", "name", "record", "tags"}
WORDS = {"true": True, "false": False}  # as most languages write them
Seconds = PositiveFloat
Delay = Annotated[float, Field(ge=0)]
Table = dict[str, Any]


class OperoConfig(BaseModel):
    """The settings of one operation, and in `operations` those of others by their name. Give it to `@opero`, in place.

    What a name has in `operations` goes before what stands outside, and a keyword at the decorator before both. A table
    in place of a number gives all settings of a policy: `circuit_breaker = {failure_ratio = 0.3}`. `retry_on` takes
    names of Python's own exceptions and HTTP statuses. All that is wrong is one `ConfigurationError`; its `.errors`
    have the path, the value and the way out of each.

    Example:
        >>> config = OperoConfig.from_dict({"retries": 2, "operations": {"shop.pay": {"timeout": 5}}})
        >>> config.of("shop.pay").keywords()
        {'retries': 2, 'timeout': 5.0}
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)  # extra: keywords of plugins

    retries: NonNegativeInt | None = None
    backoff: Literal["exponential", "fibonacci", "linear", "constant", "decorrelated_jitter"] | None = None
    backoff_factor: Annotated[float, Field(ge=1)] | None = None
    min_delay: Delay | None = None
    max_delay: Delay | None = None
    jitter: Literal["full", "equal", "none"] | None = None
    retry_on: str | StrictInt | list[str | StrictInt] | None = None
    retry_budget: float | str | Table | None = None
    timeout: Seconds | Table | None = None
    attempt_timeout: Seconds | Table | None = None
    circuit_breaker: bool | Table | None = None
    rate_limit: str | PositiveFloat | Table | None = None
    bulkhead: int | str | Table | None = None
    hedge: float | str | Table | None = None
    fallback: Any = None
    arg_fallback: str | Table | None = None
    cache: bool | Table | None = None
    cache_ttl: Seconds | None = None
    cache_backend: str | None = None
    cache_key: str | None = None
    cache_namespace: str | None = None
    order: list[str] | None = None
    record: str | list[str] | None = None
    validate_: bool | None = Field(default=None, alias="validate")
    slo: float | Table | list[float | Table] | None = None
    tags: str | list[str] | None = None
    name: str | None = None
    operations: dict[str, OperoConfig] = {}

    _of: _Memo = PrivateAttr(default_factory=lambda: _Memo())  # noqa: PLW0108 - it is further down

    if not TYPE_CHECKING:

        def __init__(self, /, *values_: Any, **given: Any) -> None:
            if values_:
                allowed = "settings by keyword; OperoConfig.from_dict takes a dictionary"
                raise ConfigurationError("OperoConfig", tuple(map(type, values_)), allowed)
            there = _there()
            wrong = {key: error for key in given if (error := values.unknown(key, given[key], there))}
            try:
                super().__init__(**{key: value for key, value in given.items() if key not in wrong})
            except ValidationError as error:
                for key, said in _explained(error):
                    wrong[key] = values.together([wrong[key], said] if key in wrong else [said])
            if wrong:
                raise values.together([wrong[key] for key in sorted(wrong, key=[*given, ""].index)]) from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OperoConfig:
        """Read a dictionary; raise `ConfigurationError` that names the setting, its value and what is allowed."""
        if not isinstance(values, Mapping):
            raise ConfigurationError("values", values, 'a mapping of settings: {"retries": 2}')
        if not all(isinstance(key, str) for key in values):
            raise ConfigurationError("values", values, "names of settings, as texts")
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path) -> OperoConfig:
        """Read a TOML file; of a `pyproject.toml` the table `[tool.opero]`."""
        import tomllib

        try:
            path = Path(path)
        except TypeError:
            raise ConfigurationError("path", path, "where a TOML file is") from None
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Notepad's begin with a mark
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigurationError("path", str(path), f"a TOML file that can be read ({error})") from error
        if path.name == "pyproject.toml":
            tool = values.get("tool")
            values = tool.get("opero") if isinstance(tool, dict) else None  # type: ignore[assignment]
            if not isinstance(values, dict):
                raise ConfigurationError("path", str(path), "a pyproject.toml with a table [tool.opero]")
        try:
            return cls.from_dict(values)
        except ConfigurationError as error:
            error.add_note(f"in {path}")
            raise

    @classmethod
    def from_env(cls, prefix: str = PREFIX, environ: Mapping[str, str] | None = None) -> OperoConfig:
        """Read OPERO_CALL_TIMEOUT=5, OPERO_CALL_CIRCUIT_BREAKER__FAILURE_RATIO=0.3 and so on; any prefix of your own.

        A value is read as JSON where it is JSON, else as a text. An error names the variable.
        """
        text("prefix", prefix)
        if not isinstance(environ, Mapping | None):
            raise ConfigurationError("environ", environ, "a mapping of names to texts, or None for the environment")
        given, origins = _tables(prefix, os.environ if environ is None else environ)
        try:
            return cls.from_dict(given)
        except ConfigurationError as error:
            raise values.together([_named(each, origins) for each in error.errors]) from None

    def of(self, name: str) -> OperoConfig:
        """Return the settings of one operation; worked out once."""
        known = name if name in self.operations else ""  # all others have the same
        if known not in self._of:
            own = self.operations.get(name)
            layers = [{key: getattr(each, key) for key in each.model_fields_set} for each in (self, own) if each]
            given = reduce(settings.nearer, layers)
            given.pop("operations", None)
            self._of[known] = OperoConfig.model_construct(set(given), **given)
        return self._of[known]

    def keywords(self) -> dict[str, Any]:
        """Return the keywords for `@opero`; policies are made anew each time."""
        return {key: values.meant(key, value) for key, value in self._given().items()}

    def _given(self) -> Table:
        fields = type(self).model_fields
        order = [*fields, *(self.model_extra or {})]
        given = {_keyword(key): getattr(self, key) for key in order if key in self.model_fields_set}
        given.pop("operations", None)
        return given

    def recipe(self, name: str) -> tuple[list[Policy], dict[str, Any]]:
        """Return what it stands for in `@opero`."""
        self._of.used.add(name)
        return [], self.of(name).keywords()

    def unused(self) -> list[str]:
        """Return the names in `operations` that nothing was decorated by so far: the last thing to ask at the start."""
        return [name for name in self.operations if name not in self._of.used]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return one with other settings, checked as all are."""
        given = {_keyword(key): getattr(self, key) for key in self.model_fields_set}
        return type(self)(**{**given, **(update or {})})

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Yield what is given, as it may be shown: a value may be a secret, and policies know theirs."""
        yield from ((key, settings.shown(value)) for key, value in self.keywords().items())
        if self.operations:
            yield "operations", self.operations

    @field_validator("*", mode="wrap")
    @classmethod
    def _each(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Say of a wrong value what `@opero` says of it."""
        keyword = _keyword(str(info.field_name))
        if keyword == "operations":
            return handler(value)
        if hasattr(value, "total_seconds"):
            value = value.total_seconds()
        if isinstance(value, bool) and keyword not in TRUTHS:
            values.check(keyword, value)  # pydantic would take it for the number 1
        try:
            taken = handler(value)
        except ValidationError:
            values.check(keyword, value)
            raise ConfigurationError(
                keyword, value, "what a file can hold; objects and functions go to @opero"
            ) from None
        values.check(keyword, value if isinstance(value, str) else taken)  # pydantic would take "5" for the number 5
        return taken

    @field_validator("operations")
    @classmethod
    def _flat(cls, operations: dict[str, OperoConfig]) -> dict[str, OperoConfig]:
        wrong = [
            ConfigurationError(f"{name}.operations", [*own.operations], "nothing: it is one operation")
            for name, own in operations.items()
            if "operations" in own.model_fields_set
        ]
        if "" in operations:
            wrong.append(ConfigurationError('""', "", "the name of an operation"))
        if wrong:
            raise values.together(wrong)
        return operations

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Raise `ConfigurationError` for values that do not go together, and of what plugins add."""
        wrong = [error for name in ("", *self.operations) for error in self._together(name)]
        if wrong:
            raise values.together(wrong)
        return self

    def _together(self, name: str) -> list[ConfigurationError]:
        try:
            settings.policies_from((), self.of(name).keywords(), retries=False)
        except ConfigurationError as error:
            return [values.beneath(f"operations.{name}", error) if name else error]
        return []


class _Memo(dict[str, OperoConfig]):
    """What was worked out, and for whom; two configurations do not differ by it."""

    __hash__ = None

    def __init__(self) -> None:
        self.used: set[str] = set()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Memo, ()


def _keyword(field: str) -> str:
    return field.rstrip("_")  # `validate` is a method of pydantic's


def _there() -> list[str]:
    return sorted(map(_keyword, OperoConfig.model_fields))


def _tables(prefix: str, environ: Mapping[str, str]) -> tuple[Table, dict[str, str]]:
    """Return what variables say, as tables, and which said what, by its path."""
    given: Table = {}
    origins: dict[str, str] = {}
    for name, said in sorted((str(name), said) for name, said in environ.items()):
        if name.startswith(prefix):
            if not isinstance(said, str):
                raise ConfigurationError(name, said, "a text, as variables of the environment are")
            *outer, last = path = name.removeprefix(prefix).lower().split("__")
            if again := origins.get(".".join(path)):
                raise ConfigurationError(name, said, f"nothing: {again} gives this setting")
            table = given
            for part in outer:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise ConfigurationError(name, said, "either a value or a table; here are both")
            table[last] = _read(said, as_text=not outer and last in TEXTS)
            origins[".".join(path)] = name
    return given, origins


def _read(said: str, *, as_text: bool) -> Any:
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        return WORDS.get(said.lower(), said)
    return said if as_text and not isinstance(value, str | list | dict) else value


def _named(error: ConfigurationError, origins: Mapping[str, str]) -> ConfigurationError:
    """Name the variable that said what is wrong, and how it would be read."""
    error = ConfigurationError(error.field, error.value, f"{error.allowed}{_misread(error)}")
    parts = error.field.split(".")
    for end in range(len(parts), 0, -1):
        if name := origins.get(".".join(parts[:end])):
            field = ".".join([name, *parts[end:]])
            return ConfigurationError(field, error.value, error.allowed)
    beneath = next((name for path, name in origins.items() if path.startswith(f"{error.field}.")), error.field)
    return ConfigurationError(beneath, error.value, error.allowed)


def _misread(error: ConfigurationError) -> str:
    """Say why the text of a variable is not what was meant, where it was meant for JSON, or for a truth."""
    if not isinstance(error.value, str):
        return ""
    if error.value.lstrip()[:1] in {"{", "["}:
        try:
            json.loads(error.value)
        except (ValueError, RecursionError) as why:
            return f"; as JSON it cannot be read: {why}"
    return "; in a variable true or false, or JSON" if error.allowed.startswith("True") else ""


def _explained(error: ValidationError) -> list[tuple[str, ConfigurationError]]:
    """Return all that is wrong, each with the setting at the beginning of its path."""
    return [(str((each["loc"] or ("",))[0]), _one(each)) for each in error.errors(include_url=False)]


def _one(error: Any) -> ConfigurationError:
    path = ".".join(str(part) for part in error["loc"])
    ours = error.get("ctx", {}).get("error")
    if isinstance(ours, ConfigurationError):
        return values.beneath(path, ours) if error["loc"][:1] == ("operations",) else ours
    of = "settings of one operation" if len(error["loc"]) > 1 else "settings of operations by their names"
    return ConfigurationError(path, error["input"], f"a table: {of}")
