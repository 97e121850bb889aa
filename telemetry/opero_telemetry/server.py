"""The HTTP side: a thread of its own that answers whoever asks for this host by its name."""

from __future__ import annotations

import hmac
import ssl
import sys
import traceback
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from threading import Event, Thread
from typing import TYPE_CHECKING

from opero import forks
from opero.errors import ConfigurationError
from opero_telemetry.routes import Answer, Request, pages

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from opero_telemetry.routes import Route

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
OPEN = {"/", "/healthz", "/readyz"}  # served without a token: they tell no numbers
MAX_BODY = 10_000
GUARDS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


class Server:
    """Answers by `routes` (path → function), from construction until `stop`; a route may be added at any time.

    Off loopback it wants a `token`, and `tls` (certificate file, key file), unless `insecure` says that something in
    front protects it; then every page with numbers asks for the token (`Authorization: Bearer …`).
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str | None = None,
        tls: tuple[str, str] | None = None,
        insecure: bool = False,
        hosts: Iterable[str] = (),
    ) -> None:
        _check(host, token, tls, insecure=insecure)
        self.routes: dict[str, Route] = pages()
        self.token = token
        self.private = host not in LOOPBACK and token is not None
        self.closing = Event()
        try:
            self._http = _Http((host, port), self, hosts)
        except OSError as error:
            way_out = f"a free port on {host} ({error.strerror}); 0 picks one"
            raise ConfigurationError("metrics_port", port, way_out) from error
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.host = host
        self.port: int = self._http.server_address[1]
        self.lost = False
        self._scheme = "https" if tls else "http"
        forks.remember(self)
        self._thread = Thread(target=self._http.serve_forever, args=(0.1,), name="opero-metrics", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{self._scheme}://{self.host}:{self.port}"

    def after_fork(self) -> None:
        """Let go of the parent's port."""
        self._http.socket.close()
        self.lost = True

    def stop(self) -> None:
        """Free the port, and end the streams."""
        self.closing.set()
        if self.lost:
            return
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer:
        """Find who answers, and let it."""
        if self.private and not request.trusted and request.path not in OPEN:
            return Answer("a token is needed: Authorization: Bearer …\n", status=HTTPStatus.UNAUTHORIZED)
        route = self.routes.get(request.path)
        if route is None:
            there = " ".join(sorted(self.routes))
            return Answer(f"there are {there}\n", status=HTTPStatus.NOT_FOUND)
        return route(request)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a stream ends by itself, within a second
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], owner: Server, hosts: Iterable[str]) -> None:
        self.owner = owner
        self.hosts = (*LOOPBACK, address[0].lower(), *(each.lower() for each in hosts))
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a client hang up without a traceback on our user's terminal."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    server_version = "opero"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        if not self._for_us():
            name = "".join(c for c in self._host()[:100] if c.isascii() and c.isprintable())
            text = (
                f"not answered under the name {name!r}, which a page in a browser may have made up; if it is yours:\n"
                f"opero_telemetry.start(hosts=[{name!r}]), or OPERO_ALLOWED_HOSTS={name} in the environment\n"
            )
            answer = Answer(text, status=HTTPStatus.FORBIDDEN)
        else:
            answer = self._answered()
        self._send(answer)

    do_HEAD = do_POST = do_GET  # noqa: N815

    def _answered(self) -> Answer:
        try:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 <= length <= MAX_BODY:
                self.close_connection = True
                return Answer("too long\n", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            owner = self.server.owner
            request = Request(
                self.command,
                self.path,
                self.headers,
                self.rfile.read(length),
                trusted=self._trusted(owner.token),
                closing=owner.closing,
            )
            return owner.answer(request)
        except Exception:  # noqa: BLE001 - a page that fails says so, and takes nothing else down
            traceback.print_exc(file=sys.stderr)
            return Answer("the page failed; the traceback is on stderr\n", status=HTTPStatus.INTERNAL_SERVER_ERROR)

    def _for_us(self) -> bool:
        """A page that rebinds its own name to 127.0.0.1 sends that name; it may not read us."""
        host = self._host()
        return not host or _is_address(host) or any(fnmatchcase(host, known) for known in self.server.hosts)

    def _host(self) -> str:
        given = self.headers.get("Host", "")
        bare = given[: given.find("]") + 1] if given.startswith("[") else given.partition(":")[0]
        return bare.strip("[]").lower().removesuffix(".")

    def _trusted(self, token: str | None) -> bool:
        given = self.headers.get("Authorization", "")
        return token is not None and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        for name, value in {**GUARDS, **answer.headers}.items():
            self.send_header(name, value)
        if isinstance(answer.body, bytes):
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            return
        self.close_connection = True
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in answer.body:
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server calls
        """Say nothing: a scrape is no news."""


def _check(host: str, token: object, tls: object, *, insecure: bool) -> None:
    if token is not None and not (isinstance(token, str) and len(token) >= 16 and token.isascii()):
        raise ConfigurationError("token", "…", "a text of 16 or more ASCII characters")
    if host in LOOPBACK or insecure:
        return
    if token is None or tls is None:
        way_out = "127.0.0.1; another address wants token= and tls=(certificate, key), or insecure=True"
        raise ConfigurationError("host", host, way_out)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
