"""The JSON is what Grafana's own JSON Schemas of its classic model say."""

import json
import os
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from jsonschema.exceptions import best_match

from opero_dashboards import build
from opero_dashboards.model import panels

SCHEMAS = Path(__file__).parents[3] / "shared/data/grafana-schema"
DASHBOARDS = build()
PANELS = [
    pytest.param(panel, id=f"{name}-{panel['id']}-{panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in panels(dashboard)
]


@pytest.fixture(scope="module", autouse=True)
def _schemas():
    if not SCHEMAS.exists():
        verdict = pytest.fail if os.environ.get("OPERO_REQUIRE_SERVICES") == "1" else pytest.skip
        verdict(f"needs Grafana's JSON Schemas in {SCHEMAS}")


def check(instance, file, part=""):
    schema = read(file)
    if part:
        schema = {"$ref": f"#/definitions/{part}", "definitions": schema["definitions"]}
    error = best_match(jsonschema.Draft7Validator(schema).iter_errors(instance))
    assert error is None, f"{error.json_path}: {error.message}"


@cache
def read(file):
    schema = json.loads((SCHEMAS / f"{file}.jsonschema.json").read_text())
    if file == "table":
        # The branches of this `oneOf` do not say which `type` they are for: `{"type": "auto"}` fits many.
        options = schema["definitions"]["TableCellOptions"]
        options["anyOf"] = options.pop("oneOf")
    if file == "dashboard":
        # Both are `unknown` in Grafana's TypeScript; the schema's generator made an object of them, which no matcher
        # by name and no unit could be.
        schema["definitions"]["MatcherConfig"]["properties"]["options"] = {}
        schema["definitions"]["DynamicConfigValue"]["properties"]["value"] = {}
    return schema


@cache
def units():
    found = read("units")["definitions"]
    return {unit["const"] for unit in found.values()}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_valid(name):
    check(DASHBOARDS[name], "dashboard")


@pytest.mark.parametrize("panel", PANELS)
def test_options_and_fields_of_a_panel_are_valid(panel):
    file = panel["type"].replace("-", "")
    check(panel["options"], file, "Options")
    if panel["type"] == "text":
        return
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] not in {"stat", "bargauge"}:  # these two have no fields of their own
        check(defaults["custom"], file, "FieldConfig")
    if panel["type"] != "state-timeline":
        assert defaults["unit"] in units()
    for query in panel["targets"]:
        check(query, "prometheus")


def test_the_schemas_can_say_no():
    broken = json.loads(json.dumps(DASHBOARDS["overview.json"]))
    broken["panels"][1]["span"] = 4
    with pytest.raises(AssertionError, match=r"panels\[1\]"):
        check(broken, "dashboard")
