"""`validate=True`: arguments and results are what the annotations say, checked and converted by pydantic.

Arguments are checked first of all: what is wrong with them no retry will mend. The result is checked inside of each
attempt: a wrong one is an error like any other, is retried, and reaches neither cache nor caller.
"""

from __future__ import annotations

from opero.errors import ConfigurationError
from opero.kinds import dress, is_coroutine_function, is_generator_function, named, read, signature_of
from opero.policy import Policy
from opero.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.call import Call, Layer, Next


class Validation(Policy):
    """Hold a function to its annotations. Holds no state."""

    place = "validate"
    SIGNALS = Signals("validate")

    def __init__(self) -> None:
        self.freeze()

    def attach(self, function: Callable[..., Any]) -> Layer:
        function = _bare(function) or function
        validate_call = _pydantic().validate_call
        given = _readable(function, lambda: validate_call(_arguments_of(function)))

        async def layer(call: Call, next: Next) -> Any:  # noqa: A002
            """Check the arguments, and pass on what they were converted to."""
            args, kwargs = given(*call.args, **call.kwargs)
            return await next(call.branch(args, kwargs))

        return layer

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        from typing import get_type_hints

        if _bare(function) is not None:
            return function
        if is_generator_function(function):
            raise ConfigurationError("validate", True, "False around a generator, which has no result to check")
        if not _annotated(function):
            return function
        hints = _readable(function, lambda: get_type_hints(function, include_extras=True))
        if hints.get("return") is None:
            return function
        adapter = _pydantic().TypeAdapter
        check = _named(_readable(function, lambda: adapter(hints["return"])).validate_python, _name(function))
        wrapped: Any = _checked_async(function, check) if is_coroutine_function(function) else _checked(function, check)
        dress(wrapped, function)
        wrapped._opero_bare = function  # noqa: SLF001 - our own mark
        return wrapped  # type: ignore[no-any-return]


LATE = ", whose names are there when it is decorated: not those under `if TYPE_CHECKING`, nor its own class"


def _readable(function: Callable[..., Any], read: Callable[[], Any]) -> Any:
    """Return what is read of a function's annotations, or raise `ConfigurationError`."""
    try:
        return read()
    except Exception as error:
        why = str(error).partition("\n")[0]
        late = LATE if isinstance(error, NameError) else ""
        allowed = f"annotations that pydantic can read at run time{late}; of {_name(function)}: {why}"
        raise ConfigurationError("validate", True, allowed) from error


def _named(check: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """Return a check whose error says what was checked."""

    def checked(result: Any) -> Any:
        try:
            return check(result)
        except ValueError as error:
            error.add_note(f"this was the result of {name}")
            raise

    return checked


def _name(function: Callable[..., Any]) -> str:
    return ".".join(named(function))


def _checked(function: Callable[..., Any], check: Callable[[Any], Any]) -> Callable[..., Any]:
    def checked(*args: Any, **kwargs: Any) -> Any:
        return check(function(*args, **kwargs))

    return checked


def _checked_async(function: Callable[..., Any], check: Callable[[Any], Any]) -> Callable[..., Any]:
    async def checked(*args: Any, **kwargs: Any) -> Any:
        return check(await function(*args, **kwargs))

    return checked


def _arguments_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function with the same parameters that returns its arguments."""

    def arguments(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    arguments.__annotations__ = {}  # ours are no rules
    dress(arguments, function)
    if signature_of(function) is None:
        del arguments.__wrapped__  # type: ignore[attr-defined]
    return arguments


def _bare(function: Callable[..., Any]) -> Any:
    """Return the function whose results are checked already."""
    return read(function, "__dict__", dict, {}).get("_opero_bare")


def _annotated(function: Callable[..., Any]) -> bool:
    return read(function, "__annotations__", dict) is not None


def _pydantic() -> Any:
    try:
        import pydantic
    except ModuleNotFoundError:
        raise ConfigurationError(
            "validate", True, "True once pydantic is installed: pip install 'opero[config]'"
        ) from None
    return pydantic
