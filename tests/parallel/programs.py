"""Whole programs that tests start, kill and interrupt."""

import os
import signal
import sys
import time
from pathlib import Path

from opero import opmap


def hanging(x):
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)


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


def threads():
    stream = opmap(mode="thread", workers=2)(time.sleep).stream([0, 600, 600])
    next(stream)


def exits(_):
    f = opmap(mode="process", workers=2, worker_exit=say_goodbye, start_method="fork")(lambda x: time.sleep(0.2))
    f(range(4))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in the background ignore it
    globals()[sys.argv[1]](*sys.argv[2:])
