"""`opero slo`: report, rules, routes, validate, init, runbooks."""

from __future__ import annotations

import argparse
import os
import sys
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING

from opero import clock
from opero.errors import ConfigurationError
from opero_slo import openslo, reader
from opero_slo.reader import SpecificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opero_slo.model import Specification
    from opero_slo.reports.data import Report
    from opero_slo.sources import Source

DONE, NO, USAGE = 0, 1, 2
EXAMPLES = """\
examples:
  opero slo init --live http://127.0.0.1:9464 --out slo.yaml
  opero slo validate slo.yaml
  opero slo report slo.yaml --prometheus http://127.0.0.1:9090 --format html --out report.html
  opero slo report --live http://127.0.0.1:9464
  opero slo rules slo.yaml --out slo.rules.yml
  opero slo routes slo.yaml --receiver page=https://pager.example/hook --out alertmanager.yml

exit status: 0 done, 1 the answer is no (a budget is overspent, a specification is invalid), 2 usage
"""


def command(arguments: Sequence[str]) -> int:
    """Run `opero slo …`."""
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except SpecificationError as error:
        print("\n".join(map(str, error.problems)), file=sys.stderr)
        return NO
    except (ConfigurationError, OSError) as error:
        print(f"opero slo: {error}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="opero slo",
        description="Objectives in OpenSLO v1: reports, alerts, checks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _report_parser(commands)
    rules = commands.add_parser("rules", help="write Prometheus recording and alerting rules")
    rules.add_argument("spec", nargs="+", metavar="SPEC")
    _out(rules)
    rules.set_defaults(run=_rules)
    routes = commands.add_parser("routes", help="write an Alertmanager configuration for these rules")
    routes.add_argument("spec", nargs="+", metavar="SPEC")
    routes.add_argument(
        "--receiver",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="post to a webhook: page, ticket, rest, or the name of an AlertNotificationTarget",
    )
    _out(routes)
    routes.set_defaults(run=_routes)
    validate = commands.add_parser("validate", help="check OpenSLO v1 files")
    validate.add_argument("spec", nargs="+", metavar="SPEC")
    validate.add_argument("--strict", action="store_true", help="warnings (what is referred to elsewhere) count, too")
    validate.set_defaults(run=_validate)
    init = commands.add_parser("init", help="write a first specification from the operations that are there")
    source = init.add_mutually_exclusive_group(required=True)
    source.add_argument("--live", metavar="URL", help="a process with /metrics, like http://127.0.0.1:9464")
    source.add_argument("--prometheus", metavar="URL", help="a Prometheus server")
    init.add_argument("--target", type=float, default=0.999, help="share of good events (default 0.999)")
    _out(init)
    init.set_defaults(run=_init)
    runbooks = commands.add_parser("runbooks", help="write a runbook template for each objective")
    runbooks.add_argument("spec", nargs="+", metavar="SPEC")
    runbooks.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where to; what is there is kept")
    runbooks.set_defaults(run=_runbooks)
    return parser


def _report_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="say how objectives stand")
    report.add_argument("spec", nargs="*", metavar="SPEC")
    source = report.add_mutually_exclusive_group()
    source.add_argument("--prometheus", metavar="URL", help="count in a Prometheus server")
    source.add_argument(
        "--live",
        metavar="URL",
        help="ask a running process (the default, at 127.0.0.1:9464); SPEC narrows its objectives",
    )
    source.add_argument("--events", metavar="FILE", help="count in a file of events, one JSON object a line")
    report.add_argument(
        "--format", choices=("text", "json", "md", "html"), help="default: by the name of --out, or text"
    )
    report.add_argument("--at", type=_moment, metavar="TIME", help="Unix seconds or ISO 8601 (default: now)")
    _out(report)
    report.set_defaults(run=_report)


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="FILE", help="write to a file (default: print)")


