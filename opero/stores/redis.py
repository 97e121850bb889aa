"""State in Redis: one script a decision, on the server's clock. Redis, Redis Cluster, Sentinel; blocking and asyncio.

A script is known by its digest; a server that does not know it yet is given the text. Everything is kept under
`opero:{name}:v1:…`, and goes away when it is not used.
"""

from __future__ import annotations

import os
import re
from functools import partial
from hashlib import sha1
from itertools import chain
from pathlib import Path
from weakref import finalize

from opero.errors import ConfigurationError, StateError
from opero.policy import duration
from opero.stores import LEASE, Address, Admission, Permit, certificates
from opero.stores.addresses import Place
from opero.stores.closing import ByLoop, close, close_soon, close_with, is_over
from opero.stores.connecting import bound, bounded
from opero.stores.errands import Errands
from opero.stores.turns import Turns, here
from opero.waits import uniform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self

    from opero.circuit import Rules
    from opero.policy import Duration
    from opero.runtime import Runtime

TIMEOUT = 0.25  # seconds for a connection, and for an answer; for both where tasks ask
LONGEST = 1e12  # milliseconds, 30 years: for so long the server keeps a state that nobody asks for
CONNECTIONS = 16  # of an event loop: so many of its tasks ask at once
THREADS = 10_000  # that may ask at once, each on a connection of its own
SILENCE = 1.0  # seconds after which who does not ask again has left the queue of a bulkhead
NEVER = 1e15  # microseconds
LUA = Path(__file__).with_name("lua")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
FOREIGN = re.compile(r"WRONGTYPE|user_script:\d+: (attempt to|bad argument)|not an integer|not a valid float")


