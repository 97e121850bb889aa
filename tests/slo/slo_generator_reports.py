"""Run by the Python that has Google's slo-generator: cases from stdin, its reports to stdout, both as JSON."""

import json
import sys

from slo_generator.compute import compute

GIVEN = json.load(sys.stdin)
CONFIG = {"backends": {"prometheus": {"class": "Prometheus", "url": GIVEN["url"]}}, "exporters": {}}


def report(case):
    step = {
        "name": "step",
        "window": case["window"],
        "burn_rate_threshold": case["threshold"],
        "message_alert": "alert",
        "message_ok": "ok",
    }
    config = {**CONFIG, "error_budget_policies": {"default": {"steps": [step]}}}
    slo = {
        "metadata": {"name": "slo"},
        "spec": {
            "description": "",
            "backend": "prometheus",
            "method": "query_sli",
            "service_level_indicator": {"expression": case["expression"]},
            "goal": case["goal"],
        },
    }
    return compute(slo, config, timestamp=case["at"])[0]


json.dump([report(case) for case in GIVEN["cases"]], sys.stdout)
