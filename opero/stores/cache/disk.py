"""The disk store: one SQLite file a namespace, in write-ahead mode, for several processes.

1. The folder is the user's own (0700) and no link; so nobody else can plant a file or a link in it.
2. A write is one transaction: killed at any moment, the file holds the old entry or the new one.
3. A damaged file is put away and begun anew, unless another process did that already. A damaged entry is its envelope's
   concern.
4. Bytes are bounded; what was longest not read goes first, and what has expired before that.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from _thread import LockType, allocate_lock
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from weakref import finalize

from opero import clock, forks
from opero.errors import ConfigurationError
from opero.stores.cache.store import SAID
from opero.stores.cache.trouble import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from opero.runtime import Runtime

COARSE = 60.0  # seconds an entry's last use may be off: a hit then is a read alone
LAST = 1.0  # seconds the interpreter's exit waits for what is being done with a file
AGAIN = 0.001  # seconds between two attempts at a new file
VERSION = 1
TABLES = 4
SCHEMA = """
begin immediate;
create table if not exists entries (name text primary key, data blob, gone real, used real, size integer);
create index if not exists entries_used on entries (used);
create index if not exists entries_gone on entries (gone);
create table if not exists leases (name text primary key, token blob, until real, pid integer);
create table if not exists marks (name text primary key, text blob);
create table if not exists total (bytes integer, entries integer);
insert into total select 0, 0 where not exists (select 1 from total);
create trigger if not exists inserted after insert on entries
  begin update total set bytes = bytes + new.size, entries = entries + 1; end;
create trigger if not exists deleted after delete on entries
  begin update total set bytes = bytes - old.size, entries = entries - 1; end;
pragma user_version = 1;
commit;
"""


class Foreign(PermissionError):
    """A folder that is not the user's alone."""


