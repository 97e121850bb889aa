"""Single calls and items of maps, gathered to batches: a policy whose layer waits for the batch that carries the call.

1. What waits is kept in lines, one for each kind of item. A batch is the front of the line whose head came first.
2. A batch runs when it is full, or when its head has waited `wait` seconds. Meanwhile nothing is gathered for a device
   that is busy: what came is the next batch.
3. A lane is a spare thread that takes batches while there are any. There are as many as the device can use.
4. A batch that fails is split in halves, down to the items that fail alone; out of memory likewise. So n items with f
   bad ones take 2 f log n + 1 runs at most, and each item has one result or one error of its own.
5. Who stops waiting (cancelled, too late) leaves the line, or what comes of it is dropped. Nobody waits for ever: what
   goes wrong in a lane itself is the error of all its items.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from threading import Event as Flag

from opero import clock, forks
from opero.control.batch_size import SIZE as KNOB
from opero.control.batch_size import Snapshot
from opero.kinds import is_coroutine_function
from opero.knobs import Knob
from opero.policy import Policy, number, whole
from opero.signals import SECONDS, Event, Metric, Signals
from opero.workers import gpu_device, gpu_items, spare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from typing import Any, Self

    from opero.call import Call, Layer, Next
    from opero.control.loop import Controller
    from opero.pipeline import Operation

LARGEST = 65536
POWERS = tuple(float(2**n) for n in range(17))
FIRST = 4  # items in the first batch, where the size is found

FLUSHED = Event("opero.gpu_batch.flushed", "debug", "A batch ran.", ("size", "duration", "wait", "outcome", "calls"))
OUT_OF_MEMORY = Event("opero.gpu_batch.out_of_memory", "warning", "A batch did not fit; it is split.", ("size",))
SIZE = Metric("opero.gpu_batch.size", "histogram", "{item}", "Items in a batch.", buckets=POWERS)
WAIT = Metric(
    "opero.gpu_batch.wait.duration", "histogram", "s", "Time from arrival to the start of the batch.", buckets=SECONDS
)
EXECUTION = Metric(
    "opero.gpu_batch.execution.duration", "histogram", "s", "Time a batch took, copies included.", buckets=SECONDS
)
QUEUE = Metric("opero.gpu_batch.queue.length", "updown", "{item}", "Items that wait for a batch.")
SIGNALS = Signals("gpu_batch", (FLUSHED, OUT_OF_MEMORY), (SIZE, WAIT, EXECUTION, QUEUE))


class GpuBatch(Policy):
    """Gather calls to batches of `size` items, or as many as take `target` seconds where `size` is "auto".

    A call waits `wait` seconds for others, at most.
    """

    place = "gpu_batch"
    SIGNALS = SIGNALS

    size: int | str
    wait: float
    target: float
    controllers: tuple[Controller, ...] = ()

    def __init__(self, size: int | str = "auto", *, wait: float = 0.005, target: float = 0.05) -> None:
        if size != "auto":
            whole("batch_size", size, low=1)
        wait, target = number("batch_wait", wait, low=0), number("batch_target", target, above=0)
        self.freeze(size=size, wait=wait, target=target)
        self.start()

    def start(self) -> None:
        auto = self.size == "auto"
        knob = Knob(KNOB, FIRST if auto else int(self.size), low=1, high=LARGEST)
        self._keep(knob=knob, batches=deque(maxlen=100), control="adaptive" if auto else None)
        self._keep(gatherer=Gatherer(self))

    knob: Knob
    batches: deque[Snapshot]  # that the controller has not seen
    gatherer: Gatherer

    def attach(self, function: Callable[..., Any]) -> Layer:
        return self.layer

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Wait for the batch that carries the call."""
        call.begin()
        waiter = call.runtime.waiter()
        item = call.args[0] if call.args else next_of(call.kwargs)
        ticket = Ticket(call.operation, item, lambda _: waiter.wake(), wait=self.wait, call=call.record.id)
        self.gatherer.submit([ticket])
        try:
            await call.runtime.park(waiter, None if call.deadline is None else call.deadline.at)
        finally:
            if not ticket.settled:
                self.gatherer.leave(ticket)
        if not ticket.settled:
            assert call.deadline is not None  # noqa: S101 - for the type checkers; only a deadline ends the wait
            raise call.deadline.expire(call.operation)
        if ticket.error is not None:
            raise ticket.error
        return ticket.value

    def learn(self, snapshot: Snapshot) -> None:
        """Let the controller, where there is one, look at a batch."""
        for controller in self.controllers:
            self.batches.append(snapshot)
            controller.step(snapshot.now)


