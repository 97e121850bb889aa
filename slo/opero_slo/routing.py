"""An Alertmanager configuration for the rules: who hears pages, tickets and targets, and what is not said twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from opero.errors import ConfigurationError
from opero_slo import alerts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opero_slo.model import SLO

HEADER = """\
# Written by `opero slo routes`. Check it with `amtool check-config`.
# A receiver without a configuration is silent: give it an address by --receiver NAME=URL, or fill it in here.
"""
REPEAT = {"page": "1h", "ticket": "1d"}  # how often somebody is reminded of what goes on
REST = "rest"


def write(slos: Iterable[SLO], addresses: Mapping[str, str] | None = None) -> str:
    """Return a configuration; `addresses` are webhooks by receiver: a severity, a notification target, or "rest"."""
    laws = [law for slo in slos for law in alerts.laws(slo)[0]]
    targets = sorted({target for law in laws for target in law.targets})
    severities = list(dict.fromkeys(["page", "ticket", *(law.severity for law in laws)]))
    given = dict(addresses or {})
    receivers = list(dict.fromkeys([REST, *severities, *targets]))
    for name, url in given.items():
        if name not in receivers:
            raise ConfigurationError("receiver", name, f"one of {', '.join(receivers)}")
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ConfigurationError("receiver", url, "an address with http or https")
    document = {
        "route": {
            "receiver": REST,
            "group_by": ["slo_name", "severity"],
            "group_wait": "10s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [*map(_to_target, targets), *map(_to_severity, severities)],
        },
        "inhibit_rules": [_inhibit("page", "ticket"), _only_the_fastest()],
        "receivers": [_receiver(name, given.get(name)) for name in receivers],
    }
    return HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _to_target(name: str) -> dict[str, Any]:
    """Alerts that name a target go there, and on by their severity."""
    pattern = f"(.*,)?{re.escape(name)}(,.*)?"
    return {"receiver": name, "matchers": [f"targets=~{_quoted(pattern)}"], "continue": True}


def _to_severity(name: str) -> dict[str, Any]:
    route: dict[str, Any] = {"receiver": name, "matchers": [f"severity={_quoted(name)}"]}
    return route | ({"repeat_interval": REPEAT[name]} if name in REPEAT else {})


def _inhibit(source: str, target: str) -> dict[str, Any]:
    """While one is told, the other of the same objective is not."""
    return {
        "source_matchers": [f"severity={_quoted(source)}"],
        "target_matchers": [f"severity={_quoted(target)}", 'alert!="contract"'],
        "equal": ["slo_name"],
    }


def _only_the_fastest() -> dict[str, Any]:
    return {
        "source_matchers": ['alert="page-fast"'],
        "target_matchers": ['alert="page-slow"'],
        "equal": ["slo_name"],
    }


def _receiver(name: str, url: str | None) -> dict[str, Any]:
    return {"name": name} | ({"webhook_configs": [{"url": url, "send_resolved": True}]} if url else {})


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