class Script:
    """A script, as text and by its digest."""

    def __init__(self, name: str) -> None:
        self.text = (LUA / f"{name}.lua").read_text(encoding="utf-8")
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """One server, cluster or Sentinel group. Clients are made when first used: one for threads, one for each loop.

    `timeout` (seconds) bounds a connection, and an answer; who takes longer is away. Events call it `name`.
    """

    def __init__(self, url: str, *, timeout: Duration = TIMEOUT, name: str = "redis") -> None:
        url = Address(url)
        try:
            import redis.exceptions
        except ModuleNotFoundError:
            raise ConfigurationError(
                "store", url, "a URL once redis is installed: pip install 'opero[redis]'"
            ) from None
        self._missing, self._failed = redis.exceptions.NoScriptError, redis.exceptions.ResponseError
        self._elsewhere = redis.exceptions.AskError  # MovedError is one, too
        self._url = url
        self._place = Place(url)
        certificates.check(self._place.options)
        self._timeout = duration("timeout", timeout, above=0)
        self.name = _name(name)
        self._errands = Errands()
        self._blocking: list[Any] = []  # the client, once there is one
        self._by_loop = ByLoop()  # the client of each, and its turns
        finalize(self, _let_go, self._blocking, self._by_loop).atexit = False
        self._bound = self._timeout * (2 if self._place.kind == "cluster" else 1)  # of a task: to find its node, too
        self._scripts: dict[str, Script] = {}
        self._lost = "opero:{}"  # what was asked about when it failed, without its kind

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (str(self._url), self._timeout, self.name)

    def __repr__(self) -> str:
        called = "" if self.name == "redis" else f", name={self.name!r}"
        return f"RedisStore({self._url!r}, timeout={self._timeout:g}{called})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def close(self) -> None:
        """Close the connections of threads. A later question opens new ones; those of a loop are for `aclose`."""
        _close(self._blocking)

    async def aclose(self) -> None:
        """Close those of the running loop, too."""
        loop = here()
        known = self._by_loop.pop(loop, None)
        if known is not None:
            await close(loop, *_closers(known[0]))
        self.close()

    def ping(self) -> None:
        """Let a script write something: that is what is needed, and what a replica or a narrow account refuses.

        It writes beside what failed: of a cluster's nodes it is that one that counts.
        """
        self._evaluate(self._script("ping"), [f"{self._lost}:ping"], [])

    async def reserve(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float, patience: float
    ) -> tuple[float, Any]:
        wait, booking, _ = await self.lease(runtime, key, rates, weight, patience, 0)
        return wait, booking

    async def lease(  # noqa: PLR0917 - as the protocol has it
        self,
        runtime: Runtime,
        key: str,
        rates: Sequence[tuple[float, float]],
        weight: float,
        patience: float,
        more: int,
    ) -> tuple[float, Any, int]:
        given = [part for interval, burst in rates for part in (interval * 1e6, burst)]
        told = ["", min(patience * 1e6, NEVER), weight, more, *given]
        went, wait, *rest = await self._run(runtime, "reserve", [key], told)
        return (int(wait) / 1e6, rest[1:], rest[0]) if went else (int(wait) / 1e6, None, 0)

    async def give_back(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float, booking: Any
    ) -> None:
        given = [part for (interval, _), due in zip(rates, booking, strict=True) for part in (interval * 1e6, due)]
        await self._run(runtime, "give_back", [key], [weight, *given])

    async def peek(
        self, runtime: Runtime, key: str, rates: Sequence[tuple[float, float]], weight: float
    ) -> tuple[int, float]:
        given = [part for interval, burst in rates for part in (interval * 1e6, burst)]
        count, wait = await self._run(runtime, "peek", [key], ["", weight, *given])
        return int(count), int(wait) / 1e6

    async def reset(self, runtime: Runtime, key: str) -> None:
        await self._run(runtime, "reset", [key], [])

    async def pay(  # noqa: PLR0917 - as the protocol has it
        self, runtime: Runtime, key: str, law: tuple[float, float, float], income: int, back: float, cost: float
    ) -> tuple[bool, float]:
        went, share = await self._run(runtime, "pay", [key], ["", *law, income, back, cost])
        return bool(went), float(share)

    async def admit(self, runtime: Runtime, key: str, rules: Rules) -> Admission:
        keys = [key, f"{key}:asked:{os.urandom(8).hex()}"]
        given = ["", rules.half_open_probes, rules.lost_after * 1e6, _rules(rules)[-1]]
        try:
            passes, generation, probe, left, state, changed = await self._run(runtime, "admit", keys, given)
        except Exception:
            raise
        except BaseException:  # cancelled: it may have been given a probe, and nobody waits here to hear of it
            self._errands.add(lambda: self._evaluate(self._script("withdraw"), keys, []))
            raise
        permit = Permit(generation, probe=bool(probe)) if passes else None
        wait = int(left) / 1e6
        return Admission(permit, _text(state), changed=bool(changed), retry_after=wait if wait >= 0 else None)

    async def settle(  # noqa: PLR0917 - as the protocol has it
        self, runtime: Runtime, key: str, rules: Rules, permit: Permit, outcome: str, slow: bool
    ) -> tuple[str, dict[str, Any]]:
        told = ["", permit.generation, int(permit.probe), outcome, int(slow), uniform(0, 1)]
        state, failures, slows, calls, pause = await self._run(
            runtime, "settle", [key, f"{key}:ring"], [*told, *_rules(rules)]
        )
        if not state:
            return "", {}
        fields = {
            "failure_ratio": float(failures),
            "slow_ratio": float(slows),
            "calls": calls,
            "pause": int(pause) / 1e6,
        }
        return _text(state), fields if _text(state) == "open" else {}

    async def hold(self, runtime: Runtime, key: str, rules: Rules, mode: str) -> str:
        return _text(await self._run(runtime, "hold", [key, f"{key}:ring"], [mode, _rules(rules)[-1]]))

    async def take(self, runtime: Runtime, key: str, token: str, limit: int, room: int) -> tuple[str, int, int]:
        given = ["", token, limit, room, LEASE * 1e6, SILENCE * 1e6]
        verdict, used, length = await self._run(runtime, "take", [*_slots(key), f"{key}:left:{token}"], given)
        return ("full", "taken", "queued")[verdict], used, length

    async def leave(self, runtime: Runtime, key: str, token: str) -> None:
        await self._run(runtime, "leave", [*_slots(key), f"{key}:left:{token}"], [token])

    def renew(self, key: str, tokens: Sequence[str]) -> None:
        self._evaluate(self._script("renew"), [key], [LEASE * 1e6, *tokens])

    async def _run(self, runtime: Runtime, name: str, keys: list[str], args: list[Any]) -> Any:
        script = self._script(name)
        try:
            return await runtime.either(
                lambda: self._evaluate(script, keys, args),
                lambda: self._evaluate_async(runtime.home(), script, keys, args),
            )
        except Exception as error:
            if _is_outage(self._failed, error):
                self._lost = keys[0].rpartition(":")[0]
                if isinstance(error, self._elsewhere) and not self._place.kind:
                    error.add_note("the server is a node of a cluster, whose address begins with redis+cluster://")
                raise
            why = "what lies under its key was not written by Opero; delete the key, or give another name"
            raise StateError(keys[0].rpartition(":")[2], why) from None

    def _evaluate(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        client = self._client()
        try:
            return client.evalsha(script.digest, len(keys), *keys, *args)
        except self._missing:
            return client.eval(script.text, len(keys), *keys, *args)

    async def _evaluate_async(self, loop: object, script: Script, keys: list[str], args: list[Any]) -> Any:
        known = self._by_loop.get(loop)
        if known is None:
            known = await self._client_of(loop)
        client, turns = known
        try:
            return await turns.take(loop, lambda: self._ask(client, script, keys, args))
        finally:
            if turns.idle and (self._by_loop.get(loop) is not known or is_over(loop)):
                await close(loop, *_closers(client))  # it was closed meanwhile

    async def _ask(self, client: Any, script: Script, keys: list[str], args: list[Any]) -> Any:
        where: dict[str, Any] = {}
        if hasattr(client, "get_node_from_key"):  # redis-py sends scripts to any node, and closes all after five MOVED
            await client.initialize()
            node = where["target_nodes"] = client.get_node_from_key(keys[0])
            await _drop_closed(node)
        try:
            return await client.execute_command("EVALSHA", script.digest, len(keys), *keys, *args, **where)
        except self._missing:
            return await client.execute_command("EVAL", script.text, len(keys), *keys, *args, **where)

    def _client(self) -> Any:
        made = self._blocking[:1]
        if not made:
            import redis
            import redis.retry

            made = self._blocking[:] = [self._connect(redis, redis.retry.Retry)]
        return made[0]

    async def _client_of(self, loop: object) -> Any:
        import redis.asyncio
        import redis.asyncio.retry

        client = self._connect(redis.asyncio, redis.asyncio.retry.Retry)
        known = self._by_loop[loop] = client, Turns(CONNECTIONS, self._bound, partial(_is_outage, self._failed))
        await close_with(loop, *_closers(client))
        return known

    def _connect(self, module: Any, retry: Any) -> Any:
        from redis.backoff import NoBackoff

        place, blocking = self._place, module.__name__ == "redis"
        own_bound = not blocking and place.kind != "cluster"  # a cluster's nodes are tried in turn
        seconds = None if own_bound else self._timeout
        options: dict[str, Any] = {
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "retry": retry(NoBackoff(), 0),  # never ask twice: what was not answered may have been done
            "protocol": 2,  # the older one needs no greeting, and no server older than ours
        }
        if place.kind == "cluster":
            own = {"connection_pool_class": bounded(module.ConnectionPool)} if blocking else {}
            return module.RedisCluster.from_url(place.url, **options, **own)
        if place.kind == "sentinel":
            return _behind_sentinels(module, place, self._timeout, options)
        if blocking:
            pool = bounded(module.ConnectionPool).from_url(place.url, max_connections=THREADS, **options)
            return module.Redis.from_pool(pool)
        return module.Redis.from_pool(module.ConnectionPool.from_url(place.url, **options))

    def _script(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = Script(name)
        return self._scripts[name]


def _is_outage(refused: type[Exception], error: Exception) -> bool:
    return not isinstance(error, refused) or FOREIGN.search(str(error)) is None


def _let_go(blocking: list[Any], by_loop: ByLoop) -> None:
    """Close what a store had that nobody has any more; each loop closes its own."""
    for loop, (client, _) in list(by_loop.items()):
        close_soon(loop, *_closers(client))
    _close(blocking)


def _close(blocking: list[Any]) -> None:
    clients, blocking[:] = blocking[:], []
    for each in chain.from_iterable(map(_clients, clients)):
        each.close()


async def _drop_closed(node: Any) -> None:
    """Drop the connections that a node of a cluster has closed: redis-py looks for them everywhere but here."""
    idle: Any = getattr(node, "_free", ())
    for connection in tuple(idle):
        reader = connection._reader  # noqa: SLF001 - nothing public tells
        if reader is not None and reader.at_eof():
            await connection.disconnect(nowait=True)


def _clients(client: Any) -> list[Any]:
    """Return a client, and those of the Sentinels that tell it where the primary is: it does not close them."""
    group = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return [client] if group is None else [client, *group.sentinels]


def _closers(client: Any) -> list[Any]:
    return [each.aclose for each in _clients(client)]


def _name(name: object) -> str:
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise ConfigurationError("name", name, "1 to 64 letters, digits, '.', '_' or '-'")
    return name


def _behind_sentinels(module: Any, place: Place, timeout: float, options: dict[str, Any]) -> Any:
    if place.tls:
        options["ssl"] = True
    own = {**options, **place.sentinel_options}  # each leaves time for the others, and for the primary
    own |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), timeout / (len(place.hosts) + 1))
    group = module.sentinel.Sentinel(place.hosts, sentinel_kwargs=own)
    if module.__name__ == "redis":
        for sentinel in group.sentinels:
            bound(sentinel.connection_pool)
        options["connection_pool_class"] = bounded(module.sentinel.SentinelConnectionPool)
    return group.master_for(place.service, **options, **place.options)


def _unpickled(url: str, timeout: float, name: str = "redis") -> RedisStore:
    return RedisStore(url, timeout=timeout, name=name)


def _rules(rules: Rules) -> list[Any]:
    slow = rules.slow_ratio if rules.slow_call is not None else 0
    ttl = min(LONGEST, (rules.window + rules.max_reset_after) * 2000 + 60_000)
    return [
        rules.failure_ratio, rules.min_calls, rules.window * 1e6, rules.calls or 0, rules.consecutive or 0, slow,
        rules.reset_after * 1e6, rules.max_reset_after * 1e6, rules.jitter, rules.half_open_probes, int(ttl),
    ]  # fmt: skip


def _slots(key: str) -> list[str]:
    return [key, f"{key}:queue", f"{key}:asked"]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
