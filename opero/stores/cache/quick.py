"""The short way to an entry in Redis: one GET, written and read by hand on connections that redis-py made.

redis-py's own way costs three times what the trip does. Some GETs may go at once, as for an entry and its tags. A
thread has a connection while it asks, and none waits for another. The tasks of a loop share one: what they ask in one
turn of the loop goes out together, and answers come in order. Whatever is unusual (no connection to spare, an error
for an answer, a lost connection, a cluster) is `UNASKED`: the long way is there for it.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from weakref import finalize

from opero.stores.closing import ByLoop, close_soon, close_with, is_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opero.runtime import Runtime

UNASKED, MORE = object(), object()
SPARE = 16  # threads that ask at once; more take the long way, where those who miss one key are one
CHUNK = 64 * 1024


def command(key: bytes) -> bytes:
    """Return the question for a key, as Redis reads it."""
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)


class Quick:
    """The connections of one store; `connect` makes one, `patience` bounds each wait, in seconds."""

    def __init__(self, connect: Callable[[Runtime], Any], patience: float) -> None:
        self._connect = connect
        self._patience = patience
        self._spare: list[Any] = [None] * SPARE
        self._lines = ByLoop()  # the line of each; None while it is laid
        finalize(self, _close, self._spare, self._lines)  # before sockets are collected: those would complain

    def ask(self, runtime: Runtime, question: bytes, count: int) -> Any:
        """Return the answers to so many commands, each bytes or None; or `UNASKED`. For plain callers."""
        try:
            connection = self._spare.pop()
        except IndexError:
            return UNASKED
        known = connection is not None
        try:
            if connection is None:
                connection = self._connect(runtime)
                if connection is None:
                    self._spare.insert(0, None)
                    return UNASKED
                connection.connect()
            answer = _exchange(connection._sock, question, count)  # noqa: SLF001 - see above
        except BaseException as error:
            self._spare.insert(0, None)
            if connection is not None:
                connection.disconnect()
            if known and isinstance(error, ConnectionError):
                return UNASKED  # it was idle for long, or the server began anew
            raise
        self._spare.append(connection)
        return answer

    def ask_together(self, runtime: Runtime, question: bytes, count: int) -> Any:
        """Return the same for tasks to await."""
        try:
            line = self._lines[runtime.scope()]
        except KeyError:
            return self._lay(runtime, question, count)
        return unasked() if line is None or line.closed else line.ask(question, count)

    async def _lay(self, runtime: Runtime, question: bytes, count: int) -> Any:
        """Connect for the running loop, then ask; who comes meanwhile takes the long way."""
        loop = runtime.scope()
        connection = None if loop in self._lines else self._connect(runtime)
        if connection is None:
            return UNASKED
        self._lines[loop] = None
        try:
            await connection.connect()
        except BaseException:
            del self._lines[loop]
            await connection.disconnect(nowait=True)
            raise
        if is_over(loop):
            await connection.disconnect()
            return UNASKED
        line = Line(loop, connection, self._patience, self._lines)
        self._lines[loop] = line
        await close_with(loop, connection.disconnect)
        return await line.ask(question, count)


async def unasked() -> Any:
    """Ask nobody."""
    return UNASKED


def bulk(data: bytes, at: int) -> tuple[Any, int]:
    """Return the answer that begins there, and where the next one does; or `MORE`, and how many bytes at least."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return MORE, 1
    if data[at] != 36:  # "$"
        return UNASKED, end + 2
    size = int(data[at + 1 : end])
    if size < 0:
        return None, end + 2
    after = end + size + 4
    if after > len(data):
        return MORE, after - len(data)
    return data[end + 2 : after - 2], after


def _exchange(socket: Any, question: bytes, count: int) -> Any:
    """Ask on a socket that is blocking and has a timeout, and read all answers whole."""
    socket.sendall(question)
    answers: list[Any] = []
    data, at = _more(socket), 0
    while len(answers) < count:
        answer, after = bulk(data, at)
        if answer is MORE:
            parts, missing = [data], after
            while missing > 0:
                parts.append(_more(socket))
                missing -= len(parts[-1])
            data = b"".join(parts)
        else:
            answers.append(answer)
            at = after
    return _whole(answers)


def _whole(answers: list[Any]) -> Any:
    return UNASKED if any(answer is UNASKED for answer in answers) else answers


def _more(socket: Any) -> bytes:
    data: bytes = socket.recv(CHUNK)
    if not data:
        raise ConnectionResetError
    return data


class Line:
    """One connection of a loop: a protocol, as asyncio has them, in the place of redis-py's own."""

    def __init__(self, loop: Any, connection: Any, patience: float, lines: ByLoop) -> None:
        self._loop, self._patience, self._lines = loop, patience, lines
        self._connection = connection  # kept alive: it closes what it opened
        self._transport = connection._writer.transport  # noqa: SLF001 - see above
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._asked: list[tuple[bytes, Any, int]] = []
        self._awaited: deque[tuple[Any, float, int]] = deque()  # until when it waits, for how many answers
        self._answers: list[Any] = []  # of who waits longest
        self._parts: list[bytes] = []
        self._missing = 0  # bytes until there is something to read
        self._timed = False
        self.closed = False

    def ask(self, question: bytes, count: int) -> Any:
        """Return a future of the answers."""
        if not self._asked:
            self._loop.call_soon(self._send)
        future = self._loop.create_future()
        self._asked.append((question, future, count))
        return future

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        if self.closed:
            _tell(future for _, future, _ in asked)
            return
        due = self._loop.time() + self._patience
        self._awaited.extend([(future, due, count) for _, future, count in asked])
        self._transport.write(b"".join([question for question, _, _ in asked]))
        if not self._timed:
            self._timed = True
            self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """End what was awaited for too long."""
        self._timed = False
        if self.closed or not self._awaited:
            return
        due = self._awaited[0][1]
        if self._loop.time() < due:
            self._timed = True
            self._loop.call_at(due, self._look)
            return
        late, self._awaited = self._awaited, deque()
        for future, _, _ in late:
            if not future.done():
                future.set_exception(TimeoutError())
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        if len(self._parts) > 1:
            data = b"".join(self._parts)
        at, awaited, answers = 0, self._awaited, self._answers
        while awaited:
            answer, after = bulk(data, at)
            if answer is MORE:
                self._missing = after
                break
            at = after
            answers.append(answer)
            if len(answers) == awaited[0][2]:
                future = awaited.popleft()[0]
                if not future.done():
                    future.set_result(_whole(answers))
                answers = self._answers = []
        self._parts = [data[at:]] if at < len(data) else []

    def eof_received(self) -> None:
        """Let the transport close."""

    def pause_writing(self) -> None:
        """Go on: what is asked is bounded by the tasks that wait."""

    def resume_writing(self) -> None:
        """Go on."""

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._lines.pop(self._loop, None)
        self.close_soon()
        _tell(future for future, _, _ in self._awaited)
        self._awaited.clear()
        self._before.connection_lost(error)

    def close_soon(self) -> None:
        """Have the connection closed by its loop."""
        close_soon(self._loop, self._connection.disconnect)


def _close(connections: list[Any], lines: ByLoop) -> None:
    for line in filter(None, list(lines.values())):
        line.close_soon()
    for connection in connections:
        with suppress(Exception):
            connection.disconnect()


def _tell(futures: Any) -> None:
    for future in futures:
        if not future.done():
            future.set_result(UNASKED)
