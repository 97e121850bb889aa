"""`opero doctor`: looks at versions, plugins, ports, exporters, the clock and Redis, and says what is wrong."""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import time
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FINE, WRONG, ABSENT = "✓", "✗", "–"
GROUPS = ("primitives", "cache_backends", "rate_limiters", "subscribers", "controllers", "commands", "pages")
SLOW = 0.05  # seconds a round trip to Redis may take
SKEW = 0.5  # seconds the clocks of two machines may differ
PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)([^;]*);\s*extra == ['\"](\w+)['\"]")


class Finding(NamedTuple):
    """What a check saw; `advice` is the way out where something is wrong."""

    mark: str
    text: str
    advice: str = ""


def command(arguments: Sequence[str]) -> int:
    """Print a line for each finding; exit status 1 when something is wrong."""
    given = _parse(arguments)
    found = [finding for check in CHECKS for finding in _careful(check, given)]
    for finding in found:
        print(f"{finding.mark} {finding.text}")
        if finding.advice:
            print(f"  → {finding.advice}")
    return 1 if any(finding.mark == WRONG for finding in found) else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="opero doctor", description=__doc__)
    parser.add_argument("--metrics", metavar="URL", help="of a running program, such as http://127.0.0.1:9464")
    parser.add_argument("--redis", metavar="URL", help="that RateLimit, CircuitBreaker or Cache are to use")
    return parser.parse_args(arguments)


def _careful(check: Callable[[argparse.Namespace], Iterator[Finding]], given: argparse.Namespace) -> list[Finding]:
    try:
        return list(check(given))
    except Exception as error:  # noqa: BLE001 - a check that fails is a finding, and the others go on
        return [Finding(WRONG, f"{check.__name__.strip('_')}: {type(error).__name__}: {error}")]


def _python(_: argparse.Namespace) -> Iterator[Finding]:
    import opero

    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", free-threaded"
    yield Finding(FINE, f"Python {sys.version.split()[0]}{gil}, opero {opero.__version__} in {opero.__path__[0]}")


def _extras(_: argparse.Namespace) -> Iterator[Finding]:
    wanted: dict[str, list[tuple[str, str]]] = {}
    for text in requires("opero") or ():
        if (found := REQUIREMENT.match(text)) and not found[1].lower().startswith("opero"):
            wanted.setdefault(found[3], []).append((found[1], found[2].strip()))
    wanted.pop("all", None)
    for extra, needed in wanted.items():
        there = {name: _version(name) for name, _ in needed}
        if not all(there.values()):
            missing = ", ".join(name for name, installed in there.items() if not installed)
            yield Finding(ABSENT, f"extra {extra}: not installed ({missing}); pip install 'opero[{extra}]'")
            continue
        yield Finding(FINE, f"extra {extra}: {', '.join(f'{name} {installed}' for name, installed in there.items())}")
        for name, rule in needed:
            if rule.startswith("==") and rule[2:] != there[name]:
                yield Finding(
                    WRONG, f"{name} is {there[name]}, opero needs {rule[2:]}", f"pip install 'opero[{extra}]'"
                )


def _plugins(_: argparse.Namespace) -> Iterator[Finding]:
    for group in GROUPS:
        for point in entry_points(group=f"opero.{group}"):
            if point.dist is not None and point.dist.name == "opero":
                continue
            try:
                point.load()
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises is what we look for
                where = point.dist.name if point.dist is not None else point.value
                yield Finding(WRONG, f"plugin {point.name} ({group}) of {where}: {error}", f"pip uninstall {where}")
            else:
                yield Finding(FINE, f"plugin {point.name} ({group}) loads")


def _environment(_: argparse.Namespace) -> Iterator[Finding]:
    given = os.environ.get("OPERO_METRICS_PORT", "")
    if not given:
        yield Finding(ABSENT, "OPERO_METRICS_PORT is not set: /metrics is served where the program calls start()")
    elif not given.isdecimal() or not int(given) <= 65535:
        yield Finding(WRONG, f"OPERO_METRICS_PORT={given}: no port", "a number up to 65535; 0 picks a free one")
    elif int(given) and _connects("127.0.0.1", int(given)):
        yield Finding(FINE, f"OPERO_METRICS_PORT={given}: somebody listens; opero doctor --metrics looks who")
    else:
        yield Finding(FINE, f"OPERO_METRICS_PORT={given}: free")


