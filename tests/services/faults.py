"""TCP proxies that misbehave as told, in front of any real server."""

import socket
import struct
import threading
from contextlib import suppress

RESET, BLACKHOLE, SLOW, PASS, LOSE, DRIP = "reset", "blackhole", "slow", "pass", "lose", "drip"


class Relay:
    """Listens on loopback. `meet` says what becomes of a connection, and returns what serves it in a thread."""

    def __init__(self, port):
        self.closed = threading.Event()
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self._open = [self._listener]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self):
        """Close what is open, as a server does with idle connections."""
        while len(self._open) > 1:
            _close(self._open.pop())

    def close(self):
        self.closed.set()
        self.cut()
        _close(self._listener)
        self._thread.join(5)

    def connect(self):
        server = socket.create_connection(("127.0.0.1", self._target))
        self._open.append(server)
        return server

    def _accept(self):
        while not self.closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self.meet(client), daemon=True).start()


class Proxy(Relay):
    """`script` says what becomes of each connection, in order; then all pass."""

    def __init__(self, port):
        self.script = []
        self.connections = 0
        super().__init__(port)

    def meet(self, client):
        self.connections += 1
        how = self.script.pop(0) if self.script else PASS
        return lambda: self._serve(client, how)

    def _serve(self, client, how):
        if how == BLACKHOLE:  # taken, and never answered
            self.closed.wait(60)
            return
        if how == RESET:
            client.recv(1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        server = self.connect()
        threading.Thread(target=_copy, args=(client, server), daemon=True).start()
        _copy(server, client, pause=self.closed if how == SLOW else None)


class Between(Relay):
    """What becomes of open connections is their `mode`: pass, lose one answer and its connection, or drip."""

    def __init__(self, port):
        self.mode = PASS
        super().__init__(port)

    def meet(self, client):
        server = self.connect()
        threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
        return lambda: self._answer(client, server)

    def _ask(self, client, server):
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        _close(server)

    def _answer(self, client, server):
        with suppress(OSError):
            while data := server.recv(65536):
                if self.mode == LOSE:
                    self.mode = PASS
                    break
                for piece in [data[n : n + 1] for n in range(len(data))] if self.mode == DRIP else [data]:
                    client.sendall(piece)
                    self.closed.wait(0.1 if self.mode == DRIP else 0)
        _close(client)


def _copy(source, target, pause=None):
    with suppress(OSError):
        while data := source.recv(1 if pause else 65536):
            if pause:
                pause.wait(0.05)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def _close(each):
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
