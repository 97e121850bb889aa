"""The Redis store: one server or a cluster, for plain callers and for tasks, in one source.

1. Names are `opero:NAMESPACE:v1:DIGEST`, leases and marks stand beside them; a name and its lease are in one slot.
   Nothing is listed but by SCAN, and nothing flushed.
2. What has to be atomic is a script: look or take the lease, store while the lease holds.
3. Every wait is bounded by `patience` seconds, that for a name server too. A cancelled command closes its connection.
4. Ages are told on the server's clock.
5. What is of another type under one of our names is foreign: it goes, and who met it is told by `Refused`.
"""

from __future__ import annotations

from contextlib import suppress
from weakref import finalize

from opero import clock, forks
from opero.errors import ConfigurationError
from opero.runtime import run
from opero.stores import certificates
from opero.stores.cache.batch import LARGEST, Batch
from opero.stores.cache.named import end_of, key_of, lease_of, quoted
from opero.stores.cache.quick import UNASKED, Quick, unasked
from opero.stores.cache.scripts import CLAIM, EXTEND, HEAL, LOCK, MARK, RELEASE, WRITE
from opero.stores.cache.store import SAID
from opero.stores.cache.trouble import Refused, Unavailable
from opero.stores.closing import ByLoop, close, close_soon, close_with, is_over
from opero.stores.connecting import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from opero.runtime import Runtime, Waiter

QUEUED = 4  # trips a task may wait for: the one under way, its own, and connecting for either
SYNCED = 60.0  # seconds until the server's clock is asked again
MARKED = 7 * 24 * 3600  # seconds a mark lives; a lost one ends its entries
LONGEST = 366 * 24 * 3600  # seconds; what never expires


