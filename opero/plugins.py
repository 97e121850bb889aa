"""What other packages add, found by entry points. Nothing is looked for before something is asked for by a name."""

from __future__ import annotations

from opero.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["GROUPS", "load", "names"]


def __dir__() -> list[str]:
    return __all__


GROUPS = {
    "opero.primitives": "a subclass of `Policy`; its name is a keyword of `@opero`",
    "opero.rate_limiters": "makes a `RateLimiter`; its name may be given as `rate_limit`",
    "opero.cache_backends": "makes a cache backend; its name may be given as `cache_backend`",
    "opero.controllers": "makes a controller of a knob",
    "opero.subscribers": "starts an observer, when the environment asks for one",
    "opero.commands": "a command of the command line, from its arguments to an exit status",
}

_loaded: dict[tuple[str, str], Any] = {}


def names(group: str) -> list[str]:
    """Return what there is in a group, sorted."""
    from importlib.metadata import entry_points

    if group not in GROUPS:
        raise ConfigurationError("group", group, f"one of {', '.join(GROUPS)}")
    return sorted(entry_points(group=group).names)


def load(group: str, name: str) -> Any:
    """Import and return what a package has put there; once, then the same."""
    if (group, name) not in _loaded:
        from importlib.metadata import entry_points

        if name not in (known := names(group)):
            raise ConfigurationError("name", name, f"one of {group}: {', '.join(known) or 'there is none'}")
        _loaded[group, name] = entry_points(group=group)[name].load()
    return _loaded[group, name]
