"""Exact counts without a lock: with a GIL no other thread runs where nothing is called between a read and its write."""

from __future__ import annotations

import sys
from _thread import RLock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

PATIENCE = 0.05  # seconds; a lock is held for arithmetic only

GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

new_lock: Callable[[], Any] = RLock  # of a state: exclusive methods call one another, and see `hand_back`


def inside(lock: Any) -> bool:
    """Whether this thread is in the middle of something under the lock."""
    owned: bool = lock._is_owned()  # noqa: SLF001 - as threading's Condition asks it
    return owned


def hand_back(lock: Any, work: Callable[..., object], *args: Any) -> None:
    """Do work under the lock: here, unless that would wait for what this thread is in the middle of.

    The garbage collector may end an abandoned call of ours anywhere, a handler of a signal may make one: also where
    this thread holds this lock, or another one that the holder of this wants. Then another thread does it.
    """
    done = False
    if not inside(lock):
        try:  # an interrupt may come as soon as the lock is ours
            if done := lock.acquire(timeout=PATIENCE):
                work(*args)
        finally:
            try:  # noqa: SIM105 - a call in between, as contextlib makes some, could be interrupted
                lock.release()
            except RuntimeError:  # it never was ours
                pass
    if not done:
        start_new_thread(_wait_and_do, (lock, work, args))


def _wait_and_do(lock: Any, work: Callable[..., object], args: tuple[Any, ...]) -> None:
    with lock:
        work(*args)


def exclusive(method: F) -> F:
    """Mark a method that calls nothing between a read and its write; without a GIL it takes `_lock`, a `new_lock`.

    Source: CPython's evaluation loop gives the GIL away on calls and backward jumps only (3.11 to 3.13).
    """
    if GIL:
        return method

    def locked(self: Any, *args: Any) -> Any:
        with self._lock:
            return method(self, *args)

    return locked  # type: ignore[return-value]
