"""The door for a block of code: a policy alone, where the block takes the place of the function.

The layers are the same as around a function. Their coroutine runs until it would call the function, rests there while
the block runs, and goes on with how the block ended.
"""

from __future__ import annotations

from functools import cache

from opero import catalogue, control
from opero.breaker import Breaker
from opero.deadlines import propagating
from opero.drivers.blocking import Blocking
from opero.drivers.inside_out import Handed, Inside, hand_out, plainly
from opero.errors import ConfigurationError, bare
from opero.kinds import own_signature
from opero.pipeline import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inspect import Signature
    from types import TracebackType
    from typing import Any, Literal, Self

    from opero.call import Call
    from opero.policy import Policy
    from opero.primitives.circuit_breaker import CircuitBreaker
    from opero.runtime import Runtime


class Guarded:
    """One block under a policy: a context manager for `with` or `async with`, to be entered once."""

    def __init__(self, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._operation = operation
        self._given = args, kwargs
        self._inside: Inside | None = None

    def __enter__(self) -> Self:
        _advance(self._begin(_HELD))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        inside = self._end(error)
        try:
            _advance(inside)
        except BaseException as raised:
            if bare(raised) is not error:
                raise
        finally:
            del error  # its traceback holds this frame
        return False

    async def __aenter__(self) -> Self:
        await self._begin(_held_aio()).forward()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        inside = self._end(error)
        try:
            await inside.forward()
        except BaseException as raised:
            if bare(raised) is not error:
                raise
        finally:
            del error  # its traceback holds this frame
        return False

    def _begin(self, runtime: Runtime) -> Inside:
        if self._inside is not None:
            raise self._misused("one entry, and was entered before; ask for another one by policy.block()")
        args, kwargs = self._given
        self._inside = Inside(self._operation.execute(runtime, args, kwargs), plainly)
        return self._inside

    def _end(self, error: BaseException | None) -> Inside:
        if self._inside is None:
            raise self._misused("an exit after its entry, and was never entered")
        self._inside.send(None) if error is None else self._inside.throw(error)
        return self._inside

    def _misused(self, how: str) -> ConfigurationError:
        return ConfigurationError("block", self._operation.name, how)


def guard(policy: Policy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Guarded:
    """Return a guard for one block."""
    key = getattr(policy, "key", None)
    if isinstance(key, str) and key not in kwargs:
        raise ConfigurationError("key", key, f"a block that is told it: policy.block({key}=...)")
    for field, asked, takes in _asked(policy):
        try:
            takes.bind(*args, **kwargs)
        except TypeError as error:
            allowed = f"a block that is told its arguments, policy.block(...): this one takes {takes}"
            raise ConfigurationError(field, asked, allowed) from error
    return Guarded(operation_of(policy), args, kwargs)


def _asked(policy: Policy) -> list[tuple[str, Any, Signature]]:
    """Return the functions of a policy that are asked about the arguments, and what they take."""
    kept: list[tuple[str, Any, Signature]] | None = policy.__dict__.get("_asked")
    if kept is None:
        given = [(field, getattr(policy, field, None)) for field in ("key", "weight")]
        told = [(field, value, own_signature(value)) for field, value in given if callable(value)]
        kept = policy.__dict__["_asked"] = [(field, value, takes) for field, value, takes in told if takes is not None]
    return kept


def breaker(policy: CircuitBreaker) -> Breaker:
    """Return a policy's controls."""
    return Breaker(operation_of(policy), policy)


def operation_of(policy: Policy) -> Operation:
    """Return the operation, of its name or kind, of which all blocks of a policy are calls."""
    operation: Operation | None = policy.__dict__.get("_alone")
    if operation is None:
        name = policy.name or f"opero.{type(policy).__name__}"
        operation = policy.__dict__["_alone"] = Operation(_block, [policy], name=name, is_async=False)
        control.attach(operation)
        catalogue.register(operation)
        if operation.controllers is not None:
            operation.controllers.start()
    return operation


def _block(*args: Any, **kwargs: Any) -> None:
    """Stand for a block where a function is asked for."""


def _advance(inside: Inside) -> None:
    if isinstance(inside.advance(), Handed):
        return
    inside.close()
    raise RuntimeError("a layer suspended on the blocking driver; use `async with`")


class _Held(Blocking):
    """Rests where a function would be called. A deadline is cooperative: nobody can stop a block in its own thread."""

    async def invoke(self, call: Call) -> Any:
        call.begin()
        if call.deadline is None:
            return await hand_out(None)
        with propagating(call.deadline):
            await hand_out(None)
        call.go_on()  # what comes too late is of no use
        return None


_HELD = _Held()


@cache
def _held_aio() -> Runtime:
    from opero.drivers.aio import Aio

    class Held(Aio):
        async def run(self, call: Call) -> Any:
            await hand_out(None)

    return Held()
