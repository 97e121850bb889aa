"""The artefact people install."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"opero", "opero_telemetry", "opero_slo", "opero_dashboards"}


def run(*command, cwd=None, **environment):
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=ROOT)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    home = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    run(
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--offline",
        "--no-deps",
        "-q",
        "--python",
        home / "bin/python",
        wheel,
    )
    return home / "bin"


def test_it_holds_exactly_the_four_packages_each_typed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_a_users_own_modules_of_our_folders_names_keep_working(installed, tmp_path):
    (tmp_path / "telemetry.py").write_text("mine = 1")
    (tmp_path / "slo").mkdir()
    (tmp_path / "slo/__init__.py").write_text("mine = 2")
    (tmp_path / "dashboards.py").write_text("mine = 3")
    code = (
        "import telemetry, slo, dashboards, opero; print(telemetry.mine, slo.mine, dashboards.mine, opero.__version__)"
    )
    assert run(installed / "python", "-c", code, cwd=tmp_path).startswith("1 2 3 3.0")


def test_the_core_works_with_nothing_else_installed(installed, tmp_path):
    code = "from opero import opero; f = opero(retries=1, timeout=5)(abs); print(f(-3), f.opero.stats()['ok'])"
    assert run(installed / "python", "-W", "error", "-c", code, cwd=tmp_path) == "3 1\n"


def test_a_missing_extra_is_one_sentence_and_exit_2(installed, tmp_path):
    done = subprocess.run([installed / "opero", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"opero demo needs \w+: pip install 'opero\[telemetry\]'\n", done.stderr)


HEAVY = ["asyncio", "typing", "dataclasses", "inspect", "logging", "concurrent.futures", "re", "random", "threading"]


@pytest.mark.parametrize("code", ["import opero", "from opero import opero, opmap, Retry, CallTimeout"])
def test_importing_loads_only_opero_and_light_parts_of_the_standard_library(installed, code, tmp_path):
    listing = "import sys; print(*sorted(sys.modules))"
    bare = set(run(installed / "python", "-I", "-c", listing, cwd=tmp_path).split())
    loaded = set(run(installed / "python", "-I", "-c", f"{code}; {listing}", cwd=tmp_path).split()) - bare
    foreign = {name for name in loaded if name.split(".")[0] not in {"opero", *sys.stdlib_module_names}}
    assert foreign == set()
    assert not loaded.intersection(HEAVY)


@pytest.mark.service("valgrind")
def test_importing_costs_no_more_than_half_of_asyncio(installed, tmp_path):
    def instructions(code):
        python = [installed / "python", "-I", "-c", code]
        run(*python, cwd=tmp_path, PYTHONDONTWRITEBYTECODE="")  # compiles what is not compiled yet
        counting = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        told = subprocess.run([*counting, *python], cwd=tmp_path, capture_output=True, text=True, check=True).stderr
        return int(re.search(r"Collected : (\d+)", told)[1])

    bare = instructions("")
    package, doors, asyncio = (
        instructions(code) - bare for code in ("import opero", "from opero import opero, opmap", "import asyncio")
    )
    assert package < asyncio / 2
    assert doors < asyncio / 2


def test_no_registry_and_no_path_of_a_machine_is_named_in_the_sources():
    listed = run("git", "ls-files", cwd=ROOT).split() if (ROOT / ".git").exists() else []
    hosts = re.compile("pypi" + r"\.org|files\.pythonhosted|registry\.npm|deb\.debian|/" + r"root/|/" + "work/")
    texts = [ROOT / name for name in listed if not name.endswith((".js", ".png", ".svg"))]
    assert [str(path) for path in texts if hosts.search(path.read_text(encoding="utf-8"))] == []
