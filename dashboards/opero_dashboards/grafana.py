"""Dashboards into a Grafana, by its HTTP API (`/api/folders`, `/api/dashboards/db`: versions 10 to 13 have it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opero_dashboards.remote import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opero_dashboards.remote import Server

FOLDER_UID = "opero"


def push(server: Server, dashboards: Mapping[str, Mapping[str, Any]], folder: str, message: str) -> Iterator[str]:
    """Put every dashboard into a folder, over what is there; yield the address of each. Raises `Refused`."""
    uid = _folder(server, folder)
    for dashboard in dashboards.values():
        body = {
            "dashboard": {**dashboard, "id": None},
            "folderUid": uid,
            "overwrite": True,
            "message": message,
        }
        answer = server.post("/api/dashboards/db", body)
        yield f"{server.url}{answer['url']}"


def _folder(server: Server, title: str) -> str:
    """Return the folder's uid; make it where it is missing."""
    try:
        server.get(f"/api/folders/{FOLDER_UID}")
    except Refused as refusal:
        if refusal.status != 404:
            raise
        server.post("/api/folders", {"uid": FOLDER_UID, "title": title})
    return FOLDER_UID
