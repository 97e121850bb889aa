"""Connections of redis-py that are made in bounded time, even where no name server answers.

`getaddrinfo` takes no timeout. So where an address is a name, a thread resolves it and connects, and who waits for that
goes on after `socket_connect_timeout`; what is connected later is closed. asyncio does the same in its own executor.

A socket's timeout is for each piece of an answer. Here it is for all of them, from when the question was sent.
"""

from __future__ import annotations

from _thread import allocate_lock
from functools import cache
from ipaddress import ip_address
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


@cache
def bounded(pools: type) -> Any:
    """Return a class of pools that connect in bounded time."""

    class Bounded(pools):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            bound(self)

    return Bounded


def bound(pool: Any) -> None:
    """Let a pool connect in bounded time from now on."""
    pool.connection_class = _bounded_connection(pool.connection_class)


@cache
def _bounded_connection(connections: type) -> Any:
    class BoundedConnection(connections):  # type: ignore[misc]
        def _connect(self) -> Any:
            connect: Callable[[], Any] = super()._connect
            if _resolved(getattr(self, "host", None)):
                return Whole(connect())
            return Whole(Attempt(connect).within(self.socket_connect_timeout))

    return BoundedConnection


class Whole:
    """A socket that has its timeout for a whole answer. A timeout of zero, a look whether there is something, stays."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._given = self._bound = socket.gettimeout()
        self._until = 0.0
        self._begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def settimeout(self, seconds: float | None) -> None:
        self._given = self._bound = seconds
        self._socket.settimeout(seconds)

    def sendall(self, data: Any) -> None:
        if self._bound != self._given:
            self.settimeout(self._given)
        self._begun = False
        if self._given:
            self._until = monotonic() + self._given
        self._socket.sendall(data)

    def recv(self, *args: Any) -> Any:
        self._hurry()
        return self._socket.recv(*args)

    def recv_into(self, *args: Any) -> Any:
        self._hurry()
        return self._socket.recv_into(*args)

    def _hurry(self) -> None:
        """Leave a further piece only what is left of the time."""
        if not self._begun:
            self._begun = True
        elif self._given:
            self._bound = self._until - monotonic()
            if self._bound <= 0:
                raise TimeoutError
            self._socket.settimeout(self._bound)


class Attempt:
    """One attempt to connect, in a thread of its own."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._lock, self._done = allocate_lock(), allocate_lock()
        self._done.acquire()
        self._late = False
        self._socket: Any = None
        self._error: BaseException | None = None

    def within(self, seconds: float) -> Any:
        """Return the socket, or raise what went wrong; `TimeoutError` if that is not known yet."""
        from threading import Thread

        Thread(target=self._run, name="opero-connect", daemon=True).start()
        self._done.acquire(timeout=seconds)
        with self._lock:
            self._late = self._socket is None and self._error is None
        if self._late:
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._socket

    def _run(self) -> None:
        try:
            made, error = self._connect(), None
        except BaseException as failure:  # noqa: BLE001 - who waits raises it
            made, error = None, failure
        with self._lock:
            if not self._late:
                self._socket, self._error = made, error
                self._done.release()
                return
        if made is not None:
            made.close()


def _resolved(host: str | None) -> bool:
    """Whether there is no name to look up: an IP address, or a socket in the file system."""
    try:
        return host is None or bool(ip_address(host))
    except ValueError:
        return False
