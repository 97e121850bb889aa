"""The controllers of a map: how many workers, and how many items travel at once. Its runs step them; no thread does."""

from __future__ import annotations

from math import inf

from opero.control.chunk_size import ChunkSizeLaw
from opero.control.chunk_size import Snapshot as Chunks
from opero.control.loop import Controller, Controllers
from opero.control.pool_size import PoolSizeLaw
from opero.control.pool_size import Snapshot as Work
from opero.control.users import Users
from opero.knobs import Knob
from opero.parallel.signals import ITEM_DURATION, ITEMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from opero.parallel.plan import Plan
    from opero.pipeline import Operation
    from opero.workers.session import Session

LARGEST = 10_000  # items in a chunk


class Tuning:
    """What turns the knobs of one map. Runs at the same time share them."""

    def __init__(self, plan: Plan, operation: Operation) -> None:
        self._limit = plan.limit
        self._users = Users()
        self._session: Session | None = None
        self._fresh = False
        self._item = 0.0
        self._workers = Controller(PoolSizeLaw(), self._work, plan.limit, users=self._users, fall=0.25, rest=0.5)
        self._chunks: Controller | None = None
        turned = [self._workers] if plan.tunes_workers else []
        if plan.tunes_chunks:
            knob = Knob("map.chunk_size", 1, low=1, high=LARGEST)
            law = ChunkSizeLaw()
            self._chunks = Controller(law, self._chosen, knob, users=Users(), rise=inf, fall=0, rest=0, dead=0.25)
            turned.append(self._chunks)
        for controller in turned:
            controller.join(operation)
        operation.controllers = Controllers(
            [*(operation.controllers or ()), *turned], looped=operation.controllers or ()
        )
        self._turned = turned

    def begin(self) -> None:
        """Forget what lies between two runs."""
        self._users.since(_done)
        self._fresh = True

    def step(self, session: Session, now: float) -> int:
        """Let the controllers look, and tell the session; return how many workers it may have."""
        self._session = session
        for controller in self._turned:
            controller.step(now)
        self._session = None
        chunks = self._chunks
        session.resize(workers := round(self._limit.value), int(chunks.setpoint) if chunks and chunks.frozen else None)
        return workers

    def _work(self, now: float) -> Work:
        since, fresh, self._fresh = self._users.since(_done), self._fresh, False
        if since["completed"]:
            self._item = since["busy"] / since["completed"]
        return Work(now, self._limit.value, **since, fresh=float(fresh))

    def _chosen(self, now: float) -> Chunks | None:
        session, chunks = self._session, self._chunks
        if session is None or chunks is None or not session.chunk():
            return None
        return Chunks(now, chunks.setpoint, session.chunk(), self._item)


def _done(operation: Operation) -> Mapping[str, float]:
    book = operation.book
    failed = book.sums.get((ITEMS.name, ("error",)), 0)
    busy = book.distributions.get((ITEM_DURATION.name, ()), (0.0,))[-1]
    return {"completed": book.sums.get((ITEMS.name, ("ok",)), 0) + failed, "failed": failed, "busy": busy}
