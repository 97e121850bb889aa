"""A user's file under mypy --strict and pyright: right use accepted with the right types, wrong use flagged."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file="],
    "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
}


FILES = {
    "mypy": ["good.py", "override.py", "wrong.py"],
    "pyright": ["good.py", "override.py", "static.py", "wrong.py"],
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What a checker says of a file; it looks at all of its files in one run, and so reads Opero once."""

    @functools.cache
    def all_of(checker):
        folder = tmp_path_factory.mktemp(checker)
        for name in FILES[checker]:
            shutil.copy(HERE / name, folder)
        command = [*CHECKERS[checker], *FILES[checker]]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)

    def of(checker, name):
        done = all_of(checker)
        assert (done.returncode, done.stderr) == (1, ""), done.stderr + done.stdout
        return [line for line in done.stdout.splitlines() if name in line]

    return of


@pytest.mark.parametrize(("checker", "name"), [(checker, name) for checker in FILES for name in FILES[checker][:-1]])
def test_right_use_is_accepted_with_the_right_types(checker, name, said):
    assert said(checker, name) == []


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_use_is_flagged_where_it_stands(checker, said):
    lines = (HERE / "wrong.py").read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# E")}
    assert len(wrong) > 15
    found = said(checker, "wrong.py")
    flags = re.findall(r"wrong\.py:(\d+):.*?error", "\n".join(found))
    assert {int(line) for line in flags} == wrong, found
