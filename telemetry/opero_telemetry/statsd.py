"""Opero's numbers as StatsD or DogStatsD lines over UDP: what came since the last time, every `interval` seconds.

A distribution is sent as timings with a sample rate: `…:35|ms|@0.01` says that a hundred calls took about 35 ms. The
value is the middle of its bucket.
"""

from __future__ import annotations

import re
import socket
from threading import Event, Thread
from typing import TYPE_CHECKING

from opero import forks
from opero.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opero.catalogue import Family
    from opero_telemetry.reading import Reader

DATAGRAM = 1400  # bytes that pass every network in one piece
UNSAFE = re.compile(r"[^A-Za-z0-9_.\-/]")
TYPES = {"counter": "c", "updown": "g", "gauge": "g"}


class StatsD:
    """Sends to `address` ("127.0.0.1:8125") until closed. `tags=True` is DogStatsD: attributes as tags."""

    def __init__(self, address: str, reader: Reader, *, tags: bool = False, interval: float = 10.0) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise ConfigurationError("statsd", address, '"host:port"')
        self._to = (host.strip("[]"), int(port))
        family = socket.getaddrinfo(*self._to, type=socket.SOCK_DGRAM)[0][0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._reader = reader
        self._tags = tags
        self._interval = interval
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Begin anew, as the sums do."""
        self._before: dict[tuple[str, ...], list[float]] = {}
        self._closing = Event()
        self._thread = Thread(target=self._run, name="opero-statsd", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what is left."""
        self._closing.set()
        self._thread.join(5.0)
        self.send()
        self._socket.close()

    def send(self) -> None:
        """Send what came since the last time."""
        packet = ""
        for line in self._lines():
            if len(packet) + len(line) + 1 > DATAGRAM:
                self._socket.sendto(packet.encode(), self._to)
                packet = ""
            packet += f"{line}\n"
        if packet:
            self._socket.sendto(packet.encode(), self._to)

    def _run(self) -> None:
        while not self._closing.wait(self._interval):
            self.send()

    def _lines(self) -> Iterator[str]:
        for family in self._reader.read():
            for key, value in family.samples.items():
                name, tags = self._named(family, key)
                if isinstance(value, list):
                    yield from self._timings(family, key, value, name, tags)
                    continue
                kind = TYPES[family.metric.type]
                amount = value - self._known((family.metric.name, *key), [value])[0] if kind == "c" else value
                if amount or kind == "g":
                    yield f"{name}:{amount:g}|{kind}{tags}"

    def _timings(
        self, family: Family, key: tuple[str, ...], counts: list[float], name: str, tags: str
    ) -> Iterator[str]:
        known = self._known((family.metric.name, *key), counts)
        scale, kind = (1000.0, "ms") if family.metric.unit == "s" else (1.0, "h")
        bounds = family.bounds(key[0])
        for index, (now, then) in enumerate(zip(counts[:-1], known, strict=False)):
            if now > then:
                low = bounds[index - 1] if index else 0.0
                high = bounds[index] if index < len(bounds) else bounds[-1]
                yield f"{name}:{(low + high) / 2 * scale:g}|{kind}|@{1 / (now - then):.6g}{tags}"

    def _known(self, key: tuple[str, ...], values: list[float]) -> list[float]:
        before = self._before.get(key) or [0.0] * len(values)
        self._before[key] = values
        return before

    def _named(self, family: Family, key: tuple[str, ...]) -> tuple[str, str]:
        pairs = [(name, UNSAFE.sub("_", value)) for name, value in zip(family.attributes, key, strict=True) if value]
        if self._tags:
            return family.metric.name, f"|#{','.join(f'{name}:{value}' for name, value in pairs)}" if pairs else ""
        return ".".join([family.metric.name, *(value.replace(".", "_") for _, value in pairs)]), ""
