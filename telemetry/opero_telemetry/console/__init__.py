"""The live page at `/`: one page without outside requests, fed by server-sent events."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
from collections import deque
from http import HTTPStatus
from importlib.resources import files
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Any

from opero import __version__, acts, catalogue, clock, events
from opero.decorators import Handle
from opero.errors import ConfigurationError
from opero_telemetry import tables
from opero_telemetry.board import Board
from opero_telemetry.lines import HEARD, line
from opero_telemetry.routes import HTML, Answer, as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opero.events import Event
    from opero_telemetry.reading import Reader
    from opero_telemetry.routes import Request, Route

EVERY = 1.0  # seconds between two states
KEPT = 300  # events remembered
MAX_STREAMS = 20
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="11" fill="none" '
    'stroke="#0d9488" stroke-width="6" stroke-dasharray="54 16" stroke-linecap="round"/></svg>'
)
ACTS: dict[str, Callable[[Any], object]] = {
    "force_open": lambda handle: handle.breaker.force_open(),
    "force_close": lambda handle: handle.breaker.force_close(),
    "clear_cache": lambda handle: handle.cache.clear_now(),
}


class Console:
    """Keeps a board while somebody looks, from the first visit on. Acts only for who has the token."""

    def __init__(self, reader: Reader, *, token: str | None = None) -> None:
        self._reader = reader
        self._can_act = token is not None
        self._board = Board()
        self._began = clock.wall()
        self._changed = Condition()
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=KEPT)
        self._state: dict[str, Any] = {}
        self._number = self._ticks = self._streams = 0
        self._thread: Thread | None = None
        self._starting = Lock()
        self._closed = False
        self._subscription = events.subscribe(self.hear, "opero.*", when=bool)
        self.routes: dict[str, Route] = {
            "/": lambda _: page(),
            "/state": self.state,
            "/stream": self.stream,
            "/act": self.act,
            "/favicon.ico": lambda _: Answer(ICON, "image/svg+xml"),
        }

    def close(self) -> None:
        """End."""
        self._subscription.close()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def hear(self, event: Event) -> None:
        """Remember an event, in the call that says it."""
        if event.severity in HEARD:
            told = line(event)
            with self._changed:
                self._number += 1
                self._events.append((self._number, told))

    def state(self, request: Request) -> Answer:
        """Answer with everything, once."""
        self._begin()
        return as_json({**self._state, "acts": self._can_act and request.trusted, "locked": self._can_act})

    def stream(self, request: Request) -> Answer:
        """Answer with everything each second, and with events as they are said."""
        with self._changed:
            if self._streams >= MAX_STREAMS:
                return Answer("too many pages are open\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
            self._streams += 1
        self._begin()
        return Answer(self._pieces(request), "text/event-stream")

    def act(self, request: Request) -> Answer:
        """Do what somebody with the token asks for."""
        if request.method != "POST" or not request.trusted:
            return Answer("a POST with the token acts\n", status=HTTPStatus.UNAUTHORIZED)
        try:
            asked = json.loads(request.body)
            act, name = ACTS[asked["act"]], asked["operation"]
        except (ValueError, KeyError, TypeError):
            text = f'takes {{"act": …, "operation": …}} with one of {", ".join(ACTS)}\n'
            return Answer(text, status=HTTPStatus.BAD_REQUEST)
        found = [operation for operation in catalogue.operations() if operation.name == name]
        try:
            mark = acts.by.set("console")
            try:
                for operation in found:
                    act(Handle(operation, {}))
            finally:
                acts.by.reset(mark)
        except (ConfigurationError, AttributeError) as error:
            return Answer(f"{error}\n", status=HTTPStatus.CONFLICT)
        status = HTTPStatus.OK if found else HTTPStatus.NOT_FOUND
        return as_json({"done": len(found)}, status)

    def _begin(self) -> None:
        with self._starting:
            if self._thread is None:
                self._tick()
                self._thread = Thread(target=self._run, name="opero-console", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, EVERY):
                    return
            self._tick()

    def _tick(self) -> None:
        at = clock.wall()
        self._board.feed(tables.of_families(self._reader.read()), at)
        about = {
            "version": __version__,
            "pid": os.getpid(),
            "python": platform.python_version(),
            "up": at - self._began,
        }
        with self._changed:
            self._state = {**self._board.state(), "process": about}
            self._ticks += 1
            self._changed.notify_all()

    def _pieces(self, request: Request) -> Iterator[bytes]:
        can_act = self._can_act and request.trusted
        ticks = number = 0
        try:
            while not request.closing.is_set() and not self._closed:
                with self._changed:
                    if self._ticks == ticks and not self._closed:
                        self._changed.wait(EVERY * 2)
                    news = [(n, told) for n, told in self._events if n > number]
                    state, ticks = self._state, self._ticks
                number = news[-1][0] if news else number
                if news:
                    yield _piece("said", [told for _, told in news])
                yield _piece("state", {**state, "acts": can_act, "locked": self._can_act})
        finally:
            with self._changed:
                self._streams -= 1


def page() -> Answer:
    """Return the page itself; it holds no numbers."""
    home = files(__name__)
    style, script = (home.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    text = home.joinpath("page.html").read_text(encoding="utf-8")
    text = text.replace("/* style */", style).replace("/* script */", script)
    policy = (
        f"default-src 'none'; connect-src 'self'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Answer(text, HTML, headers={"Content-Security-Policy": policy})


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _piece(kind: str, data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
