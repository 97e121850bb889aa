"""Functions that a finalizer calls for the first time: while they are garbage, or the interpreter ends."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

import opero as o
from garbage import uncollected
from opero.runtime import run

LAST = """
import os
import opero as o

def work(steps=[OSError, 7]):
    step = steps.pop(0) if len(steps) > 1 else steps[0]
    if step is OSError:
        raise step
    return step

f = o.opero({policies})(work)

class Last:
    def __del__(self, f=f, write=os.write):
        try:
            said = [f(), f()]
        except Exception as error:
            said = [type(error), error]
        write(1, repr(said).encode())

last = Last()
{then}
"""
ENDS = {"with its module": "", "in a circle": "import gc; gc.disable(); last.me = last; del last"}
POLICIES = {
    "hedge": "o.Retry(1, wait=0), o.Hedge(5)",
    "timeout": "o.Retry(1, wait=0), o.Timeout(5)",
    "signal": "o.Retry(1, wait=0), o.Timeout(5, how='signal')",
    "jitter": "o.Retry(1, wait=0.001)",
    "rate": "o.Retry(1, wait=0), o.RateLimit(1, per=0.01, burst=1)",
    "memory": "o.Retry(1, wait=0), o.Cache(60)",
    "disk": "o.Retry(1, wait=0), o.Cache(60, backend='disk', directory='cache')",
    "redis": "o.Retry(1, wait=0), o.RateLimit(9, store='redis://127.0.0.1:1/0', name='x')",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("policies", POLICIES)
def test_the_interpreter_ends(policies, end, tmp_path):
    program = LAST.format(policies=POLICIES[policies], then=ENDS[end])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(o.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[7, 7]", "")


class Resource:
    """It is garbage together with the function that closes it."""

    def __init__(self, close):
        self.close, self.me = close, self

    def __del__(self):
        self.close()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_function_is_garbage_itself(is_async):
    closed = []

    def resource():
        @o.opero(retries=0)
        def close():
            closed.append(holder)

        @o.opero(retries=0)
        async def aclose():
            close()

        holder = Resource((lambda: run(aclose())) if is_async else close)

    with uncollected():
        resource()
        gc.collect()
        assert len(closed) == 1
