"""A proxy before a server that changes how it behaves while connections are open."""

import socket
import threading
from contextlib import suppress

PASS, LOSE, DRIP = "pass", "lose", "drip"


class Between:
    """Listens on loopback. `mode`: pass, lose one answer and its connection, or drip byte by byte."""

    def __init__(self, port):
        self.mode, self._target = PASS, port
        self._end = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Close what is open, as a server does with idle connections."""
        while len(self._open) > 1:
            _close(self._open.pop())

    def close(self):
        self._end.set()
        self.cut()
        _close(self._listener)

    def _accept(self):
        while not self._end.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            for work in (self._ask, self._answer):
                threading.Thread(target=work, args=(client, server), daemon=True).start()

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
                    self._end.wait(0.1 if self.mode == DRIP else 0)
        _close(client)


def _close(each):
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
