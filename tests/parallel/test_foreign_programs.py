"""Maps in programs of all kinds: scripts, notebooks, daemons, items that fork."""

import collections
import multiprocessing
import os
import subprocess
import sys
import textwrap

import pytest
import work

from opero import opmap

pytestmark = pytest.mark.timeout(60)

SCRIPT = """
    import enum, sys
    from dataclasses import dataclass
    from opero import opmap

    SETTINGS = dict(mode="process", workers=1, start_method=sys.argv[1], errors="return")
    KNOWN = object()

    class Colour(enum.Enum):
        RED = 1

    @dataclass
    class Order:
        colour: Colour

    class Refused(Exception):
        pass

    @opmap(**SETTINGS)
    def decorated(order):
        if order.colour is not Colour.RED:
            raise Refused(order)
        return isinstance(order, Order), order

    def plain(order):
        return isinstance(order, Order) and order.colour is Colour.RED, order

    if __name__ == "__main__":
        def below(order):
            return isinstance(order, Order) and order.colour is Colour.RED, order

        for function in (plain, below, lambda order: plain(order), decorated):
            if function is not decorated:
                function = opmap(**SETTINGS)(function)
            ((inside, order),) = function([Order(Colour.RED)])
            print(inside, type(order) is Order, order.colour is Colour.RED)
        (error,) = decorated([Order("blue")])
        print(type(error) is Refused, type(error.args[0]) is Order)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("notebook", [False, True])
def test_what_a_script_or_a_notebook_defines_is_the_same_in_its_workers(method, notebook, tmp_path):
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(SCRIPT))
    command = [str(file)] if not notebook else ["-c", f"exec(open({str(file)!r}).read())"]
    done = subprocess.run(
        [sys.executable, *command, method], capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["True True True"] * 4 + ["True True"]


WITHOUT_CLOUDPICKLE = """
    import functools, sys
    sys.modules["cloudpickle"] = None
    from opero import opero, opmap

    SETTINGS = dict(workers=1, start_method=sys.argv[1], errors="return")

    class Shop:
        @staticmethod
        @opmap(mode="process", **SETTINGS)
        def price(x):
            return x * 3

    def logged(function):
        @functools.wraps(function)
        def call(*args):
            return function(*args)
        return call

    @opmap(mode="process", retries=1, **SETTINGS)
    def parse(x):
        return x * 2

    @logged
    @opmap(mode="process", **SETTINGS)
    def twice(x):
        return x * 2

    @opmap(mode="process", **SETTINGS)
    @opero(retries=2)
    def kept(x):
        return x * 2

    @opmap(mode="async_process", **SETTINGS)
    async def fetch(x):
        return x * 2

    if __name__ == "__main__":
        import asyncio

        print(parse([1, 2]), twice([1, 2]), kept([1, 2]), asyncio.run(fetch([1, 2])), Shop.price([1, 2]))
        try:
            opmap(mode="process", **SETTINGS)(lambda x: x)([1])
        except Exception as error:
            print(error)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_script_needs_no_cloudpickle_for_what_it_decorates(method, tmp_path):
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(WITHOUT_CLOUDPICKLE))
    done = subprocess.run([sys.executable, file, method], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, *refusal = done.stdout.splitlines()
    assert first == "[2, 4] [2, 4] [2, 4] [2, 4] [3, 6]"
    if method == "fork":
        assert not refusal
    else:
        assert refusal[0].startswith("function=<function <lambda> at 0x")
        assert refusal[0].endswith("; `pip install 'opero[map]'` lets lambdas and closures through")


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path):
    file = tmp_path / "script.py"
    file.write_text("from opero import opmap\nopmap(mode='process', start_method='spawn')(abs)([1])\n")
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "`if __name__ == '__main__':` around what it runs" in done.stderr


def forking(x):
    """Fork, and let the child come back from the item as well."""
    if x == 3:
        os.fork()
    return x


@pytest.mark.parametrize("warm", [0, 2_000])  # by the general way, and by slots
def test_an_item_that_forks_and_lets_the_child_come_back_is_answered_once(warm):
    function = opmap(mode="process", workers=2, name="foreign.forks")(forking)
    with function.pool:
        items = [*[4] * warm, *range(200)]
        assert function(items) == items
        assert function(items) == items
    assert function.opero.stats()["calls"] == 2 * len(items)


def mapping(pipe):
    with work.square.pool:
        pipe.send(work.square(range(50)))


def test_a_daemon_process_can_map():
    ours, theirs = multiprocessing.Pipe()
    daemon = multiprocessing.Process(target=mapping, args=(theirs,), daemon=True)
    daemon.start()
    assert ours.poll(30)
    assert ours.recv() == [x * x for x in range(50)]
    daemon.join(10)
    assert daemon.exitcode == 0


SERVED = """
import multiprocessing
from opero import opmap

@opmap(mode="process", workers=2, start_method="forkserver")
def square(x):
    return x * x

def mapping(pipe):
    with square.pool:
        pipe.send(square(range(5)))

if __name__ == "__main__":
    square(range(5))  # starts the fork server, which is no child of ours in what we fork
    ours, theirs = multiprocessing.Pipe()
    daemon = multiprocessing.get_context("fork").Process(target=mapping, args=(theirs,), daemon=True)
    daemon.start()
    theirs.close()
    print(ours.recv(), square(range(3)))
    daemon.join(10)
    print(daemon.exitcode)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")
def test_a_forked_daemon_of_a_program_with_a_fork_server_can_map(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(SERVED)
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr) == ("[0, 1, 4, 9, 16] [0, 1, 4]\n0\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork here")
def test_items_that_fork_and_end_their_child_do_no_harm():
    function = opmap(mode="process", workers=2, name="foreign.children")(work.parent_of_one)
    with function.pool:
        assert collections.Counter(function(range(20))) == {0: 20}
