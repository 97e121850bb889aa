"""Map workers that are processes: one pipe each, at most one chunk in a worker's hands.

1. A worker answers item by item, so the parent always knows which item a dead worker held: the first one unanswered.
   That item is lost (`WorkerLost`), the rest of the chunk goes to another worker. No item runs twice.
2. A chunk is sent only to a worker that waits for one, so the two never block each other. Chunks grow to 20 ms of work.
3. Arguments, results and errors are decoded one by one, each inside its own item's fate.
4. What the item's call counted and said travels with its result.
5. Workers ignore SIGINT and end when the parent does: their pipe closes.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import threading
from collections import deque
from multiprocessing.connection import Connection, wait

from opero import clock, events
from opero.errors import ConfigurationError, WorkerLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from typing import Any

    from opero.workers.session import Done

CHUNK_SECONDS = 0.02
MAX_CHUNK = 256
READY = b"ready"
CANNOT_START = (
    "a worker could not start; the function needs a name to import it by, and a script "
    "`if __name__ == '__main__':` around what it runs"
)


class Processes:
    """A session over processes; they are sent what is `portable` of the decorated function, unless they are forked."""

    def __init__(self, function: Any, portable: Any, workers: int) -> None:
        self._function = function
        self._limit = workers
        method = _start_method()
        self._context: Any = multiprocessing.get_context(method)
        self._forked = method == "fork"
        self._sent = function if self._forked else portable
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._done: deque[Done] = deque()
        self._workers: list[_Worker] = []
        self._item_seconds = CHUNK_SECONDS

    def submit(self, index: int, item: Any) -> None:
        """Hand over an item. One that does not pickle fails by itself."""
        try:
            self._waiting.append((index, pickle.dumps(item, protocol=5)))
        except Exception as error:  # noqa: BLE001 - whatever the item's __reduce__ raises is that item's error
            self._done.append((index, None, error))

    async def next(self) -> Done:
        """Wait for one that is done, whichever."""
        while not self._done:
            self._feed()
            ready = wait([w.pipe for w in self._workers] + [w.process.sentinel for w in self._workers])
            for worker in list(self._workers):
                if worker.pipe in ready:
                    self._hear(worker)
                elif worker.process.sentinel in ready:
                    self._bury(worker)
        return self._done.popleft()

    async def close(self) -> None:
        """End the workers: at once, if they are busy."""
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers.clear()

    def _feed(self) -> None:
        while self._waiting and len(self._workers) < min(self._limit, len(self._waiting) + self._busy()):
            self._workers.append(self._spawn())
        for worker in self._workers:
            if not self._waiting:
                return
            if worker.ready and not worker.chunk:
                share = -(-len(self._waiting) // self._limit)
                size = min(MAX_CHUNK, share, max(1, int(CHUNK_SECONDS / max(self._item_seconds, 1e-6))))
                self._send(worker, [self._waiting.popleft() for _ in range(size)])

    def _send(self, worker: _Worker, chunk: list[tuple[int, bytes]]) -> None:
        worker.chunk.extend(chunk)
        worker.since = clock.now()
        try:
            worker.pipe.send((tuple(events.patterns()), chunk))
        except OSError:  # it is dead, and held none of these: its sentinel says so next
            self._waiting.extendleft(reversed(chunk))
            worker.chunk.clear()

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if message == READY:
            worker.ready = True
            return
        index, _ = worker.chunk.popleft()
        now = clock.now()
        self._item_seconds += 0.2 * (now - worker.since - self._item_seconds)
        worker.since = now
        self._done.append(self._decode(index, message))

    def _decode(self, index: int, message: bytes) -> Done:
        good, payload, delta, said = pickle.loads(message)  # noqa: S301 - from a process we started, over its own pipe
        self._function.opero.operation.book.merge(delta)
        for name, operation, fields, severity, call, at, correlation in said:
            event = events.Event(
                name, operation, fields, severity=severity, call=call, at=at, correlation_id=correlation
            )
            events.publish(event, events.wanted(name))
        try:
            value = pickle.loads(payload)  # noqa: S301
        except Exception as error:  # noqa: BLE001 - a result that cannot be read is this item's error
            return index, None, error
        return (index, value, None) if good else (index, None, value)

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.join()
        exitcode = worker.process.exitcode
        worker.pipe.close()
        worker.process.close()
        if not worker.ready:
            self._give_up(exitcode)
        elif worker.chunk:
            index, _ = worker.chunk.popleft()
            self._waiting.extendleft(reversed(worker.chunk))
            self._lose(index, exitcode, f"the worker with item {index} died: {_why(exitcode)}")

    def _give_up(self, exitcode: int | None) -> None:
        """Workers cannot even start: every waiting item is lost, and says why."""
        while self._waiting:
            index, _ = self._waiting.popleft()
            self._lose(index, exitcode, f"{CANNOT_START} ({_why(exitcode)})")

    def _lose(self, index: int, exitcode: int | None, text: str) -> None:
        self._done.append((index, None, WorkerLost(text, index=index, exitcode=exitcode)))

    def _spawn(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, ours if self._forked else None, self._sent), name="opero-map", daemon=True
        )
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            ours.close()
            raise ConfigurationError("function", self._function, f"what can be sent to a process ({error})") from error
        finally:
            theirs.close()
        return _Worker(process, ours)

    def _busy(self) -> int:
        return sum(bool(worker.chunk) for worker in self._workers)


class _Worker:
    __slots__ = ("chunk", "pipe", "process", "ready", "since")

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe
        self.ready = False
        self.chunk: deque[tuple[int, bytes]] = deque()
        self.since = 0.0

    def end(self) -> None:
        """Ask it to end if it waits for work, else make it."""
        try:
            if self.chunk or not self.ready:
                self.process.terminate()
            else:
                self.pipe.send(None)
        except OSError:  # it ended by itself
            return
        finally:
            self.pipe.close()


def _start_method() -> str:
    """Fork is quickest and takes any function, but only a process with one thread may be forked safely."""
    if sys.platform == "linux" and threading.active_count() == 1:
        return "fork"
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _work(pipe: Connection, inherited: Connection | None, sent: Any) -> None:
    """Serve chunks until the pipe closes; in the worker."""
    if inherited is not None:
        inherited.close()  # else our own copy of the parent's end would keep the pipe open when the parent dies
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    one = sent.one
    book = one.opero.operation.book
    book.drain()
    said: list[tuple[Any, ...]] = []
    subscription = events.Subscription(lambda _: None, ())
    pipe.send_bytes(READY)
    while True:
        try:
            work = pipe.recv()
        except (EOFError, OSError):
            return
        if work is None:
            return
        patterns, chunk = work
        if patterns != subscription.patterns:
            subscription.close()
            subscription = (
                events.subscribe(lambda event: said.append(_flat(event)), *patterns) if patterns else subscription
            )
        for _, item in chunk:
            good, payload = _one(one, item)
            try:
                pipe.send_bytes(_packed(good, payload, book.drain(), said))
            except OSError:
                return
            said.clear()


def _one(function: Any, item: bytes) -> tuple[bool, bytes]:
    try:
        value = function(pickle.loads(item))  # noqa: S301 - from our parent, over our own pipe
        return True, pickle.dumps(value, protocol=5)
    except Exception as error:  # noqa: BLE001 - the item's error, whatever it is, goes back as its outcome
        return False, _encoded(error)


def _encoded(error: Exception) -> bytes:
    """Pickle an error that surely unpickles: as itself, else as a plain one that names it."""
    try:
        payload = pickle.dumps(error, protocol=5)
        pickle.loads(payload)  # noqa: S301
    except Exception:  # noqa: BLE001 - any error of a foreign __reduce__ means the same
        payload = pickle.dumps(RuntimeError(f"{type(error).__qualname__}: {error} (the error itself does not pickle)"))
    return payload


def _packed(good: bool, payload: bytes, delta: Any, said: list[tuple[Any, ...]]) -> bytes:
    try:
        return pickle.dumps((good, payload, delta, said), protocol=5)
    except Exception:  # noqa: BLE001 - a field of an event that does not pickle must not lose the result
        return pickle.dumps((good, payload, delta, []), protocol=5)


def _flat(event: events.Event) -> tuple[Any, ...]:
    fields = dict(event.fields)
    return event.name, event.operation, fields, event.severity, event.call, event.at, event.correlation_id


def _why(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        try:
            return f"killed by {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"killed by signal {-exitcode}"
    return f"exit code {exitcode}"
