"""Whether an error of a database passes by itself: the connection was lost, or the transaction met another one.

Drivers are told apart by the attributes of their errors; none is imported.

1. What wraps an error is judged by what it wraps: SQLAlchemy's `orig`, peewee's first argument, a `__cause__` (Django).
2. A code decides, if there is one: SQLSTATE (PostgreSQL, ODBC), SQLite's, MySQL's or Oracle's number.
3. Without a code, what the driver says of a connection decides, and only in errors that stand for such by PEP 249.

Source: PostgreSQL 17, appendix A; MySQL 8.4, server and client error reference; "Result and Error Codes", sqlite.org.
"""

from __future__ import annotations

from opero.errors import CallTimeout, Rejected
from opero.kinds import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Serialization failure, deadlock, lock not available, too many connections; the server restarts, or ended the session.
STATES = {"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03", "57P05", "25P03"}
SQLITE = {5, 6}  # busy, locked; the higher bytes say why
# Too many connections, shutdown, network (1158 to 1161), lock wait, deadlock, cannot connect, gone, lost, idle.
MYSQL = {1040, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 2002, 2003, 2006, 2013, 2055, 3572, 4031}
MYSQL_DRIVERS = {"pymysql", "MySQLdb", "mysql", "aiomysql", "asyncmy", "mariadb"}
ORACLE = {60, 3113, 3114, 8177, 12541}  # deadlock, end of file, not connected, serialization, no listener
GENERIC = {"OperationalError", "InterfaceError", "DisconnectionError", "PoolTimeout"}
SAYS = (
    "connection refused",
    "connection reset",
    "connection timed out",
    "connection timeout",
    "connection is closed",
    "connection was closed",
    "connection has been closed",
    "connection already closed",
    "connection is lost",
    "closed the connection",
    "lost connection",
    "connection lost",
    "gone away",
    "broken pipe",
    "terminating connection",
    "could not connect",
    "could not receive data",
    "could not send data",
    "consuming input failed",
    "starting up",
    "shutting down",
    "too many clients",
    "connection slots",
    "temporary failure in name resolution",
    "network error",
    "database is locked",
    "couldn't get a connection",
)


def passes(error: BaseException) -> bool:
    """Whether the same transaction may succeed if it is begun again."""
    return any(_passes(each) for each in _held(error))


def _held(error: BaseException) -> Iterator[BaseException]:
    """Yield what is to be judged: the error, or what it wraps, and what it was raised from."""
    seen: BaseException | None = error
    for _ in range(10):  # a chain may be a circle
        if seen is None:
            return
        if read(seen, "connection_invalidated") is True:
            yield ConnectionError()
        wrapped: Any = read(seen, "orig", BaseException) or _first(seen, BaseException)
        if wrapped is None:
            yield seen
        refused = isinstance(seen, CallTimeout | Rejected)  # for other reasons than what the call failed of before
        seen = wrapped or (None if refused else read(seen, "__cause__", BaseException))


def _passes(error: BaseException) -> bool:
    if isinstance(error, ConnectionError):
        return True
    for name in ("sqlstate", "pgcode"):
        state = read(error, name, str)
        if state and not (_is_mysql(error) and state == "HY000"):
            return _is_state(state)
    number = read(error, "result" if "apsw" in _packages(error) else "sqlite_errorcode", int)
    if number is not None:
        return number & 0xFF in SQLITE
    if _is_mysql(error):
        return _mysql(error)
    return _by_first(error)


def _by_first(error: BaseException) -> bool:
    """Judge by the first argument, where drivers put what the server sent; else by the text."""
    first = _first(error)
    if isinstance(first, dict) and "C" in first:  # pg8000
        return _is_state(first["C"])
    if isinstance(first, str) and len(first) == 5 and first.isalnum() and first.isupper():  # pyodbc
        return _is_state(first)
    if read(first, "isrecoverable") is True:  # oracledb
        return True
    number = read(first, "code", int)
    return number in ORACLE if number else _says(error)


def _mysql(error: BaseException) -> bool:
    number = read(error, "errno", int) or _first(error, int)
    if not number:  # 0 where the connection was closed before
        return "InterfaceError" in _kinds(error) and (number == 0 or _says(error))
    return number in MYSQL


def _is_state(state: object) -> bool:
    """Whether a SQLSTATE is one of ours, or speaks of a connection: class 08, but for a broken protocol."""
    return isinstance(state, str) and (state in STATES or (state[:2] == "08" and state != "08P01"))


def _says(error: BaseException) -> bool:
    kinds = _kinds(error)
    if not kinds & GENERIC:
        return False
    if kinds & {"DisconnectionError", "PoolTimeout"}:
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in SAYS)


def _is_mysql(error: BaseException) -> bool:
    return bool(_packages(error) & MYSQL_DRIVERS)


def _packages(error: BaseException) -> set[str]:
    return {kind.__module__.partition(".")[0] for kind in type(error).__mro__}


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _first(error: BaseException, kind: type = object) -> object:
    args = read(error, "args", tuple, ())
    return args[0] if args and isinstance(args[0], kind) else None
