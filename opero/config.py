"""Configuration from outside: a dictionary, a TOML file, the environment. Checked here, with what is wrong and where.

A configuration is the keywords of `@opero` as values. It carries no state: two functions with one configuration share
nothing.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Mapping
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
        ValidationError,
        model_validator,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("OperoConfig needs pydantic: pip install 'opero[config]'", name=error.name) from None

from opero import conditions, settings
from opero.errors import ConfigurationError
from opero.primitives.bulkhead import Bulkhead
from opero.primitives.circuit_breaker import CircuitBreaker
from opero.primitives.rate_limit import RateLimit

if TYPE_CHECKING:
    from typing import Self

    from opero.policy import Policy

PREFIX = "OPERO_CALL_"
POLICIES = {"circuit_breaker": CircuitBreaker, "rate_limit": RateLimit, "bulkhead": Bulkhead}
TRUTHS = {"circuit_breaker", "cache", "fallback", "validate_"}
Seconds = PositiveFloat
Delay = Annotated[float, Field(ge=0)]
Table = dict[str, Any]


class OperoConfig(BaseModel):
    """The settings of one operation, and in `operations` those of others by their name. Give it to `@opero`, in place.

    What a name has in `operations` goes before what stands outside, and a keyword at the decorator before both. A table
    in place of a number gives all settings of a policy: `circuit_breaker = {failure_ratio = 0.3}`. `retry_on` takes
    names of Python's own exceptions and HTTP statuses.

    Example:
        >>> config = OperoConfig.from_dict({"retries": 2, "operations": {"shop.pay": {"timeout": 5}}})
        >>> config.of("shop.pay").keywords()
        {'retries': 2, 'timeout': 5.0}
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    retries: NonNegativeInt | None = None
    backoff: Literal["exponential", "fibonacci", "linear", "constant", "decorrelated_jitter"] | None = None
    backoff_factor: Annotated[float, Field(ge=1)] | None = None
    min_delay: Delay | None = None
    max_delay: Delay | None = None
    jitter: Literal["full", "equal", "none"] | None = None
    retry_on: list[str | int] | None = None
    retry_budget: PositiveFloat | Literal["adaptive"] | None = None
    timeout: Seconds | None = None
    attempt_timeout: Seconds | None = None
    circuit_breaker: bool | Table | None = None
    rate_limit: str | PositiveFloat | Table | None = None
    bulkhead: int | Literal["adaptive"] | Table | None = None
    hedge: Seconds | Literal["adaptive"] | None = None
    fallback: Any = None
    arg_fallback: str | None = None
    cache: bool | None = None
    cache_ttl: Seconds | None = None
    cache_backend: str | None = None
    cache_namespace: str | None = None
    record: list[str] | None = None
    validate_: bool | None = Field(default=None, alias="validate")
    slo: float | list[float] | None = None
    tags: list[str] | None = None
    name: str | None = None
    operations: dict[str, OperoConfig] = {}

    _of: _Memo = PrivateAttr(default_factory=lambda: _Memo())  # noqa: PLW0108 - it is further down

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OperoConfig:
        """Read a dictionary; raise `ConfigurationError` that names the setting, its value and what is allowed."""
        if not isinstance(values, Mapping):
            raise ConfigurationError("values", values, 'a mapping of settings: {"retries": 2}')
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _explained(error) from None

    @classmethod
    def from_toml(cls, path: str | Path) -> OperoConfig:
        """Read a TOML file; of a `pyproject.toml` the table `[tool.opero]`."""
        import tomllib

        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError("path", str(path), f"a TOML file that can be read ({error})") from error
        if path.name == "pyproject.toml":
            tool = values.get("tool")
            values = tool.get("opero") if isinstance(tool, dict) else None  # type: ignore[assignment]
            if not isinstance(values, dict):
                raise ConfigurationError("path", str(path), "a pyproject.toml with a table [tool.opero]")
        return cls.from_dict(values)

    @classmethod
    def from_env(cls, prefix: str = PREFIX, environ: Mapping[str, str] | None = None) -> OperoConfig:
        """Read OPERO_CALL_TIMEOUT=5, OPERO_CALL_CIRCUIT_BREAKER__FAILURE_RATIO=0.3 and so on; any prefix of your own.

        A value is read as JSON where it is JSON, else as a text.
        """
        values: dict[str, Any] = {}
        for name, text in sorted((os.environ if environ is None else environ).items()):
            if name.startswith(prefix):
                *outer, last = name.removeprefix(prefix).lower().split("__")
                table = values
                for part in outer:
                    table = table.setdefault(part, {})
                    if not isinstance(table, dict):
                        raise ConfigurationError(name, text, "either a value or a table, and there are both")
                table[last] = _read(text)
        return cls.from_dict(values)

    def of(self, name: str) -> OperoConfig:
        """Return the settings of one operation; worked out once."""
        if name not in self._of:
            own = self.operations.get(name, OperoConfig())
            given = {key: getattr(each, key) for each in (self, own) for key in each.model_fields_set}
            given.pop("operations", None)
            self._of[name] = OperoConfig.model_construct(set(given), **given)
        return self._of[name]

    def keywords(self) -> dict[str, Any]:
        """Return the keywords for `@opero`; policies are made anew each time."""
        names = type(self).model_fields
        given = {names[key].alias or key: getattr(self, key) for key in names if key in self.model_fields_set}
        given.pop("operations", None)
        if "retry_on" in given:
            given["retry_on"] = _condition(given["retry_on"])
        for key, policy in POLICIES.items():
            if isinstance(given.get(key), dict):
                given[key] = _made(key, policy, given[key])
        return given

    def recipe(self, name: str) -> tuple[list[Policy], dict[str, Any]]:
        """Return what it stands for in `@opero`."""
        return [], self.of(name).keywords()

    @model_validator(mode="before")
    @classmethod
    def _without_truths(cls, values: Any) -> Any:
        """Raise `ConfigurationError` where a truth would be taken for the number 1."""
        for key, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, bool) and key in cls.model_fields and key not in TRUTHS:
                raise ConfigurationError(key, value, "no truth, but how many, or how long")
        return values

    @model_validator(mode="after")
    def _checked(self) -> Self:
        """Raise `ConfigurationError` for a value that no policy takes."""
        for name, own in self.operations.items():
            if own.operations:
                raise ConfigurationError(
                    f"operations.{name}.operations", own.operations, "nothing: it is one operation"
                )
        settings.policies_from((), self.keywords())
        return self


