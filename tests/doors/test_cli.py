import subprocess
import sys

import pytest


def run(*arguments):
    command = [sys.executable, "-m", "opero", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_the_commands():
    done = run("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout


def test_without_a_command_it_says_how_to_use_it():
    done = run()
    assert (done.returncode, done.stdout) == (2, run("--help").stdout)


@pytest.mark.parametrize("wrong", ["dance", "--speed"])
def test_an_unknown_command_is_one_sentence_and_exit_2(wrong):
    done = run(wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert wrong in done.stderr
    assert "demo" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "opero", "doctor"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, "")
