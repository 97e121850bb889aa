"""Asking a store where there is no call."""

from __future__ import annotations

import sys
from importlib import import_module

from opero import events
from opero.errors import ConfigurationError
from opero.runtime import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from opero.signals import Event
    from opero.stores import StateStore


class _ByHand:
    """Stands for the call where there is none: blocks, and says what it has to say in no operation's name."""

    async def either(self, blocking: Callable[[], Any], suspending: Callable[[], Awaitable[Any]]) -> Any:
        return blocking()

    def emit(self, event: Event, **fields: Any) -> None:
        events.say(event, fields["store"], fields)

    @property
    def runtime(self) -> Any:
        return self


class _Awaited(_ByHand):
    """The same for who awaits the answer."""

    @property
    def runtime(self) -> Any:
        return import_module("opero.drivers.aio").RUNTIME  # the drivers stand above the stores


BY_HAND: Any = _ByHand()
AWAITED: Any = _Awaited()


def by_hand(work: Coroutine[Any, Any, Any]) -> Any:
    """Ask, and block."""
    return run(work, "a store suspended a caller that blocks")


def at_hand(store: StateStore, method: str) -> Any | None:
    """Return the method of a map's store that reads a state at no cost; others have none, whatever has its name."""
    mapped = sys.modules.get("opero.stores.mapped")
    return getattr(store, method) if mapped is not None and isinstance(store, mapped.Mapped) else None


def offers(store: StateStore, method: str) -> bool:
    """Whether a store has a method that it may leave out."""
    from opero.stores.protocol import StateStore as Protocol

    found = getattr(store, method, None)
    return found is not None and getattr(found, "__func__", None) is not getattr(Protocol, method)


def offered(store: StateStore, method: str) -> None:
    """Refuse to ask a store for what it leaves out."""
    if not offers(store, method):
        raise ConfigurationError("store", store, f"a store that has `{method}`, as opero.stores.StateStore tells it")
