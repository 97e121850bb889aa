"""What the address of a Redis store says, read as redis-py reads that of one server; nonsense is refused.

No reason quotes a value: it may be a password, or a piece of one.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from opero.errors import ConfigurationError
from opero.stores import ALLOWED, Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PARTS = re.compile(r"([^/?#]*)([^?#]*)(?:\?([^#]*))?(#?)", re.DOTALL)
OPTIONS = (
    "db", "username", "password", "client_name", "health_check_interval", "socket_keepalive",
    "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs",
    "ssl_check_hostname", "ssl_ciphers", "ssl_min_version", "ssl_include_verify_flags", "ssl_exclude_verify_flags",
)  # fmt: skip
TIMES = ("socket_timeout", "socket_connect_timeout", "timeout")
LOGIN = ("sentinel_username", "sentinel_password")
NOT_OF_CLUSTERS = ("ssl_ca_path", "ssl_password")  # redis-py's has no such arguments in asyncio
WANTED = {"ssl_cert_reqs": ("none", "optional", "required")}
PORT = 26379  # of a Sentinel


class Place:
    """An address, read. `url` is what redis-py takes of one server or cluster; with Sentinels the rest is."""

    def __init__(self, address: str) -> None:
        scheme, _, rest = address.partition("://")
        self._plain, _, self.kind = scheme.partition("+")
        self.url = f"{self._plain}://{rest}"
        authority, path, query, cut = PARTS.match(rest).groups()  # type: ignore[union-attr]
        self._given, self._torn = Address(address), "@" in rest and "@" not in authority
        if cut:
            raise self._wrong("# is written %23")
        login, _, hosts = authority.rpartition("@")
        if self._plain != "unix":
            self.hosts = [self._host(each) for each in (hosts.split(",") if self.kind == "sentinel" else [hosts])]
            path = path.strip("/")
            self.service, path = self._service(path) if self.kind == "sentinel" else ("", path)
        self.options: dict[str, Any] = {}
        self.sentinel_options: dict[str, Any] = {}
        if self._plain != "unix" and path:
            self.options["db"] = self._database(path)
        for name, value in self._pairs(query):
            self._set(name, value)
        if self.kind == "cluster" and self.options.get("db"):
            raise self._wrong("a cluster has no database but 0")
        user, _, password = login.partition(":")
        given = {"username": unquote(user), "password": unquote(password)}
        self.options |= {name: value for name, value in given.items() if value}
        self.tls = self._plain == "rediss"

    def _host(self, text: str) -> tuple[str, int]:
        try:
            split = urlsplit(f"//{text}")
            host, port = split.hostname or "", split.port
        except ValueError:
            raise self._wrong("a host is written host, host:port or [IPv6]:port") from None
        if self.kind and not host:
            raise self._wrong("it lacks a host")
        return host, PORT if port is None else port

    def _service(self, path: str) -> tuple[str, str]:
        service, _, database = path.partition("/")
        if not service:
            raise self._wrong("it lacks the name of the service, as in redis+sentinel://a:26379,b:26379/service/0")
        return unquote(service), database

    def _database(self, text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text):
            raise self._wrong("a database is a whole number, 0 or more")
        return int(text)

    def _pairs(self, query: str | None) -> list[tuple[str, str]]:
        try:
            pairs = parse_qsl(query or "", keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise self._wrong("options are written name=value") from None
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise self._wrong("an option is given once")
        return pairs

    def _set(self, name: str, value: str) -> None:
        if self.kind == "sentinel" and name in LOGIN:
            self.sentinel_options[name.removeprefix("sentinel_")] = value
            return
        self._know(name)
        told = self._parsed(name, value)
        self.options[name] = told
        if name.startswith("ssl_"):
            self.sentinel_options[name] = told

    def _know(self, name: str) -> None:
        if self._torn:  # what looks like a name may be a piece of a password
            if name not in OPTIONS:
                raise self._wrong("it has no option of that name")
        elif name in TIMES:
            raise self._wrong(f"in place of {name} give RedisStore(url, timeout=)")
        elif name not in OPTIONS:
            login = LOGIN if self.kind == "sentinel" else ()
            raise self._wrong(f"it has no option {name!r}, only {', '.join((*OPTIONS, *login))}")
        if self.kind == "cluster" and name in NOT_OF_CLUSTERS:
            raise self._wrong(f"a cluster takes no {name}")
        if name.startswith("ssl_") and self._plain != "rediss":
            raise self._wrong(f"{name} is for rediss://")

    def _parsed(self, name: str, value: str) -> Any:
        from redis.connection import parse_url

        if name == "db":
            return self._database(value)
        try:
            told = parse_url(f"redis://?{urlencode({name: value})}").get(name)  # type: ignore[no-untyped-call]
        except ValueError:
            told = None
        if told is None or told not in WANTED.get(name, (told,)):
            raise self._wrong(f"{name} cannot have that value")
        return told

    def _wrong(self, why: str) -> ConfigurationError:
        torn = "; / ? # in user and password are written %2F %3F %23" if self._torn else ""
        return ConfigurationError("store", self._given, f"{ALLOWED}; {why}{torn}")