def next_of(kwargs: dict[str, Any]) -> Any:
    """Return the only argument, given by its name."""
    (item,) = kwargs.values()
    return item


class Ticket:
    """One item on its way through a batch. `done` is called with it when it is settled, from any thread."""

    __slots__ = (
        "at",
        "call",
        "context",
        "done",
        "error",
        "index",
        "item",
        "kind",
        "operation",
        "settled",
        "value",
        "wait",
    )

    def __init__(
        self,
        operation: Operation,
        item: Any,
        done: Callable[[Ticket], object],
        *,
        wait: float = 0.0,
        call: int = 0,
        context: Context | None = None,
        index: int = 0,
    ) -> None:
        self.operation = operation
        self.item = item
        self.done = done
        self.wait = wait
        self.call = call
        self.context = context
        self.index = index
        self.at = clock.now()
        self.settled = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.kind: Hashable = (id(operation), gpu_items.kind(item))

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Give it its outcome, once."""
        if not self.settled:
            self.value, self.error, self.settled = value, error, True
            self.done(self)


class Gatherer:
    """The lines, and the lanes that empty them. Thread-safe."""

    def __init__(self, policy: GpuBatch) -> None:
        self._policy = policy
        self._device: gpu_device.Host | None = None
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Who waits, and the lanes, stayed in the parent."""
        self._lock = forks.lock()
        self._lines: dict[Hashable, deque[Ticket]] = {}
        self._length = self._lanes = 0
        self._waiting: set[Flag] = set()  # lanes that wait for a batch to fill
        self._item_bytes = 0.0

    @property
    def device(self) -> gpu_device.Host:
        """Where batches run; found by the first lane, since CuPy takes seconds to import."""
        if self._device is None:
            self._device = gpu_device.find()
        return self._device

    @property
    def lanes(self) -> int:
        """How many batches may be under way; one until the device is known."""
        return 1 if self._device is None else self._device.lanes

    @property
    def where(self) -> str:
        """The name of the device, once it is known."""
        return "gpu" if self._device is None else self._device.name

    @property
    def size(self) -> int:
        """How many items a batch may have now."""
        return max(1, int(self._policy.knob.value))

    def submit(self, tickets: Sequence[Ticket]) -> None:
        """Put them in line."""
        for ticket in tickets:
            ticket.operation.book.add(QUEUE, (), 1)
        with self._lock:
            for ticket in tickets:
                self._lines.setdefault(ticket.kind, deque()).append(ticket)
            self._length += len(tickets)
            starts = self._lanes == 0 or (self._lanes < self.lanes and self._length >= self.size)
            self._lanes += starts
            if self._length >= self.size:
                for flag in self._waiting:
                    flag.set()
        if starts:
            spare.start(self._serve, (), {})

    def leave(self, ticket: Ticket) -> None:
        """Take it out of its line, if it still stands there."""
        with self._lock:
            line = self._lines.get(ticket.kind, ())
            if ticket not in line:
                return
            line.remove(ticket)  # type: ignore[union-attr]
            self._took_locked([ticket])

    def _took_locked(self, tickets: Sequence[Ticket]) -> None:
        self._length -= len(tickets)
        if not self._lines[tickets[0].kind]:
            del self._lines[tickets[0].kind]
        tickets[0].operation.book.add(QUEUE, (), -len(tickets))

    def _serve(self) -> None:
        """Run batches while there are any; in a lane."""
        with _Loop() as loop:
            while (batch := self._next()) is not None:
                try:
                    self._run(batch, loop)
                except BaseException as error:  # noqa: BLE001 - nobody may wait for ever
                    for ticket in batch:
                        ticket.settle(None, error)

    def _next(self) -> list[Ticket] | None:
        """Wait for a batch; None when there is nothing in line, and the lane ends."""
        flag = Flag()
        while True:
            with self._lock:
                if not self._length:
                    self._lanes -= 1
                    return None
                line = min(self._lines.values(), key=_since)
                left = line[0].at + line[0].wait - clock.now()
                if left <= 0 or len(line) >= self.size:
                    batch = [line.popleft() for _ in range(min(self.size, len(line)))]
                    self._took_locked(batch)
                    return batch
                flag.clear()
                self._waiting.add(flag)
            clock.wait(flag, left)
            with self._lock:
                self._waiting.discard(flag)

    def _run(self, batch: list[Ticket], loop: _Loop) -> None:
        """Run a batch, and the halves of what fails."""
        began = clock.now()
        operation, wait = batch[0].operation, began - batch[0].at
        for ticket in batch:
            operation.book.observe(WAIT, (), began - ticket.at)
        function = loop.of(operation.function)
        left = [batch]
        while left:
            part = left.pop()
            error = self._attempt(function, part, wait)
            if error is None:
                continue
            if len(part) == 1 or isinstance(error, gpu_items.Unfit) or not isinstance(error, Exception):
                for ticket in part:
                    own = type(error)(*error.args) if isinstance(error, gpu_items.Unfit) else error
                    ticket.settle(None, own)
            else:
                half = len(part) // 2
                left += [part[half:], part[:half]]

    def _attempt(self, function: Callable[[Any], Any], part: list[Ticket], wait: float) -> BaseException | None:
        """Run them at once; settle them, or return the error."""
        size, began = self._policy.knob.value, clock.now()
        context = part[0].context or Context()
        try:
            done = context.copy().run(self.device.run, function, [ticket.item for ticket in part])
        except BaseException as error:  # noqa: BLE001 - the items' outcome, whatever it is
            self._failed(error, part, size, began, wait)
            return error
        self._item_bytes = max(self._item_bytes, done.used / len(part))
        self._say(part, done.seconds, wait, "ok")
        self._learn(size, part, done.seconds, failed=False)
        for ticket, value in zip(part, done.values, strict=True):
            ticket.settle(value, None)
        return None

    def _failed(self, error: BaseException, part: list[Ticket], size: float, began: float, wait: float) -> None:
        seconds = clock.now() - began
        self._say(part, seconds, wait, "error")
        if gpu_device.out_of_memory(error):
            part[0].operation.emit(OUT_OF_MEMORY, {"size": len(part)})
            self.device.release()
            self._learn(size, part, seconds, failed=True)

    def _say(self, part: list[Ticket], seconds: float, wait: float, outcome: str) -> None:
        operation = part[0].operation
        operation.book.observe(SIZE, (), len(part))
        operation.book.observe(EXECUTION, (), seconds)
        said = {"size": len(part), "duration": seconds, "wait": wait, "outcome": outcome}
        calls = [ticket.call for ticket in part if ticket.call]
        (part[0].context or Context()).copy().run(operation.emit, FLUSHED, {**said, "calls": calls})

    def _learn(self, size: float, part: list[Ticket], seconds: float, *, failed: bool) -> None:
        policy = self._policy
        memory = float(self.device.free_memory())
        policy.learn(
            Snapshot(clock.now(), size, len(part), seconds, policy.target, memory, self._item_bytes, float(failed))
        )


class _Loop:
    """An event loop of a lane, for coroutine functions; made when it is needed."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            self._runner.close()

    def of(self, function: Callable[..., Any]) -> Callable[[Any], Any]:
        """Return a function to call, that awaits what is a coroutine function."""
        if not is_coroutine_function(function):
            return function

        def call(batch: Any) -> Any:
            if self._runner is None:
                self._runner = asyncio.Runner()
            return self._runner.run(function(batch))

        return call


def _since(line: deque[Ticket]) -> float:
    return line[0].at
