"""The virtual clock on asyncio: the time of its own event loops, and how they wait for their timers."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from opero.testing.timeline import even

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero.testing.timeline import Clock


@contextmanager
def moved(virtual: Clock) -> Iterator[None]:
    """Let loops have virtual time: those that run already, and those that begin now."""
    loops: WeakSet[Any] = WeakSet()
    base: Any = asyncio.BaseEventLoop
    time, run_once = base.time, base._run_once  # noqa: SLF001
    shift = even(time(None) - virtual.now())  # loops count on from where they are

    def wait_then_run_once(loop: Any) -> None:
        loops.add(loop)
        _wait(loop, virtual)
        run_once(loop)

    base.time = lambda _: virtual.now() + shift
    base._run_once = wait_then_run_once  # noqa: SLF001
    try:
        yield
    finally:
        base.time, base._run_once = time, run_once  # noqa: SLF001
        ahead = virtual.now() + shift - time(None)
        for loop in {*loops, asyncio._get_running_loop()} - {None} if ahead > 0 else ():  # noqa: SLF001
            for handle in list(loop._scheduled):  # noqa: SLF001
                handle._when -= ahead  # noqa: SLF001


def _wait(loop: Any, virtual: Clock) -> None:
    """Wait for the loop's next timer, or for something to be ready sooner."""
    first = min((handle.when() for handle in loop._scheduled if not handle.cancelled()), default=-inf)  # noqa: SLF001
    now, least = loop.time(), loop._clock_resolution  # noqa: SLF001
    if first >= now + least and not loop._stopping:  # noqa: SLF001 - as the loop asks, whose timers may lie after ages
        virtual.until(
            virtual.after(max(first - now, least)),
            woken=lambda: bool(loop._ready),  # noqa: SLF001
            wait=lambda seconds: loop._process_events(loop._selector.select(seconds)),  # noqa: SLF001
        )
