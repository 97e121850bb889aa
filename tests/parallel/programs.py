"""Whole programs that tests start, kill and interrupt."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import forkserver
from pathlib import Path

from opero import opmap


def hanging(x):
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)


def later(seconds):
    time.sleep(seconds)
    return os.getpid()


def quick(x):
    return os.getpid()


def say_goodbye():
    (Path(sys.argv[2]) / str(os.getpid())).touch()


def hang(method):
    opmap(mode="process", workers=2, start_method=method)(hanging)(range(4))


def kept():
    sys.stdout.write(" ".join(map(str, opmap(mode="process", workers=2)(quick)(range(20)))))


def walked_away():
    stream = opmap(mode="process", workers=2)(hanging).stream(range(4))
    opmap(mode="process", workers=1, item_timeout=0.1, errors="skip")(hanging)([1])
    del stream


def left_open():
    """End with a stream that nobody closed, and with a map in a daemon thread."""
    function = opmap(mode="process", workers=2)(later)
    globals()["stream"] = function.stream([0.05] * 100_000)
    pids = {next(globals()["stream"]) for _ in range(3)}
    other = opmap(mode="process", workers=2)(later)
    threading.Thread(target=other, args=([0.05] * 100_000,), daemon=True).start()
    while not multiprocessing.active_children()[2:]:
        time.sleep(0.01)
    sys.stdout.write(" ".join(map(str, pids)))


def half_started():
    """End while a daemon thread has asked the fork server for a worker, and not yet said for which."""
    connect, asked = forkserver.connect_to_new_process, threading.Event()

    def slowly(descriptors):
        ends = connect(descriptors)
        asked.set()
        time.sleep(0.5)
        return ends

    forkserver.connect_to_new_process = slowly
    function = opmap(mode="process", workers=1, start_method="forkserver")(quick)
    threading.Thread(target=function, args=([1],), daemon=True).start()
    asked.wait(20)


class Slow:
    """A function that takes its time to be sent."""

    def __call__(self, x):
        return x

    def __reduce__(self):
        time.sleep(0.5)
        return Slow, ()


def begin_late():
    function = opmap(mode="process", workers=1, start_method="forkserver")(Slow())
    threading.Thread(target=function, args=([1],)).start()
    time.sleep(0.1)


def in_a_child():
    """Have a process that ends while a thread of it is about to start a worker."""
    child = multiprocessing.get_context("fork").Process(target=begin_late)
    child.start()
    child.join(10)
    child.kill()
    child.join()
    assert child.exitcode == 0


def in_threads():
    stream = opmap(mode="thread", workers=2)(time.sleep).stream([0, 600, 600])
    next(stream)


def exits(_):
    f = opmap(mode="process", workers=2, worker_exit=say_goodbye, start_method="fork")(lambda x: time.sleep(0.2))
    f(range(4))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in the background ignore it
    globals()[sys.argv[1]](*sys.argv[2:])
