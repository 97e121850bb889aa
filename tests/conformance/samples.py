"""One policy of each kind, as a user would write it. A new primitive joins by itself if it needs no setting."""

import importlib
import pkgutil

import opero as o
from opero import primitives
from opero.policy import Policy

MADE = {
    "ArgFallback": lambda: o.ArgFallback("x"),
    "Bulkhead": lambda: o.Bulkhead(5),
    "Cache": lambda: o.Cache(60, key=lambda *_, **__: 0),  # a method's object has no identity of its own
    "Fallback": lambda: o.Fallback((7,)),
    "Hedge": lambda: o.Hedge(0.5),
    "RateLimit": lambda: o.RateLimit(1000),
    "Retry": lambda: o.Retry(2, wait=0.001),
    "Timeout": lambda: o.Timeout(30.0),
}
EXTRA = {"Timeout, attempt": lambda: o.Timeout(attempt=20.0)}


def kinds():
    """Return every class of policy there is, by name."""
    modules = [importlib.import_module(f"opero.primitives.{m.name}") for m in pkgutil.iter_modules(primitives.__path__)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {kind.__name__: kind for kind in found if issubclass(kind, Policy) and kind is not Policy}


def samples():
    """Return how to make one of each."""
    return {name: MADE.get(name, kind) for name, kind in kinds().items()} | EXTRA
