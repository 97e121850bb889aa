"""Where virtual time begins and ends.

Time never goes back. It begins where the clock before it is, and when the block ends that one goes on from there, as do
the loops whose timers were set in it. Only who says where to begin gets a time of its own, and leaves none.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING

from opero import clock as real
from opero import nested
from opero.testing import on_asyncio
from opero.testing.blocks import Turns, block
from opero.testing.timeline import Clock, refuse_other_loops

if TYPE_CHECKING:
    from collections.abc import Iterator

_clocks = Turns()


@block
def clock(start: float | None = None) -> Iterator[Clock]:
    """Make every wait, window and timer virtual while the block runs: in threads, on asyncio's own loops, on trio.

    It begins at the time that is, so what was used before the block goes on in it; after the block time goes on from
    where it was. With `start` it is a time of its own, for what is used in the block alone.

    Example:
        >>> with clock() as virtual:
        ...     virtual.sleep(3600)
        ...     virtual.elapsed()
        3600.0
    """
    refuse_other_loops()
    virtual = Clock(start)
    with _clocks.take(_moved(virtual, own=start is not None)):
        yield virtual


@contextmanager
def _moved(virtual: Clock, *, own: bool) -> Iterator[None]:
    before, names = real.now, ("now", "wall", "sleep", "wait", "pace")
    saved = {name: getattr(real, name) for name in names}
    with on_asyncio.moved(virtual), _on_trio(virtual):
        for name in names:
            setattr(real, name, getattr(virtual, name))
        _turn(own)
        try:
            yield
        finally:
            for name, value in saved.items():
                setattr(real, name, value)
            if not own:
                outer = getattr(before, "__self__", None)
                (outer.advance_to if isinstance(outer, Clock) else real.resume)(virtual.now())
            virtual.close()
            _turn(own)


def began() -> float:
    """Return when the clock that is began, as Unix time; 0 where that is the system's."""
    clock = getattr(real.now, "__self__", None)
    return clock.began() if isinstance(clock, Clock) else 0.0


def _on_trio(virtual: Clock) -> AbstractContextManager[None]:
    """Move trio, if it is there; anyio may import it later."""
    if "trio" not in sys.modules and not ("anyio" in sys.modules and find_spec("trio")):
        return nullcontext()
    from opero.testing import on_trio

    return on_trio.moved(virtual)


def _turn(own: bool) -> None:
    """Let the thread that steps controllers, if there is one, begin anew; no past where time is its own."""
    if own:
        nested.last.set(None)
    control = sys.modules.get("opero.control.loop")
    if control is not None:
        control.LOOP.renew()
