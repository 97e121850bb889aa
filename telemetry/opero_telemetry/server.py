"""The HTTP side: `/metrics` and `/healthz`, for whoever asks for this host by its name."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from ipaddress import ip_address
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from opero.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Any

PLAIN = "text/plain; charset=utf-8"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Server:
    """Serves a registry in a thread of its own, from construction until `stop`."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry = REGISTRY) -> None:
        try:
            self._http = _Http((host, port), registry)
        except OSError as error:
            way_out = f"a free port on {host} ({error.strerror}); 0 picks one"
            raise ConfigurationError("metrics_port", port, way_out) from error
        self.host = host
        self.port: int = self._http.server_address[1]
        self._thread = Thread(target=self._http.serve_forever, args=(0.1,), name="opero-metrics", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def stop(self) -> None:
        """Free the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry) -> None:
        self.registry = registry
        self.hosts = LOOPBACK | {address[0]}
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
            self._answer(HTTPStatus.FORBIDDEN, "this server answers for its own host name only\n")
        elif self.path.partition("?")[0] == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.server.registry), kind)
        elif self.path in {"/healthz", "/"}:
            self._answer(HTTPStatus.OK, "ok\n" if self.path == "/healthz" else "Opero: /metrics /healthz\n")
        else:
            self._answer(*_page(self.path))

    do_HEAD = do_GET  # noqa: N815

    def _for_us(self) -> bool:
        """A page that rebinds its own name to 127.0.0.1 sends that name; it may not read us."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        return not host or host.strip("[]") in self.server.hosts or _is_address(host.strip("[]"))

    def _answer(self, status: HTTPStatus, body: str | bytes, kind: str = PLAIN) -> None:
        payload = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server calls
        """Say nothing: a scrape is no news."""


def _page(address: str) -> tuple[HTTPStatus, str | bytes, str]:
    """Ask whoever has a page of this name: an entry point of the group `opero.pages`, from query to kind and body."""
    path, _, query = address.partition("?")
    name = path.strip("/")
    points = entry_points(group="opero.pages")
    if name not in points.names:
        others = " ".join(f"/{other}" for other in sorted(points.names))
        return HTTPStatus.NOT_FOUND, f"there are /metrics /healthz {others}\n", PLAIN
    try:
        kind, body = points[name].load()(dict(parse_qsl(query[:2000])))
    except ModuleNotFoundError as error:
        return HTTPStatus.NOT_IMPLEMENTED, f"/{name} needs {error.name}: pip install 'opero[{name}]'\n", PLAIN
    except Exception as error:  # noqa: BLE001 - a page that fails must not take the server with it
        return HTTPStatus.INTERNAL_SERVER_ERROR, f"/{name} failed: {type(error).__name__}\n", PLAIN
    return HTTPStatus.OK, body, kind


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