def _exporters(_: argparse.Namespace) -> Iterator[Finding]:
    names = [name for name in sorted(os.environ) if re.fullmatch(r"OTEL_EXPORTER_OTLP(_\w+)?_ENDPOINT", name)]
    for name in names:
        parts = urlsplit(os.environ[name])
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 4317)
        if _connects(host, port):
            yield Finding(FINE, f"{name}: {host}:{port} listens")
        else:
            yield Finding(WRONG, f"{name}: nobody listens at {host}:{port}", "start the collector, or unset it")
    if not names:
        yield Finding(ABSENT, "no OTEL_EXPORTER_OTLP_ENDPOINT: nothing is sent by OTLP from the environment")


def _clock(_: argparse.Namespace) -> Iterator[Finding]:
    resolution = time.get_clock_info("monotonic").resolution
    mark = FINE if resolution <= 0.001 else WRONG
    yield Finding(mark, f"the monotonic clock ticks every {1e6 * resolution:.3g} µs")


def _processes(_: argparse.Namespace) -> Iterator[Finding]:
    if not sys.platform.startswith("linux"):
        return
    import resource

    files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < 256:
        yield Finding(WRONG, f"a process may open {files} files", "ulimit -n 1024: a map's worker takes two")
    else:
        yield Finding(FINE, f"a process may open {files} files")


def _metrics(given: argparse.Namespace) -> Iterator[Finding]:
    if not given.metrics:
        return
    from opero_telemetry import tables
    from opero_telemetry.scrape import CALL
    from opero_telemetry.top import Unreachable, fetch

    started = time.monotonic()
    try:
        read = tables.of_text(fetch(given.metrics.rstrip("/").removesuffix("/metrics") + "/metrics"))
    except (Unreachable, ValueError) as error:
        yield Finding(WRONG, str(error))
        return
    took = time.monotonic() - started
    series = [row for name in read for row in read[name]]
    called = [row for name in read if not name.startswith("opero_telemetry_") for row in read[name]]
    operations = {row[CALL] for row in called if CALL in row.labels}
    count = f"{len(operations)} operation{'' if len(operations) == 1 else 's'}"
    text = f"{given.metrics}: {count}, {len(series)} series, {1000 * took:.0f} ms"
    yield Finding(FINE, text) if operations else Finding(WRONG, text, "nothing is decorated in that program yet")
    dropped = sum(row.value for row in read["opero_telemetry_events_dropped_total"])
    if dropped:
        yield Finding(WRONG, f"{dropped:.0f} events were dropped", "a subscriber is slower than what it listens to")


def _redis(given: argparse.Namespace) -> Iterator[Finding]:
    if not given.redis:
        return
    import redis

    where = urlsplit(given.redis)
    place = f"{where.hostname}:{where.port or PORTS['redis']}"
    try:
        with redis.Redis.from_url(given.redis, socket_timeout=3, socket_connect_timeout=3) as client:
            client.ping()
            started = time.monotonic()
            seconds, micros = client.time()
            took = time.monotonic() - started
            known = client.info("server")
    except redis.RedisError as error:
        yield Finding(WRONG, f"Redis at {place}: {error}", "calls go on without it; limits hold for each process alone")
        return
    text = f"Redis {known['redis_version']} at {place} answers in {1000 * took:.1f} ms"
    yield Finding(FINE if took < SLOW else WRONG, text, "" if took < SLOW else "a limit asks it once a call")
    skew = abs(seconds + micros / 1e6 - time.time())
    if skew > SKEW:
        yield Finding(WRONG, f"its clock and ours differ by {skew:.1f} s", "limits go by its clock, logs by ours")


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


CHECKS = (_python, _extras, _plugins, _environment, _exporters, _clock, _processes, _metrics, _redis)
