"""A policy around a block of code: `with` and `async with`."""

from __future__ import annotations

from contextvars import ContextVar

from opero.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Literal, Self

    from opero.alone import Guarded

_open: ContextVar[tuple[tuple[Block, Guarded], ...]] = ContextVar("opero.blocks", default=())


class Block:
    """A policy that also works alone: the block is what it guards, and counts as a call of an operation of its name.

    Blocks nest, also one policy in itself. Enter and leave it in one thread or task.
    """

    def block(self, /, *args: Any, **kwargs: Any) -> Guarded:
        """Guard one block; the arguments are what `key=` and `weight=` see."""
        from importlib import import_module  # the doors stand above the policies

        guarded: Guarded = import_module("opero.alone").guard(self, args, kwargs)
        return guarded

    def __enter__(self) -> Self:
        guarded = self.block()
        guarded.__enter__()
        _open.set((*_open.get(), (self, guarded)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        try:
            return _close(self).__exit__(kind, error, trace)
        finally:
            del error  # its traceback leads here

    async def __aenter__(self) -> Self:
        guarded = self.block()
        await guarded.__aenter__()
        _open.set((*_open.get(), (self, guarded)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        return await _close(self).__aexit__(kind, error, trace)


def _close(policy: Block) -> Guarded:
    """Take out the innermost open block of a policy."""
    held = _open.get()
    for place in range(len(held) - 1, -1, -1):
        if held[place][0] is policy:
            _open.set((*held[:place], *held[place + 1 :]))
            return held[place][1]
    allowed = "an exit where it was entered, and was entered in another thread, task or context; use policy.block()"
    raise ConfigurationError("block", policy, allowed)
