"""The documentation says what the code does: its examples run, its tables are fresh, every primitive has its page."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import opero
from opero import pipeline, primitives

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HEADINGS = ["About", "Usage", "Defaults", "Telemetry", "Diagram", "Patterns", "Anti-patterns"]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    (page.relative_to(ROOT), n, code) for page in PAGES for n, code in enumerate(BLOCK.findall(page.read_text()))
]
NAMES = sorted(module.name for module in pkgutil.iter_modules(primitives.__path__))


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{page.stem}-{n}" for page, n, _ in EXAMPLES])
def test_an_example_runs_as_it_stands(example, tmp_path):
    script = tmp_path / "example.py"
    script.write_text(example[2])
    environment = {"PYTHONWARNINGS": "error", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


def test_there_are_examples_to_run():
    assert len(EXAMPLES) > 20


def test_the_generated_tables_are_fresh():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_primitive_is_complete(name):
    module = importlib.import_module(f"opero.primitives.{name}")
    assert module.SIGNALS.events
    page = (ROOT / "docs/primitives" / f"{name.replace('_', '-')}.md").read_text()
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == HEADINGS
    assert "```mermaid" in page
    assert f"<!-- generated: defaults {name} -->" in page
    assert f"<!-- generated: telemetry {name} -->" in page
    assert f"primitives/{name.replace('_', '-')}.md" in (ROOT / "mkdocs.yml").read_text()
    assert name in pipeline.ORDER
    assert (ROOT / "docs/reference/api.md").read_text().count(f"opero.primitives.{name}\n") == 1
    assert (ROOT / f"tests/conformance/scenarios/{name}.py").exists()


def test_opmap_has_the_page_of_a_primitive():
    page = (ROOT / "docs/opmap.md").read_text()
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == HEADINGS


@pytest.mark.parametrize(
    "name", [m.name for m in pkgutil.walk_packages(opero.__path__, "opero.") if "__main__" not in m.name]
)
def test_doctests(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_name_is_there():
    for name in opero.__all__:
        assert getattr(opero, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = opero.nothing