class RedisStore:
    """Entries in Redis at `url` (`redis://`, `rediss://`, `unix://`); a server in cluster mode is found to be one."""

    name = "redis"

    def __init__(self, url: str, *, patience: float) -> None:
        try:
            from redis import exceptions
            from redis.connection import parse_url
        except ImportError as error:
            allowed = "the redis library: pip install 'opero[redis]'"
            raise ConfigurationError("cache_backend", "redis", allowed) from error
        self.url, self.patience = url, patience
        self._errors: Any = exceptions
        try:
            options = parse_url(url)  # type: ignore[no-untyped-call]
        except ValueError:
            raise ConfigurationError("url", "…", "redis://, rediss:// or unix:// with host and port") from None
        certificates.check(options)
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Connect anew in a child."""
        self._inherited = [getattr(self, name, None) for name in ("_clients", "_loops", "_quick")]
        self._clients: dict[str, Any] = {}
        self._loops = ByLoop()  # the client of each, and its batch
        finalize(self, _close, self._clients, self._loops)  # before sockets are collected: those would complain
        self._connecting: dict[Any, list[Waiter]] = {}
        self._cluster: bool | None = None
        self._quick = Quick(self._connection, self.patience)
        self._offset, self._synced = 0.0, -SYNCED
        self.publishes = False  # set where a near-cache is kept right by a channel

    @property
    def is_cluster(self) -> bool:
        """Whether the server was found to be part of a cluster."""
        return bool(self._cluster)

    async def now(self, runtime: Runtime) -> float:
        if clock.now() - self._synced > SYNCED:
            started = clock.now()
            seconds, micros = (await self._run(runtime, ("TIME",)))[0]
            self._synced = clock.now()
            self._offset = int(seconds) + int(micros) / 1e6 - (started + self._synced) / 2
        return clock.now() + self._offset

    async def read(self, runtime: Runtime, names: Sequence[str]) -> list[bytes | None]:
        return await self._run_all(runtime, _gets(names))

    def glance(self, runtime: Runtime, question: bytes, count: int) -> Any:
        """Return, or for tasks let await, what so many commands ask for; `UNASKED` where that takes the long way."""
        asks = self._cluster is False and clock.now() - self._synced <= SYNCED
        if runtime.suspends:
            return self._quick.ask_together(runtime, question, count) if asks else unasked()
        return self._quick.ask(runtime, question, count) if asks else UNASKED

    def told(self) -> float:
        """Return the time on the server's clock, as it was last told."""
        return clock.now() + self._offset

    def failure(self, error: Exception) -> Unavailable:
        """Return what an error means."""
        return Unavailable(self._reason(error))

    async def claim(
        self, runtime: Runtime, name: str, token: bytes, seconds: float, marks: Sequence[str]
    ) -> tuple[bytes | None, bytes | None, list[bytes | None]]:
        data, *texts = await self._run(runtime, *_gets([name, *marks]))
        if data is not None:
            return data, None, texts
        return (*(await self.claim_unseen(runtime, name, token, seconds, ()))[:2], texts)

    async def claim_unseen(
        self, runtime: Runtime, name: str, token: bytes, seconds: float, marks: Sequence[str]
    ) -> tuple[bytes | None, bytes | None, list[bytes | None]]:
        """Do the same for an entry without marks that was not there a moment ago."""
        claim = ("EVAL", CLAIM, 2, key_of(name), lease_of(name), token, _ms(seconds))  # dearer than a GET by a third
        ((data, holder),) = await self._run(runtime, claim)
        return data, holder, []

    async def lock(self, runtime: Runtime, name: str, token: bytes, seconds: float, force: bool) -> bytes | None:
        lock = ("EVAL", LOCK, 1, lease_of(name), token, _ms(seconds), int(force))
        return (await self._run(runtime, lock))[0]  # type: ignore[no-any-return]

    async def write(
        self, runtime: Runtime, names: Sequence[str], data: bytes, seconds: float, token: bytes | None
    ) -> int:
        name, *older = names
        forget = [("DEL", key_of(each)) for each in older]
        await self._run(runtime, _write(name, data, seconds, token or b""), *forget, *self._published(names))
        return 0

    async def write_all(self, runtime: Runtime, entries: Sequence[tuple[str, bytes, float]]) -> int:
        told = self._published([name for name, _, _ in entries])
        await self._run_all(runtime, [*(_write(*entry, b"") for entry in entries), *told])
        return 0

    async def extend(self, runtime: Runtime, name: str, token: bytes, seconds: float) -> bool:
        return bool((await self._run(runtime, ("EVAL", EXTEND, 1, lease_of(name), token, _ms(seconds))))[0])

    async def release(self, runtime: Runtime, name: str, token: bytes, barren: bool) -> None:
        keys = lease_of(name), end_of(name, token)
        await self._run(runtime, ("EVAL", RELEASE, 2, *keys, token, int(barren), _ms(SAID)))

    async def barren(self, runtime: Runtime, name: str, token: bytes) -> bool:
        return bool((await self._run(runtime, ("EXISTS", end_of(name, token))))[0])

    async def delete(self, runtime: Runtime, names: Sequence[str]) -> int:
        commands = [("DEL", key) for name in names for key in (key_of(name), lease_of(name))]
        answers = await self._run_all(runtime, [*commands, *self._published(names)])
        return sum(answers[: len(commands) : 2])

    async def marks(self, runtime: Runtime, marks: Sequence[str]) -> list[bytes | None]:
        return await self._run_all(runtime, _gets(marks))

    async def mark(self, runtime: Runtime, texts: Sequence[tuple[str, bytes]]) -> list[bytes]:
        commands = [("EVAL", MARK, 1, key_of(mark), text, MARKED * 1000) for mark, text in texts]
        return await self._run_all(runtime, commands)

    async def remark(self, runtime: Runtime, texts: Sequence[tuple[str, bytes]]) -> None:
        commands = [("SET", key_of(mark), text, "PX", MARKED * 1000) for mark, text in texts]
        await self._run_all(runtime, [*commands, *self._published([mark for mark, _ in texts])])

    async def clear(self, runtime: Runtime, namespace: str) -> None:
        for kind in ("lease", "v1", "tag"):  # in this order: a load under way stores nothing behind the scan
            await self._unlink(runtime, f"opero:{quoted(namespace)}:{kind}:*")
        if self.publishes:
            await self._run(runtime, ("PUBLISH", f"opero:{quoted(namespace)}:written", b""))

    async def nodes(self, runtime: Runtime) -> dict[str, Any]:
        """Return, for every primary, what makes a connection to it; for plain callers."""
        client = await self._plain_client()
        if not self.is_cluster:
            pool = client.connection_pool
            return {"": lambda **more: pool.connection_class(**{**pool.connection_kwargs, **more})}
        client.nodes_manager.initialize()  # a primary may have died since
        found = {}
        for node in client.get_primaries():
            pool = client.get_redis_connection(node).connection_pool
            found[node.name] = lambda pool=pool, **more: pool.connection_class(**{**pool.connection_kwargs, **more})
        return found

    # ---- talking

    def _connection(self, runtime: Runtime) -> Any:
        """Return a connection to be opened, of this loop or of plain callers; None before there is a client."""
        client = self._loops.get(runtime.scope(), (None,))[0] if runtime.suspends else self._clients.get("plain")
        if client is None:
            return None
        pool = client.connection_pool
        return pool.connection_class(**pool.connection_kwargs)

    def _published(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return what tells near-caches that have no tracking."""
        if not self.publishes or not names:
            return []
        prefix = key_of(names[0]).rsplit(":", 2)[0]
        return [("PUBLISH", f"{prefix}:written", " ".join(map(key_of, names)))]

    async def _run(self, runtime: Runtime, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands in one trip and return their answers."""

        async def together() -> Any:
            client, batch = await self._of_loop(runtime)
            try:
                return await batch.run(runtime, commands)
            finally:
                if is_over(loop := runtime.scope()):
                    await close(loop, client.aclose)

        try:
            return await runtime.either(lambda: run(self._send_plainly(commands)), together)  # type: ignore[no-any-return]
        except self._errors.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise Unavailable(self._reason(error), answered=True) from error
        except (self._errors.RedisError, OSError) as error:
            raise Unavailable(self._reason(error)) from error

        keys = {key for command in commands for key in _keys(command)}
        await self._run_all(runtime, [("EVAL", HEAL, 1, key) for key in keys])
        raise Refused("foreign")

    async def _run_all(self, runtime: Runtime, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Do the same for any number of commands, some hundreds a trip."""
        trips = [commands[start : start + LARGEST] for start in range(0, len(commands), LARGEST)]
        return [answer for trip in trips for answer in await self._run(runtime, *trip)]

    async def _unlink(self, runtime: Runtime, pattern: str) -> None:
        def scan(client: Any) -> Any:
            return client.scan_iter(match=pattern, count=1000)

        async def in_loop() -> list[Any]:
            client, _ = await self._of_loop(runtime)
            return [name async for name in scan(client)]

        try:
            names = await runtime.either(lambda: list(scan(run(self._plain_client()))), in_loop)
        except (self._errors.RedisError, OSError) as error:
            raise Unavailable(self._reason(error)) from error
        await self._run_all(runtime, [("UNLINK", name) for name in names])

    async def _plain_client(self) -> Any:
        """Return the client of all plain callers; made when first asked for."""
        if "plain" not in self._clients:
            import redis

            self._clients["plain"] = await self._connect(redis)
        return self._clients["plain"]

    async def _send_plainly(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        return await _send(await self._plain_client(), commands)

    async def _of_loop(self, runtime: Runtime) -> tuple[Any, Batch]:
        """Return the client of this loop, and its batch; made when first asked for."""
        loop = runtime.scope()
        while loop not in self._loops:
            if loop in self._connecting:  # another task is at it
                self._connecting[loop].append(waiter := runtime.waiter())
                await runtime.park(waiter, clock.now() + self.patience)
                continue
            await self._begin(loop)
        return self._loops[loop]  # type: ignore[no-any-return]

    async def _begin(self, loop: Any) -> None:
        from redis import asyncio

        self._connecting[loop] = []
        try:
            client = await self._connect(asyncio)
            batch = Batch(lambda commands: _send(client, commands, raises=False), QUEUED * self.patience)
            self._loops[loop] = client, batch
            await close_with(loop, client.aclose)
        finally:
            for waiter in self._connecting.pop(loop):
                waiter.wake()

    async def _connect(self, library: Any) -> Any:
        plain = library.__name__ == "redis"
        pools = bounded(library.ConnectionPool) if plain else library.ConnectionPool
        client = library.Redis.from_pool(pools.from_url(self.url, **self._settings()))
        try:
            if self._cluster is None:
                said = await _answer(client.info("cluster"))
                self._cluster = bool(said.get("cluster_enabled"))
        except BaseException:
            await _end(client)
            raise
        if not self._cluster:
            return client
        await _end(client)
        own = {"connection_pool_class": pools} if plain else {}
        cluster = library.RedisCluster.from_url(self.url, **self._settings(), **own)
        if hasattr(cluster, "initialize"):
            await cluster.initialize()
        return cluster

    def _settings(self) -> dict[str, Any]:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return {
            "socket_timeout": self.patience,
            "socket_connect_timeout": self.patience,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "max_connections": 10_000,  # a thread has one while it asks
        }

    def _reason(self, error: Exception) -> str:
        if isinstance(error, self._errors.TimeoutError | TimeoutError):
            return "timeout"
        if isinstance(error, self._errors.ConnectionError | OSError):
            return "connection"
        return type(error).__name__


def _keys(command: tuple[Any, ...]) -> tuple[str, ...]:
    return command[3 : 3 + command[2]] if command[0] == "EVAL" else command[1:2]


def _write(name: str, data: bytes, seconds: float, token: bytes) -> tuple[Any, ...]:
    return ("EVAL", WRITE, 2, key_of(name), lease_of(name), data, _ms(seconds), token)


def _gets(names: Sequence[str]) -> list[tuple[Any, ...]]:
    return [("GET", key_of(name)) for name in names]


def _ms(seconds: float) -> int:
    return max(1, int(min(seconds, LONGEST) * 1000))


async def _send(client: Any, commands: Sequence[tuple[Any, ...]], *, raises: bool = True) -> list[Any]:
    if len(commands) == 1:
        return [await _answer(client.execute_command(*commands[0]))]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)  # only queues
    return list(await _answer(pipeline.execute(raise_on_error=raises)))


async def _answer(given: Any) -> Any:
    return await given if hasattr(given, "__await__") else given


async def _end(client: Any) -> None:
    await _answer(client.aclose() if hasattr(client, "aclose") else client.close())


def _close(clients: dict[str, Any], loops: ByLoop) -> None:
    for loop, (client, _) in list(loops.items()):
        close_soon(loop, client.aclose)
    for client in clients.values():
        with suppress(Exception):
            client.close()
