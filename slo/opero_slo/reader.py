"""YAML to values that know where they stand. What is too large, too deep or circular is refused early."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from opero.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

BYTES = 500_000  # a thousand objectives are smaller
NODES = 100_000
DEPTH = 60


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where: file, line (from 1) and field."""

    file: str
    line: int
    field: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return f"{place}{'warning: ' if self.warning else ''}{f'{self.field}: ' if self.field else ''}{self.message}"


class SpecificationError(ConfigurationError):
    """A specification is not what it must be; `.problems` says everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("specification", None, "a valid one")
        self.args = ("\n".join(map(str, self.problems)),)


@dataclass(frozen=True)
class Document:
    """One YAML document: plain values, and the line of each by its path, like `spec.objectives[0].target`."""

    file: str
    value: Any
    lines: dict[str, int] = field(repr=False, compare=False)

    def problem(self, path: str, message: str, *, warning: bool = False) -> Problem:
        """Say what is wrong at a path; a path that is not there stands where its parent stands."""
        known = path
        while known and known not in self.lines:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        return Problem(self.file, self.lines.get(known, 1), path, message, warning)


def read(paths: Iterable[str | Path]) -> list[Document]:
    """Read files; raise `SpecificationError` with everything that is wrong in any of them."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            documents += parse(_text(Path(path)), str(path))
        except SpecificationError as error:
            problems += error.problems
    if problems:
        raise SpecificationError(problems)
    return documents


def parse(text: str, file: str = "<text>") -> list[Document]:
    """Read the documents of one text. A list of objects counts as that many documents."""
    if len(text) > BYTES:
        raise _refused(file, 0, f"{len(text):,} characters are too many: at most {BYTES:,}")
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _refused(file, mark.line + 1 if mark else 0, f"no YAML: {message}") from None
    except RecursionError:
        raise _refused(file, 0, f"nested deeper than {DEPTH} levels") from None
    budget = _Budget(file)
    documents = []
    for node in nodes:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        documents += [budget.document(item) for item in items if item is not None and not _empty(item)]
    if not documents:
        raise _refused(file, 0, "holds no document")
    return documents


class _Loader(yaml.SafeLoader):
    """Dates stay texts: OpenSLO gives them a time zone of their own."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class's name
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Budget:
    """Turns nodes into values, within bounds: an alias costs as much as what it stands for."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.left = NODES
        self.build = _Loader("")

    def document(self, node: yaml.Node) -> Document:
        lines: dict[str, int] = {}
        value = self._value(node, "", lines, ())
        return Document(self.file, value, lines)

    def _value(self, node: yaml.Node, path: str, lines: dict[str, int], above: tuple[int, ...]) -> Any:
        line = node.start_mark.line + 1 if node.start_mark else 0
        self.left -= 1
        if id(node) in above:
            raise _refused(self.file, line, f"{path or 'document'}: holds itself")
        if self.left < 0:
            raise _refused(self.file, line, f"more than {NODES:,} values, aliases included")
        if len(above) > DEPTH:
            raise _refused(self.file, line, f"nested deeper than {DEPTH} levels")
        lines[path] = line
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, lines, above)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, f"{path}[{n}]", lines, above) for n, child in enumerate(node.value)]
        return self._scalar(node, path, line)

    def _mapping(self, node: yaml.MappingNode, path: str, lines: dict[str, int], above: tuple[int, ...]) -> Any:
        made: dict[str, Any] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _refused(self.file, line, f"{path or 'document'}: a name must be a text")
            if key.value in made:
                raise _refused(self.file, line, f"{path or 'document'}: {_short(key.value)} is there twice")
            made[key.value] = self._value(child, f"{path}.{key.value}" if path else key.value, lines, above)
            lines[f"{path}.{key.value}" if path else key.value] = line
        return made

    def _scalar(self, node: yaml.Node, path: str, line: int) -> Any:
        try:
            value = self.build.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError, TypeError, KeyError):
            raise _refused(self.file, line, f"{path}: {_short(str(node.value))} is no {node.tag}") from None
        if value is not None and not isinstance(value, str | int | float | bool):
            raise _refused(self.file, line, f"{path}: {node.tag} is no text, number or truth value")
        return value


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > BYTES:
            raise _refused(str(path), 0, f"{path.stat().st_size:,} bytes are too many: at most {BYTES:,}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _refused(str(path), 0, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _refused(str(path), 0, f"is not UTF-8 (byte {error.start})") from None


def _empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _refused(file: str, line: int, message: str) -> SpecificationError:
    return SpecificationError([Problem(file, line, "", message)])
