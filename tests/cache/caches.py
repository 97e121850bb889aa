"""Cached functions, and looks into where their results are kept."""

import itertools

import pytest

import opero as o

DISK = ["disk", "disk-signed", "disk-both"]
REDIS = [
    pytest.param(name, marks=pytest.mark.service("redis")) for name in ("redis", "redis-signed", "redis-encrypted")
]
DISTANT = [*DISK, *REDIS]
KEY = b"k" * 32
serial = itertools.count()


def space():
    """Return a namespace of the test's own."""
    return f"test{next(serial)}"


def cached(**settings):
    """Return a function of one argument, and a list of what it was called with."""
    made = []

    @o.opero(o.Cache(60, **settings))
    def f(x):
        made.append(x)
        return x * 10

    return f, made


def counted(policy, answer=None):
    """Return a function that tells how often it ran, or an answer, and a list of what it was called with."""
    made = []

    @o.opero(policy)
    def f(x=0):
        made.append(x)
        return len(made) if answer is None else answer

    return f, made


def place(f):
    return f.opero.cache._around.place


def name_in(f, x):
    return place(f).shelf.names(f.opero.cache._around.keys.full(f.opero.cache._key((x,), {})))[0]


def reasons(heard, name="backend_failed"):
    return [fields["reason"] for said, fields in heard if said == name]
