"""Ask a running process for its report: `/slo` of the server that `opero_telemetry` starts."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

from opero.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER = 50_000_000


def fetch(url: str, format: str, names: Sequence[str] = ()) -> tuple[str, bool]:  # noqa: A002 - the name of the option
    """Return the report on these objectives, by default all, and whether any budget is overspent."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError("live", url, "an address like http://127.0.0.1:9464")
    found = json.loads(_get(url, "json", names))
    unknown = set(names) - {objective["name"] for objective in found["objectives"]}
    if unknown:
        way_out = f"a process that judges {', '.join(sorted(unknown))}: start it with OPERO_SLO=SPEC"
        raise ConfigurationError("live", url, way_out)
    return _get(url, format, names), bool(found["missed"])


def _get(url: str, format: str, names: Sequence[str]) -> str:  # noqa: A002
    asked = urllib.parse.urlencode({"format": format, **({"slo": ",".join(names)} if names else {})})
    address = f"{url.rstrip('/').removesuffix('/slo')}/slo?{asked}"
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - http or https, checked
            return str(answer.read(ANSWER).decode("utf-8"))
    except (OSError, ValueError) as error:
        why = f"{getattr(error, 'reason', error)}; is opero_telemetry.start() called there?"
        raise ConfigurationError("live", url, f"a process that serves /slo, and it does not answer: {why}") from None
