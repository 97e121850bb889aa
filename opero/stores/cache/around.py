"""The layer around one function: answer from the cache, or load once for all who ask."""

from __future__ import annotations

from opero.call import Call
from opero.errors import ConfigurationError, OwnResultError
from opero.stores.cache.entry import Entry, freeze, judge
from opero.stores.cache.flights import Flight, current
from opero.stores.cache.keys import Keys, Unbindable
from opero.stores.cache.look import Looked
from opero.stores.cache.places import PLACE
from opero.stores.cache.said import BACKEND_FAILED, KEY_FAILED, LOADED, REFRESH_FAILED, REQUESTS, STALE_SERVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from opero.call import Next
    from opero.primitives.cache import Cache
    from opero.runtime import Waiter
    from opero.stores.cache.flights import Flights
    from opero.stores.cache.keys import Key
    from opero.stores.cache.shelf import Found


class Around:
    """The layer around one function."""

    def __init__(self, policy: Cache, function: Callable[..., Any]) -> None:
        self.policy = policy
        self.state = policy.state
        self.keys = Keys(function, policy.key, policy.version, policy.tags)
        self.place = policy.state.place(function, self.keys)

    async def layer(self, call: Call, next: Next) -> Any:  # noqa: A002
        """Answer from the cache, or load once for all who ask."""
        mode = self.state.mode()
        if mode == "bypass":
            call.operation.book.add(REQUESTS, ("bypass",))
            return await next(call)
        try:
            key = self.keys.of(call.args, call.kwargs)
        except Unbindable:
            return await next(call)  # the function says best what it wants
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - never worse than undecorated; the event tells
            self._count(call, "error")
            call.emit(KEY_FAILED, part="key", error=type(error).__name__)
            return await next(call)
        if mode is None:
            now = call.runtime.now()
            entry = self.place.glance(key, now)
            verdict = None if entry is None else judge(entry, now, self.policy.early)
            if entry is not None and verdict is not None:
                if verdict == "stale":
                    self._refresh(call, next, key, "early" if now < entry.soft else "soft_ttl")
                self._count(call, verdict)
                call.record.cached = True
                return entry.read()
            if self.place.look is not None:
                looked = call.record.held.get(PLACE) or await self.place.look.at(call.runtime, key)
                if type(looked) is not Looked:
                    self._count(call, "hit")
                    call.record.cached = True
                    return looked
                call.record.held[PLACE] = looked
        return await self._share(call, next, key, anew=mode == "refresh")

    # ---- single-flight

    async def _share(self, call: Call, next: Next, key: Key, *, anew: bool) -> Any:  # noqa: A002
        """Load, or wait for who does."""
        flights = self.state.flights
        joined = flights.join(key, call.runtime.scope(), call.runtime.waiter)
        if joined is None:
            allowed = "no function that needs its own result to compute it; call it with other arguments"
            raise OwnResultError("cache", call.operation.name, allowed)
        flight, parked = joined
        led = parked is None
        try:
            if parked is None:
                parked = await self._lead(call, next, flight, anew=anew)
            while not flight.done:
                await self._wait(call, flight, parked)
                if parked in flight.stops:
                    raise flight.stops.pop(parked)
                if flights.inherits(flight, parked):
                    led = True
                    parked = await self._lead(call, next, flight, anew=anew)
        finally:
            flights.part(flight)
        self._take_over(call, flight)
        self._count(call, flight.result if led else "coalesced")
        if led and flight.stale:
            self._refresh(call, next, key, "soft_ttl")
        value, error, trace = flights.take(flight)
        if error is None:
            return value
        try:
            raise error.with_traceback(trace)
        finally:
            del error, trace  # the traceback holds this frame

    async def _lead(self, call: Call, next: Next, flight: Flight, *, anew: bool) -> Waiter:  # noqa: A002
        """Load in this thread, or in a task of its own: then its caller waits like all others, and may be cancelled."""
        load = Call(call.operation, call.runtime, call.args, call.kwargs, deadline=call.deadline)
        load.record.id = call.record.id
        if PLACE in call.record.held:
            load.record.held[PLACE] = call.record.held.pop(PLACE)
        if not call.operation.is_async:
            await self._fly(load, next, flight, anew=anew)
            return call.runtime.waiter()
        captain = call.runtime.waiter()
        task = call.runtime.fork(self._fly(load, next, flight, anew=anew), _done)
        self.state.flights.launch(flight, task, captain)
        return captain

    async def _wait(self, call: Call, flight: Flight, parked: Waiter) -> None:
        until = None if call.deadline is None else call.deadline.at
        try:
            if await call.runtime.park(parked, until) or flight.done:
                return
        except BaseException:
            self.state.flights.leave(flight, parked)
            raise
        self.state.flights.leave(flight, parked)
        assert call.deadline is not None  # noqa: S101 - for the type checkers; else nothing ends the wait
        raise call.deadline.expire(call.operation)

    async def _fly(
        self,
        load: Call,
        next: Next,  # noqa: A002
        flight: Flight,
        *,
        anew: bool,
        flights: Flights | None = None,
    ) -> None:
        """Load for a flight, and land it whatever happens."""
        flights, token = flights or self.state.flights, current.set(flight)
        flight.record = load.record
        try:
            value = await self._load(load, next, flight, anew=anew)
        except Exception as error:  # noqa: BLE001 - everyone who waits gets it
            flights.land(flight, None, error, leads=not load.operation.is_async)
            if flight.background:
                load.record.errors, load.record.judged = None, None
                load.emit(REFRESH_FAILED, error=type(error).__name__)
        except BaseException as stop:
            if not flights.hand_over(flight, stop):
                raise
        else:
            flights.land(flight, value, None, leads=not load.operation.is_async)
        finally:
            current.reset(token)

    def _refresh(self, call: Call, next: Next, key: Key, reason: str) -> None:  # noqa: A002
        """Begin to load anew behind the caller's back, unless somebody does."""
        call.emit(STALE_SERVED, reason=reason)
        state, behind = self.state, self.place.behind
        flight = state.begin_refresh(behind, key, call.runtime.scope())
        if flight is None:
            return
        load = Call(call.operation, call.runtime, call.args, call.kwargs)

        async def work() -> None:
            try:
                await self._fly(load, next, flight, anew=True, flights=behind)
            finally:
                state.end_refresh()

        layers = work()
        try:
            behind.launch(flight, call.runtime.fork(layers, _done))
        except RuntimeError as error:  # no more threads, or the interpreter ends
            layers.close()
            state.end_refresh()
            behind.land(flight, None, None, leads=False)
            call.emit(REFRESH_FAILED, error=type(error).__name__)

    def _take_over(self, call: Call, flight: Flight) -> None:
        """Take the attempts of the load for this call's own; only one call does."""
        load, mine = self.state.flights.adopt(flight), call.record
        made = load is not None and bool(load.attempts)
        if load is not None:
            mine.attempts += load.attempts
            mine.forgotten += load.forgotten
            if mine.errors is not None:
                mine.errors.update(load.errors or {})
            load.errors, load.judged = None, None  # frames of the traceback hold the record; keep no error in a circle
            mine.fell_back = load.fell_back
        mine.cached = not made or flight.result == "stale"

    def _count(self, call: Call, result: str) -> None:
        call.operation.book.add(REQUESTS, (result,))

    # ---- one load

    async def _load(self, load: Call, next: Next, flight: Flight, *, anew: bool) -> Any:  # noqa: A002
        try:
            tags = self.keys.tags(load.args, load.kwargs)
        except Exception as error:  # noqa: BLE001 - never worse than undecorated, nor an entry that no tag ends
            flight.result = "error"
            load.emit(KEY_FAILED, part="tags", error=type(error).__name__)
            return await next(load)
        found = await self.place.find(load, flight, tags, anew=anew)
        found.tags = tags
        entry = found.entry
        verdict = None if entry is None else judge(entry, load.runtime.now(), self.policy.early)
        if entry is not None and verdict is not None:
            flight.result, flight.stale = verdict, verdict == "stale"
            return entry.read()
        if found.busy:
            return None  # behind a caller's back, and another process is at it
        if found.failed or found.refused:
            flight.result = "error"
        started = load.runtime.now()
        try:
            value = await next(load)
        except Exception as error:
            old = await self._failed(load, flight, found, error, load.runtime.now() - started)
            if old is None:
                raise
            return old.value
        except BaseException:
            await self.place.release(load, found, stopped=True)
            raise
        took = load.runtime.now() - started
        load.operation.book.observe(LOADED, (), took)
        self.state.loaded(took)
        await self._keep(load, flight, found, value, took)
        return value

    async def _failed(self, load: Call, flight: Flight, found: Found, error: Exception, took: float) -> Entry | None:
        """Return an expired entry to answer a failure with; keep the failure where that was asked for."""
        misuse = isinstance(error, ConfigurationError)
        old = found.old if self.policy.stale_if_error and not misuse else None
        if old is not None and not old.failed and load.runtime.now() < old.gone:
            flight.result = "stale"
            load.emit(STALE_SERVED, reason="error")
            await self.place.release(load, found)
            return old
        if isinstance(error, self.policy.errors) and not misuse:
            await self._keep(load, flight, found, error, took, failed=True)
        else:
            await self.place.release(load, found)
        return None

    async def _keep(
        self, load: Call, flight: Flight, found: Found, value: Any, took: float, *, failed: bool = False
    ) -> None:
        """Store a result, if it is to be; what goes wrong with that is not the caller's concern."""
        try:
            entry = None if load.record.fell_back else self._made(load, value, took, failed=failed)
            if entry is not None:
                entry.born, entry.tags = found.born, found.tags
                await self.place.keep(load, flight, found, entry, load.runtime.now())
                return
        except Exception as error:  # noqa: BLE001 - never worse than undecorated; the event tells
            load.emit(BACKEND_FAILED, backend=self.state.backend, reason=type(error).__name__)
        await self.place.release(load, found)

    def _made(self, load: Call, value: Any, took: float, *, failed: bool) -> Entry | None:
        """Return what is to be kept of a load; nothing where the user's functions raise, which is told as theirs."""
        if not failed and self.policy.cache_if is not None and not load.says("cache_if", self.policy.cache_if, value):
            return None
        try:
            return self._entry(value, took, load.runtime.now(), failed=failed)
        except Exception as error:  # noqa: BLE001 - a lifetime that is none, an error that cannot be pickled
            load.hook_failed("errors" if failed else "cache_ttl", value, error)
            return None

    def _entry(self, value: Any, took: float, now: float, *, failed: bool = False) -> Entry | None:
        """Return an entry of a result; None if it is over at once. Whatever the user's functions raise passes."""
        lives = (self.policy.error_ttl,) * 3 if failed else self.policy.lifetimes(value)
        if lives[1] <= 0:
            return None
        soft, hard, gone = (now + seconds for seconds in lives)
        entry = Entry(freeze(value) if failed else value, soft=soft, hard=hard, gone=gone, load=took)
        entry.failed = failed
        return entry

    # ---- by hand

    async def peek(self, calls: Sequence[Call], keys: Sequence[Key], default: Any) -> list[Any]:
        """Return what calls would be answered with, errors excepted."""
        if not calls:
            return []
        runtime = calls[0].runtime
        asked = [(key, self.keys.tags(call.args, call.kwargs)) for call, key in zip(calls, keys, strict=True)]
        entries, now = await self.place.peek(runtime, asked), runtime.now()
        return [default if e is None or e.failed or now >= e.hard else e.value for e in entries]

    async def put(self, calls: Sequence[Call], keys: Sequence[Key], values: Sequence[Any]) -> None:
        """Store values as if the function had returned them."""
        if not calls:
            return
        now = calls[0].runtime.now()
        tags = [self.keys.tags(call.args, call.kwargs) for call in calls]
        wanted = self.policy.cache_if or (lambda _: True)
        made = [self._entry(value, 0.0, now) if wanted(value) else None for value in values]
        await self.place.forget(calls[0].runtime, keys)
        kept = []
        for key, entry, each in zip(keys, made, tags, strict=True):
            if entry is not None:
                entry.tags = each
                kept.append((key, entry))
        await self.place.put(calls[0], kept, now)


def _done() -> None:
    """Tell nobody: a flight tells those who wait for it."""