class DiskStore:
    """Entries in `directory` (default: the user's cache folder); waits `patience` seconds for another process."""

    name = "disk"
    _open: list[sqlite3.Connection]
    _closes: finalize[..., DiskStore] | None = None

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        namespace: str,
        *,
        max_bytes: int | None,
        max_entries: int,
        patience: float,
    ) -> None:
        self._folder = _folder(directory)
        self.path = self._folder / f"{blake2b(namespace.encode(), digest_size=16).hexdigest()}.sqlite"
        self._max_bytes, self._max_entries, self._patience = max_bytes, max_entries, patience
        self.after_fork()
        forks.remember(self)

    def after_fork(self) -> None:
        """Open anew: SQLite's connections do not cross a fork, nor may they be closed there."""
        if self._closes is not None:
            self._closes.detach()
            self._inherited = self._open
        self._lock = allocate_lock()
        self._open = []  # the connection, if there is one
        self._closes = finalize(self, _close, self._lock, self._open)
        self._inode = 0

    async def now(self, runtime: Runtime) -> float:
        return clock.wall()

    async def read(self, runtime: Runtime, names: Sequence[str]) -> list[bytes | None]:
        return await runtime.offload(self._do, self._read_all, names)  # type: ignore[no-any-return]

    async def claim(
        self, runtime: Runtime, name: str, token: bytes, seconds: float, marks: Sequence[str]
    ) -> tuple[bytes | None, bytes | None, list[bytes | None]]:
        return await runtime.offload(self._do, self._claim, name, token, seconds, marks)  # type: ignore[no-any-return]

    async def lock(self, runtime: Runtime, name: str, token: bytes, seconds: float, force: bool) -> bytes | None:
        return await runtime.offload(self._do, self._take, name, token, seconds, force)  # type: ignore[no-any-return]

    async def write(
        self, runtime: Runtime, names: Sequence[str], data: bytes, seconds: float, token: bytes | None
    ) -> int:
        return await runtime.offload(self._do, self._write, names, data, seconds, token)  # type: ignore[no-any-return]

    async def write_all(self, runtime: Runtime, entries: Sequence[tuple[str, bytes, float]]) -> int:
        return await runtime.offload(self._do, self._write_all, entries)  # type: ignore[no-any-return]

    async def extend(self, runtime: Runtime, name: str, token: bytes, seconds: float) -> bool:
        return await runtime.offload(self._do, self._extend, name, token, seconds)  # type: ignore[no-any-return]

    async def release(self, runtime: Runtime, name: str, token: bytes, barren: bool) -> None:
        await runtime.offload(self._do, self._end, name, token, barren)

    async def barren(self, runtime: Runtime, name: str, token: bytes) -> bool:
        return await runtime.offload(self._do, self._barren, name, token)  # type: ignore[no-any-return]

    async def delete(self, runtime: Runtime, names: Sequence[str]) -> int:
        return await runtime.offload(self._do, self._delete, names)  # type: ignore[no-any-return]

    async def marks(self, runtime: Runtime, marks: Sequence[str]) -> list[bytes | None]:
        return await runtime.offload(self._do, self._marks, marks)  # type: ignore[no-any-return]

    async def mark(self, runtime: Runtime, texts: Sequence[tuple[str, bytes]]) -> list[bytes]:
        return await runtime.offload(self._do, self._mark, texts)  # type: ignore[no-any-return]

    async def remark(self, runtime: Runtime, texts: Sequence[tuple[str, bytes]]) -> None:
        await runtime.offload(self._do, self._remark, texts)

    async def clear(self, runtime: Runtime, namespace: str) -> None:
        await runtime.offload(self._do, self._clear)

    def size(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""
        count: tuple[int, int] = self._do(lambda db: db.execute("select entries, bytes from total").fetchone())
        return count

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._close_locked()

    # ---- inside the lock, one transaction each

    def _read(self, db: sqlite3.Connection, name: str) -> bytes | None:
        now = clock.wall()
        row = db.execute("select data, used from entries where name = ? and gone > ?", (name, now)).fetchone()
        if row is None:
            return None
        if now - row[1] > COARSE:
            db.execute("update entries set used = ? where name = ?", (now, name))
        return bytes(row[0])

    def _read_all(self, db: sqlite3.Connection, names: Sequence[str]) -> list[bytes | None]:
        return [self._read(db, name) for name in names]

    def _claim(self, db: sqlite3.Connection, name: str, token: bytes, seconds: float, marks: Sequence[str]) -> Any:
        data = self._read(db, name)
        holder = self._take(db, name, token, seconds, False) if data is None else None
        return data, holder, self._marks(db, marks)

    def _take(self, db: sqlite3.Connection, name: str, token: bytes, seconds: float, force: bool) -> bytes:
        now = clock.wall()
        row = db.execute("select token, pid from leases where name = ? and until > ?", (name, now)).fetchone()
        if row is not None and not force and _alive(row[1]):
            return bytes(row[0])
        lease = (name, token, now + seconds, os.getpid())
        db.execute("insert or replace into leases values (?, ?, ?, ?)", lease)
        return token

    def _write(
        self, db: sqlite3.Connection, names: Sequence[str], data: bytes, seconds: float, token: bytes | None
    ) -> int:
        name = names[0]
        if token is not None and not self._release(db, name, token):
            return 0
        if token is None:
            db.execute("delete from leases where name = ?", (name,))
        now = clock.wall()
        db.executemany("delete from entries where name = ?", [(each,) for each in names])
        if self._max_bytes is not None and len(data) > self._max_bytes:
            return 1
        gone = min(now + seconds, 1e12)
        db.execute("insert into entries values (?, ?, ?, ?, ?)", (name, data, gone, now, len(data)))
        return self._make_room(db, now)

    def _write_all(self, db: sqlite3.Connection, entries: Sequence[tuple[str, bytes, float]]) -> int:
        return sum(self._write(db, [name], data, seconds, None) for name, data, seconds in entries)

    def _extend(self, db: sqlite3.Connection, name: str, token: bytes, seconds: float) -> bool:
        place = (clock.wall() + seconds, name, token)
        return db.execute("update leases set until = ? where name = ? and token = ?", place).rowcount > 0

    def _end(self, db: sqlite3.Connection, name: str, token: bytes, barren: bool) -> None:
        now = clock.wall()
        if self._release(db, name, token) and barren:
            db.execute("delete from leases where until <= ?", (now,))
            db.execute("insert into leases values (?, '', ?, ?)", (_end_of(name, token), now + SAID, os.getpid()))

    def _barren(self, db: sqlite3.Connection, name: str, token: bytes) -> bool:
        found = "select 1 from leases where name = ? and until > ?"
        return db.execute(found, (_end_of(name, token), clock.wall())).fetchone() is not None

    def _release(self, db: sqlite3.Connection, name: str, token: bytes) -> bool:
        return db.execute("delete from leases where name = ? and token = ?", (name, token)).rowcount > 0

    def _delete(self, db: sqlite3.Connection, names: Sequence[str]) -> int:
        places = [(name,) for name in names]
        db.executemany("delete from leases where name = ?", places)
        return max(0, db.executemany("delete from entries where name = ?", places).rowcount)  # -1 for none at all

    def _marks(self, db: sqlite3.Connection, marks: Sequence[str]) -> list[bytes | None]:
        rows = [db.execute("select text from marks where name = ?", (mark,)).fetchone() for mark in marks]
        return [None if row is None else bytes(row[0]) for row in rows]

    def _mark(self, db: sqlite3.Connection, texts: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        db.executemany("insert or ignore into marks values (?, ?)", texts)
        return self._marks(db, [mark for mark, _ in texts])

    def _remark(self, db: sqlite3.Connection, texts: Sequence[tuple[str, bytes]]) -> None:
        db.executemany("insert or replace into marks values (?, ?)", texts)

    def _clear(self, db: sqlite3.Connection) -> None:
        for table in ("entries", "leases", "marks"):
            db.execute(f"delete from {table}")  # noqa: S608 - three names, here above

    def _make_room(self, db: sqlite3.Connection, now: float) -> int:
        gone = 0
        if self._is_full(db):
            gone = db.execute("delete from entries where gone <= ?", (now,)).rowcount
        while self._is_full(db):
            oldest = "select name from entries order by used limit 8"
            gone += db.execute(f"delete from entries where name in ({oldest})").rowcount  # noqa: S608 - the same
        return gone

    def _is_full(self, db: sqlite3.Connection) -> bool:
        size, count = db.execute("select bytes, entries from total").fetchone()
        return count > self._max_entries or (self._max_bytes is not None and size > self._max_bytes)

    # ---- the connection

    def _do(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run work as one transaction."""
        with self._lock:
            try:
                db = self._connected_locked()
                with _transaction(db):
                    return work(db, *args)
            except sqlite3.OperationalError as error:
                raise Unavailable(_reason(error)) from error
            except sqlite3.DatabaseError as error:
                self._put_away_locked()
                raise Unavailable("corrupt") from error
            except OSError as error:
                raise Unavailable(type(error).__name__) from error

    def _connected_locked(self) -> sqlite3.Connection:
        """Return the connection to the file in place: another process may have removed or begun it anew."""
        if self._open:
            try:
                if self.path.lstat().st_ino == self._inode:
                    return self._open[0]
            except FileNotFoundError:
                pass
            self._close_locked()  # SQLite leaves alone what has taken the place of its file
        return self._open_locked()

    def _open_locked(self) -> sqlite3.Connection:
        _private(self._folder)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise PermissionError(self.path)
            os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
        self._inode = found.st_ino
        db = sqlite3.connect(self.path, timeout=self._patience, isolation_level=None, check_same_thread=False)
        try:
            _to_wal(db, clock.now() + self._patience)
            db.execute("pragma synchronous = normal")
            tables = db.execute("select count(*) from sqlite_master where type = 'table'").fetchone()[0]
            if tables < TABLES or db.execute("pragma user_version").fetchone()[0] != VERSION:
                db.executescript(SCHEMA)
        except BaseException:
            db.close()
            raise
        self._open.append(db)
        return db

    def _put_away_locked(self) -> None:
        """Begin anew, if the damaged file is still the one in place."""
        self._close_locked()
        try:
            if self.path.lstat().st_ino == self._inode:
                for suffix in ("", "-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except FileNotFoundError:
            return

    def _close_locked(self) -> None:
        while self._open:
            self._open.pop().close()


def _close(lock: LockType, connections: list[sqlite3.Connection]) -> None:
    """Close what a store that nobody has any more had open, or has at the interpreter's exit, once it is not in use."""
    if lock.acquire(timeout=LAST):
        while connections:
            connections.pop().close()
        lock.release()


def _to_wal(db: sqlite3.Connection, until: float) -> None:
    """Change a new file's mode: the one change for which SQLite does not wait when another process makes it, too."""
    while True:
        try:
            db.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError as error:
            if _reason(error) != "busy" or clock.now() >= until:
                raise
            clock.sleep(AGAIN)
        else:
            return


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise
    db.execute("commit")


def _folder(directory: str | os.PathLike[str] | None) -> Path:
    """Return the folder, made if it was not there; refuse one that others can write to."""
    if directory is None:
        home = os.environ.get("XDG_CACHE_HOME")
        directory = (Path(home) if home else Path.home() / ".cache") / "opero"
    folder = Path(directory).absolute()
    try:
        _private(folder)
    except (Foreign, FileExistsError, NotADirectoryError) as error:
        allowed = "a folder of your own that no one else can write to, and no link"
        raise ConfigurationError("directory", str(folder), allowed) from error
    except OSError:
        return folder  # it cannot be made now; each call tries, and an event says why it cannot
    return folder


def _private(folder: Path) -> None:
    """Make the folder, if it is not there; raise `Foreign` for one that others can write to."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Foreign(str(folder))


def _end_of(name: str, token: bytes) -> str:
    return f"{name}:{token.decode()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _reason(error: sqlite3.OperationalError) -> str:
    text = str(error)
    return "full" if "full" in text else "busy" if "locked" in text or "busy" in text else "unreadable"
