"""JSON over HTTP, to a Grafana or a Prometheus the user names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from opero.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 15.0
MOST = 64 * 2**20  # bytes of an answer that are read
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Refused(Exception):
    """The server said no, or nothing; `status` is 0 when it could not be reached."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Server:
    """One server. A token goes over TLS, or to this very machine, and never to where a redirect points."""

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError("url", url, "http://HOST:PORT or https://HOST")
        if parts.username or parts.password:
            raise ConfigurationError("url", f"{parts.scheme}://…@{parts.hostname}", "an address without a password")
        if token and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ConfigurationError("url", url, "https, since a token is sent")
        self.url = url.rstrip("/")
        self._token = token
        self._open = build_opener(_Stay()).open

    def get(self, path: str, **query: Any) -> Any:
        """Return what is there."""
        return self._ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send JSON and return the answer."""
        return self._ask("POST", path, json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "opero"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = Request(self.url + path, data=body, headers=headers, method=method)  # noqa: S310 - checked above
        try:
            with self._open(request, timeout=SECONDS) as answer:
                return json.loads(answer.read(MOST))
        except HTTPError as error:
            with error:
                raise Refused(error.code, _message(error.read(10_000)) or error.reason) from error
        except (URLError, TimeoutError, ConnectionError) as error:
            raise Refused(0, f"{self.url} does not answer: {getattr(error, 'reason', error)}") from error
        except ValueError as error:
            raise Refused(0, f"{self.url}{path} did not answer in JSON") from error


class _Stay(HTTPRedirectHandler):
    """Follows no redirect: it is an error."""

    def redirect_request(  # noqa: PLR0917 - as urllib calls it
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> None:
        return None


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    return str(found.get("message") or found.get("error") or "") if isinstance(found, dict) else ""
