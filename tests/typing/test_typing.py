"""A user's file under mypy --strict and pyright: right use accepted with the right types, wrong use flagged."""

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


def flagged(checker, folder, name):
    shutil.copy(HERE / name, folder)
    done = subprocess.run(
        [*CHECKERS[checker], name], cwd=folder, capture_output=True, text=True, timeout=110, check=False
    )
    found = re.findall(rf"{name}:(\d+):.*?error", done.stdout)
    return {int(line) for line in found}, done.stdout


@pytest.mark.parametrize(("checker", "name"), [("mypy", "good.py"), ("pyright", "good.py"), ("pyright", "static.py")])
def test_right_use_is_accepted_with_the_right_types(checker, name, tmp_path):
    found, output = flagged(checker, tmp_path, name)
    assert found == set(), output
    assert "0 errors" in output or not output


@pytest.mark.parametrize("checker", CHECKERS)
def test_wrong_use_is_flagged_where_it_stands(checker, tmp_path):
    lines = (HERE / "wrong.py").read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# E")}
    assert len(wrong) > 15
    found, output = flagged(checker, tmp_path, "wrong.py")
    assert found == wrong, output
