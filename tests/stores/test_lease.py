"""Calls that a process may make without asking, where threads run at once."""

import subprocess
import sys

WITHOUT_A_GIL = """
import sys
sys._is_gil_enabled = lambda: False
from threading import Thread
from opero.stores.lease import Lease

lease = Lease(100, 1.0)
lease.fill(0.0, 100)

class Meanwhile(float):  # while it is taken off, another thread hears that the store gave one call
    def __rsub__(self, left):
        thread.start()
        thread.join(0.2)
        return left - float(self)

thread = Thread(target=lease.fill, args=(1.0, 1))
print(lease.take(0.9, Meanwhile(1.0)))
thread.join()
print(lease.left, lease.until)
"""


def test_without_a_gil_a_new_lease_is_not_overwritten_by_who_takes_of_the_old_one():
    command = [sys.executable, "-c", WITHOUT_A_GIL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["True", "1.0", "2.0"], done.stderr
