"""Callables that nobody wrote as functions: mocks, proxies, methods of C types. All are decorated."""

import asyncio
import inspect
import sys
import threading
import xmlrpc.client
from functools import partial
from types import MethodType
from unittest import mock
from xmlrpc.server import SimpleXMLRPCServer

import pytest

import opero as o
from opero import fused, kinds, opero, opmap, waits


class Proxy:
    """Whatever is asked of it is there, as with clients of remote services."""

    def __getattr__(self, name):
        return Proxy()

    def __call__(self, *args):
        return args


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __call__(self, x):
        return x


class Misnamed:
    def __init__(self):
        self.__annotations__ = None
        self.__qualname__ = self.__module__ = self.__name__ = self.__doc__ = 5

    def __call__(self, x):
        return x


def twice(x):
    return 2 * x


MADE = {
    "mock": lambda: mock.Mock(return_value=5),
    "magic mock": lambda: mock.MagicMock(return_value=5),
    "specified mock": lambda: mock.Mock(spec=twice, return_value=5),
    "autospec": lambda: mock.create_autospec(twice, return_value=5),
    "partial of a mock": lambda: partial(mock.Mock(return_value=5)),
    "bound to a mock": lambda: MethodType(mock.Mock(return_value=5), object()),
    "hostile": Hostile,
    "misnamed": Misnamed,
    "builtin": lambda: abs,
    "method of a C type": lambda: str.upper,
    "bound method of a C object": lambda: "x".join,
    "proxy": Proxy,
}
GIVEN = {"method of a C type": "x", "bound method of a C object": "y"}
SETTINGS = {
    "bare": {},
    "retries": {"retries": 1},
    "counted": {"retries": 0},
    "everything": {"retries": 1, "timeout": 5, "circuit_breaker": True, "bulkhead": 2, "rate_limit": "1000/s"},
    "fallback": {"fallback": 1},
    "cached": {"cache": True},
    "keyed": {"circuit_breaker": o.CircuitBreaker(consecutive=2, key=lambda *_, **__: "k")},
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", MADE)
def test_any_callable_is_decorated_and_called(kind, settings, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    function, given = MADE[kind](), GIVEN.get(kind, 3)
    expected = function(given)
    f = opero(**settings)(function) if settings else opero(function)
    assert f(given) == f(given) == expected
    assert isinstance(f.opero.name, str)
    assert f.opero.stats()["ok"] == (1 if "cache" in settings else 2)
    assert repr(f.opero)
    assert f.opero.bypass(given) == expected
    assert f.opero.with_(retries=2)(given) == expected
    if not settings:
        with pytest.raises(o.ConfigurationError, match="circuit breaker"):
            _ = f.opero.breaker


@pytest.mark.parametrize("kind", MADE)
def test_any_callable_is_mapped(kind):
    function, given = MADE[kind](), GIVEN.get(kind, 3)
    expected = function(given)
    f = opmap(mode="thread", workers=2)(function)
    assert f([given, given]) == [expected, expected]
    assert opmap(function)([given]) == [expected]


def test_a_mock_is_called_and_retried():
    function = mock.Mock(side_effect=[OSError, KeyError, 5])
    f = opero(o.Retry(3, wait=waits.constant(0)))(function)
    assert f(1, key=2) == 5
    assert function.mock_calls == [mock.call(1, key=2)] * 3


@pytest.mark.parametrize("make", [mock.AsyncMock, lambda **given: mock.create_autospec(_later, **given)])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_an_asynchronous_mock_is_awaited(make, settings):
    function = make(return_value=5)
    f = opero(**settings)(function) if settings else opero(function)
    assert inspect.iscoroutinefunction(f)
    assert asyncio.run(f(1)) == 5
    assert function.await_count == 1


def test_an_asynchronous_mock_is_retried():
    function = mock.AsyncMock(side_effect=[OSError, 5])
    assert asyncio.run(opero(o.Retry(3, wait=waits.constant(0)))(function)(1)) == 5
    assert function.await_count == 2


async def _later(x):
    return x


@pytest.mark.skipif(sys.version_info < (3, 12), reason="inspect.markcoroutinefunction is of 3.12")
def test_what_is_marked_as_a_coroutine_function_is_one():
    marked = inspect.markcoroutinefunction(lambda x: _later(x))  # noqa: PLW0108 - no coroutine function itself
    assert kinds.is_coroutine_function(marked)
    assert asyncio.run(opero(marked)(3)) == 3


def test_a_mark_is_believed_by_what_it_is_not_by_its_name():
    function = lambda x: x  # noqa: E731
    function._is_coroutine_mark = function._is_coroutine = True
    assert not kinds.is_coroutine_function(function)
    assert opero(function)(3) == 3


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (dict.get, "builtins.dict.get"),
        ({}.get, "builtins.dict.get"),
        (len, "builtins.len"),
        (partial(partial(twice)), f"{__name__}.twice"),
        (Proxy(), f"{__name__}.Proxy"),
        (Misnamed(), f"{__name__}.Misnamed"),
        (mock.Mock(), "unittest.mock.Mock"),
    ],
    ids=["C type", "C object", "builtin", "partial", "proxy", "misnamed", "mock"],
)
def test_the_name_is_that_of_what_is_called(function, name):
    assert opero(retries=1)(function).opero.name == name


def test_nothing_is_called_while_decorating():
    calls = []
    with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
        server.register_function(lambda x: calls.append(x) or x, "foo")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{server.server_address[1]}/")
        f, g = opero(client.foo), opmap(mode="thread", workers=1)(client.foo)
        assert calls == []
        assert (f(7), g([8])) == (7, [8])
        server.shutdown()
    assert calls == [7, 8]
    assert opero(retries=0)(xmlrpc.client.ServerProxy("http://127.0.0.1:9/").foo).opero.name.endswith("_Method")


def test_the_wrapper_looks_like_what_it_wraps_where_that_says_sound_things():
    f = opero(dict.get)
    assert (f.__name__, f.__qualname__, f.__doc__) == ("get", "dict.get", dict.get.__doc__)
    assert isinstance(opero(Proxy()).__name__, str)
    first = opero(partial(divmod, 7))
    assert (first.__module__, first.__name__, first.__qualname__) == ("builtins", "divmod", "divmod")
    named = partial(divmod, 7)
    named.__name__ = "sevenths"
    assert opero(named).__name__ == "sevenths"
    function = mock.Mock(return_value=5)
    function.opero = "theirs"
    assert opero(function).opero.name == "unittest.mock.Mock"


def test_validation_reads_annotations_only():
    pytest.importorskip("pydantic")
    for function in (mock.Mock(return_value=5), Proxy(), Misnamed(), Hostile()):
        f = opero(validate=True)(function)
        assert f(3) == function(3)