def _moment(text: str) -> float:
    from datetime import UTC, datetime

    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither Unix seconds nor ISO 8601") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _report(given: argparse.Namespace) -> int:
    chosen = given.format or _format_of(given.out)
    if not given.prometheus and not given.events:
        return _live(given, chosen)
    if not given.spec:
        raise ConfigurationError("SPEC", None, "at least one file")
    from opero_slo import reports

    specification = openslo.load(given.spec)
    report = _gather(specification, given)
    if chosen == "text" and not given.out:
        from opero_slo.reports import text

        sys.stdout.write(text.render(report, colour=sys.stdout.isatty()))
    else:
        _write(reports.render(report, chosen), given.out)
    return NO if report.missed else DONE


def _gather(specification: Specification, given: argparse.Namespace) -> Report:
    from opero_slo.reports.data import gather

    now = given.at or clock.wall()
    source: Source
    if given.events:
        from opero_slo.sources import events

        read = events.read(given.events)
        source, now = read, given.at or (read.events[-1].at if read.events else now)
    else:
        from opero_slo.sources.prometheus import Prometheus

        source, now = Prometheus(given.prometheus), float(floor(now))
    return gather(specification.slos, specification.slas, source, now)


def _live(given: argparse.Namespace, chosen: str) -> int:
    from opero_slo import live

    names = [slo.name for slo in openslo.load(given.spec).slos] if given.spec else []
    url = given.live or f"http://127.0.0.1:{os.environ.get('OPERO_METRICS_PORT', '9464')}"
    body, missed = live.fetch(url, chosen, names)
    _write(body, given.out)
    return NO if missed else DONE


def _rules(given: argparse.Namespace) -> int:
    from opero_slo import rules

    specification = openslo.load(given.spec)
    refused = rules.refused(specification.slos)
    for slo, each in refused:
        print(f"{slo.name}: alert {each.name} refused: {each.reason}", file=sys.stderr)
    if refused:
        return NO
    _write(rules.write(specification.slos, specification.slas), given.out)
    return DONE


def _routes(given: argparse.Namespace) -> int:
    from opero_slo import routing

    addresses = dict(each.partition("=")[::2] for each in given.receiver)
    _write(routing.write(openslo.load(given.spec).slos, addresses), given.out)
    return DONE


def _validate(given: argparse.Namespace) -> int:
    documents = reader.read(given.spec)
    problems = openslo.validate(documents)
    for problem in problems:
        print(problem, file=sys.stderr)
    wrong = [problem for problem in problems if given.strict or not problem.warning]
    if wrong:
        return NO
    refused = [] if problems else _refused(documents)
    for line in refused:
        print(line, file=sys.stderr)
    kinds = [document.value["kind"] for document in documents]
    print(f"{len(documents)} valid: " + ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds)))
    return NO if refused else DONE


def _refused(documents: Sequence[reader.Document]) -> list[str]:
    from opero_slo import rules

    found = rules.refused(openslo.interpret(documents).slos)
    return [f"{slo.name}: alert {each.name} refused: {each.reason}" for slo, each in found]


def _init(given: argparse.Namespace) -> int:
    from opero_slo import init
    from opero_slo.sources.prometheus import Prometheus

    if not 0 < given.target < 1:
        raise ConfigurationError("--target", given.target, "a share above 0 and below 1, like 0.999")
    if given.live:
        operations = init.from_metrics(given.live)
    else:
        operations = init.from_prometheus(Prometheus(given.prometheus), clock.wall())
    if not operations:
        print("opero slo: no operation is there yet; decorate a function with @opero, and let it run", file=sys.stderr)
        return NO
    _write(init.write(operations, target=given.target), given.out)
    return DONE


def _runbooks(given: argparse.Namespace) -> int:
    from opero_slo import runbooks

    specification = openslo.load(given.spec)
    given.out.mkdir(parents=True, exist_ok=True)
    for slo in specification.slos:
        page = given.out / f"{slo.name.replace('/', '-').replace(chr(92), '-')}.md"
        if page.exists():
            print(f"{page} is there, and kept")
            continue
        page.write_text(runbooks.write(slo), encoding="utf-8")
        print(page)
    return DONE


def _format_of(out: str | None) -> str:
    return {".json": "json", ".md": "md", ".html": "html", ".htm": "html"}.get(Path(out).suffix if out else "", "text")


def _write(body: str, out: str | None) -> None:
    if out is None:
        sys.stdout.write(body)
    else:
        Path(out).write_text(body, encoding="utf-8")
