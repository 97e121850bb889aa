"""The fast path: a call where nothing happens, without a coroutine, a layer or an event.

The policies' own gates are asked, the function is called, the outcome is settled. The first unusual thing (a gate says
no, an error, somebody who wants every event) hands over to the general path, together with what already happened: the
permits held, and the attempt made. Both paths are indistinguishable but for speed.
"""

from __future__ import annotations

from opero import clock, events
from opero.call import ATTEMPT_FINISHED, ATTEMPT_STARTED, FINISHED, STARTED, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opero.pipeline import Operation

enabled = True  # read when decorating
PER_CALL = (STARTED.name, ATTEMPT_STARTED.name, ATTEMPT_FINISHED.name, FINISHED.name)


class Fast:
    """The fast path of one operation."""

    __slots__ = ("_book", "_gates", "_operation")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._book = operation.book
        self._gates = tuple(policy for policy in operation.policies if policy.gate)

    def enter(self) -> tuple[Record | None, bool]:
        """Ask the gates. Return what already happened, and whether the function may be called right here."""
        if any(map(events.wanted, PER_CALL)):
            return None, False
        now = clock.now()
        record = Record(now)
        for gate in self._gates:
            permit = gate.admit(self._book, now)
            if permit is None:
                return record, False
            record.permits[gate.place] = permit
        self._book.begin()
        return record, True

    def succeed(self, record: Record) -> None:
        """Settle a call that returned."""
        now = clock.now()
        for gate in reversed(self._gates):
            gate.settle(self._operation, record.permits[gate.place], now - record.started, now)
        self._book.succeed(now - record.started)

    def fail(self, record: Record, error: BaseException) -> None:
        """Keep what a call ended with, for the general path to go on from."""
        self._book.undo_begin()
        record.replay = (error, record.started, clock.now() - record.started)


def of(operation: Operation) -> Fast | None:
    """Return the fast path of an operation, if each of its policies has one."""
    return Fast(operation) if enabled and all(policy.fast for policy in operation.policies) else None
