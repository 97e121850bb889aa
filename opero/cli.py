"""The command line. A command is an entry point of the group `opero.commands`: from its arguments to an exit status."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import EntryPoints

USAGE = 2
EXTRA_OF = {"opero_telemetry": "telemetry", "opero_slo": "slo", "opero_dashboards": "dashboards"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit status 0: done, 1: the answer is no, 2: it was not asked rightly, or something is missing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = _commands()
    if given[:1] == ["--version"]:
        from opero import __version__

        print(f"opero {__version__}")
        return 0
    if not given or given[0] in {"-h", "--help"}:
        print(_help(commands))
        return 0 if given else USAGE
    if given[0] not in commands.names:
        print(
            f"opero: there is no command {given[0]!r}; there are: {', '.join(sorted(commands.names))}", file=sys.stderr
        )
        return USAGE
    return _run(commands, given[0], given[1:])


def _run(commands: EntryPoints, name: str, arguments: list[str]) -> int:
    point = commands[name]
    try:
        command = point.load()
        return int(command(arguments))
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get(point.value.partition(".")[0], "all")
        print(f"opero {name} needs {error.name}: pip install 'opero[{extra}]'", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        sys.stdout = None  # nothing more is flushed into the pipe
        return 0


def _commands() -> EntryPoints:
    from importlib.metadata import entry_points

    return entry_points(group="opero.commands")


def _help(commands: EntryPoints) -> str:
    lines = ["usage: opero COMMAND [options]", "", "commands:"]
    return "\n".join([*lines, *(f"  {name}" for name in sorted(commands.names)), "", "opero COMMAND --help says more."])