class _Memo(dict[str, OperoConfig]):
    """What was worked out; two configurations do not differ by it."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Memo, ()


def _made(key: str, policy: Any, table: Table) -> Policy:
    try:
        made: Policy = policy(**table)
    except ConfigurationError as error:
        raise ConfigurationError(f"{key}.{error.field}", error.value, error.allowed) from None
    except TypeError as error:
        text = str(error).partition("__init__() ")[2] or str(error)
        raise ConfigurationError(key, table, f"the settings of {policy.__name__} ({text})") from None
    return made


def _condition(names: list[str | int]) -> Any:
    statuses = [name for name in names if isinstance(name, int)]
    types = [getattr(builtins, name, None) for name in names if isinstance(name, str)]
    if not names or not all(isinstance(each, type) and issubclass(each, Exception) for each in types):
        raise ConfigurationError("retry_on", names, 'names of exceptions like "ConnectionError", and HTTP statuses')
    by_type = conditions.of("retry_on", tuple(types)) if types else None
    by_status = conditions.status(*statuses) if statuses else None
    return by_type | by_status if by_type and by_status else by_type or by_status


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _explained(error: ValidationError) -> ConfigurationError:
    """Say the first of what is wrong, and note the others."""
    first, *others = [_one(each) for each in error.errors(include_url=False)]
    for other in others:
        first.add_note(str(other))
    return first


def _one(error: Any) -> ConfigurationError:
    known = {field.alias or key for key, field in OperoConfig.model_fields.items()}
    parts = [str(part) for part in error["loc"]]
    ours = error.get("ctx", {}).get("error")
    if isinstance(ours, ConfigurationError):
        return ConfigurationError(".".join([*parts, ours.field]), ours.value, ours.allowed)
    while len(parts) > 1 and parts[-1] not in known:  # which branch of a union it was is nothing to a user
        parts.pop()
    if error["type"] == "extra_forbidden":
        parts = [str(part) for part in error["loc"]]
        return ConfigurationError(".".join(parts), error["input"], settings.instead_of(parts[-1], sorted(known)))
    allowed = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return ConfigurationError(".".join(parts), error["input"], allowed)
