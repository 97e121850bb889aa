"""`opero dashboards export | push | check`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opero import __version__
from opero.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOKEN = "GRAFANA_TOKEN"  # noqa: S105 - the name of the variable, not the token


def command(arguments: Sequence[str]) -> int:
    """Run a subcommand. Exit status 0: done, 1: the answer is no, 2: it could not be asked."""
    given = _parse(arguments)
    import grafanalib.core  # noqa: F401 - say now that the extra is missing

    from opero_dashboards.remote import Refused

    try:
        return int(given.run(given))
    except BrokenPipeError:
        raise
    except (ConfigurationError, OSError, Refused) as error:
        print(f"opero dashboards: {error}", file=sys.stderr)
        return 2


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="opero dashboards", description="Grafana dashboards of everything Opero says."
    )
    commands = parser.add_subparsers(required=True, metavar="export | push | check")
    export = commands.add_parser("export", help="write the JSON, to import or to provision")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder; made where missing")
    export.set_defaults(run=_export)
    push = commands.add_parser("push", help="put them into a Grafana", epilog=f"The token is read from {TOKEN}.")
    push.add_argument("--url", required=True, help="of Grafana, such as https://grafana.example")
    push.add_argument("--folder", default="Opero", help="the folder's title, when it is made (default Opero)")
    push.set_defaults(run=_push)
    check = commands.add_parser("check", help="say what is wrong: stale files, broken rules, empty panels")
    check.add_argument("--out", type=Path, metavar="DIR", help="a folder that was exported to: are its files fresh?")
    check.add_argument("--prometheus", metavar="URL", help="a Prometheus: which panels would be empty?")
    check.set_defaults(run=_check)
    return parser.parse_args(arguments)


def _export(given: argparse.Namespace) -> int:
    given.out.mkdir(parents=True, exist_ok=True)
    texts = _texts()
    for name, text in texts.items():
        (given.out / name).write_text(text, encoding="utf-8")
    for name in texts:
        print(given.out / name)
    return 0


def _push(given: argparse.Namespace) -> int:
    from opero_dashboards import build
    from opero_dashboards.grafana import push
    from opero_dashboards.remote import Refused, Server

    server = Server(given.url, os.environ.get(TOKEN, ""))
    try:
        for address in push(server, build(), given.folder, f"opero {__version__}"):
            print(address)
    except Refused as refusal:
        if refusal.status not in {401, 403}:
            raise
        advice = f"put a service account's token with the right to write dashboards into {TOKEN}"
        print(f"opero dashboards: Grafana says {refusal}; {advice}", file=sys.stderr)
        return 2
    return 0


def _check(given: argparse.Namespace) -> int:
    wrong = list(_broken())
    if given.out is not None:
        wrong += _stale(given.out)
    for line in wrong:
        print(line)
    empty = _probe(given.prometheus) if given.prometheus else 0
    if not wrong and not given.prometheus:
        beside = (
            f"as in {given.out}" if given.out is not None else "not compared with files (--out) or data (--prometheus)"
        )
        print(f"nothing wrong: {len(_texts())} pages keep the rules; {beside}")
    return 1 if wrong or empty else 0


def _broken() -> Iterator[str]:
    from opero_dashboards import build
    from opero_dashboards.rules import violations

    for name, dashboard in build().items():
        yield from (f"{name}: {text}" for text in violations(dashboard))


def _stale(folder: Path) -> Iterator[str]:
    fresh = _texts()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    for name in sorted(fresh.keys() | there.keys()):
        if name not in fresh:
            yield f"{folder / name}: not one of ours; remove it"
        elif there.get(name) != fresh[name]:
            yield f"{folder / name}: {'stale' if name in there else 'missing'}; opero dashboards export --out {folder}"


def _probe(url: str) -> int:
    """Print a line for each page, and one for each expression that finds nothing; return how many do not."""
    from opero_dashboards import build
    from opero_dashboards.probe import probe
    from opero_dashboards.remote import Server

    server, empty = Server(url), 0
    for name, dashboard in build().items():
        found = list(probe(server, dashboard))
        silent = [finding for finding in found if not finding.series]
        empty += len(silent)
        print(f"{name}: {len(found) - len(silent)} of {len(found)} expressions find something")
        for finding in silent:
            print(f"  {finding.place}: {finding.error or 'nothing'}")
    return empty


def _texts() -> dict[str, str]:
    from opero_dashboards import build

    return {name: _text(dashboard) for name, dashboard in build().items()}


def _text(dashboard: dict[str, Any]) -> str:
    return json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
