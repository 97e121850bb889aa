"""What a request is, what an answer is, and who answers: a function per path."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message
    from importlib.metadata import EntryPoint
    from threading import Event

    Route = Callable[["Request"], "Answer"]

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


class Request:
    """What was asked. `trusted` when it carries the server's token; `closing` is set when the server stops."""

    __slots__ = ("body", "closing", "headers", "method", "path", "query", "trusted")

    def __init__(
        self, method: str, target: str, headers: Message, body: bytes, *, trusted: bool, closing: Event
    ) -> None:
        self.method = method
        self.path, _, query = target.partition("?")
        self.query = {name: values[-1] for name, values in parse_qs(query, max_num_fields=20).items()}
        self.headers = headers
        self.body = body
        self.trusted = trusted
        self.closing = closing


class Answer:
    """What goes back: a body, or an iterator of pieces that are sent as they come."""

    __slots__ = ("body", "headers", "kind", "status")

    def __init__(
        self,
        body: str | bytes | Iterator[bytes],
        kind: str = TEXT,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.body = body.encode() if isinstance(body, str) else body
        self.kind = kind
        self.status = status
        self.headers = dict(headers or {})


def as_json(value: Any, status: int = HTTPStatus.OK) -> Answer:
    """Answer with JSON."""
    return Answer(json.dumps(value, separators=(",", ":")), "application/json", status)


def pages() -> dict[str, Route]:
    """Return what other packages serve: entry points of the group `opero.pages`, from the query to kind and body."""
    from importlib.metadata import entry_points

    def lazily(point: EntryPoint) -> Route:
        def answer(request: Request) -> Answer:
            try:
                kind, body = point.load()(request.query)
            except ModuleNotFoundError as error:
                text = f"/{point.name} needs {error.name}: pip install 'opero[{point.name}]'\n"
                return Answer(text, status=HTTPStatus.NOT_IMPLEMENTED)
            return Answer(body, kind)

        return answer

    return {f"/{point.name}": lazily(point) for point in entry_points(group="opero.pages")}
