"""A TCP proxy that misbehaves as told, one way a connection: in front of any real server."""

import socket
import struct
import threading

RESET, BLACKHOLE, SLOW, PASS = "reset", "blackhole", "slow", "pass"


class Proxy:
    """Listens on loopback. `script` says what becomes of each connection, in order; then all pass."""

    def __init__(self, port):
        self.target = port
        self.script = []
        self.connections = 0
        self.closed = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = [self.listener]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def close(self):
        self.closed.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        for each in self.open:
            each.close()
        self.thread.join(5)

    def _accept(self):
        while not self.closed.is_set():
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(client)
            self.connections += 1
            how = self.script.pop(0) if self.script else PASS
            threading.Thread(target=self._serve, args=(client, how), daemon=True).start()

    def _serve(self, client, how):
        if how == BLACKHOLE:  # taken, and never answered
            self.closed.wait(60)
            return
        if how == RESET:
            client.recv(1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self.target))
        self.open.append(server)
        threading.Thread(target=_copy, args=(client, server), daemon=True).start()
        _copy(server, client, pause=self.closed if how == SLOW else None)


def _copy(source, target, pause=None):
    try:
        while data := source.recv(1 if pause else 65536):
            if pause:
                pause.wait(0.05)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
