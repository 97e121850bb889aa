"""What a forked child must make anew: locks held by threads it does not have, counts that are its parent's."""

from __future__ import annotations

import os
from _thread import LockType, allocate_lock
from _weakrefset import WeakSet  # weakref, without its cost at import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Forkable(Protocol):
        """Has something to make anew in a child."""

        def after_fork(self) -> None: ...


pid = os.getpid()  # ours; asking the system each time costs as much as raising an error
worker = False  # whether this process is a worker of a map: what it counts and says travels to its parent
_objects: WeakSet[Forkable] = WeakSet()
_locks: WeakSet[LockType] = WeakSet()


def remember(item: Forkable) -> None:
    """Call `item.after_fork()` in every child forked while `item` lives."""
    _objects.add(item)


def lock() -> LockType:
    """Make a lock that a forked child finds free: whoever held it stayed in the parent."""
    made = allocate_lock()
    _locks.add(made)
    return made


def _in_child() -> None:
    global pid
    pid = os.getpid()
    for held in list(_locks):
        held._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001 - as threading and logging do it
    for item in list(_objects):
        item.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
