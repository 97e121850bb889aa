"""What passes by itself is retried, and nothing else: a table that is missing will be missing again."""

import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from opero import databases, opero, presets


def error(module="driver", name="OperationalError", *args, **attributes):
    return type(name, (Exception,), {"__module__": module, **attributes})(*args)


PASSING = {
    "serialization": error("psycopg.errors", "SerializationFailure", sqlstate="40001"),
    "deadlock": error("psycopg2.errors", "DeadlockDetected", pgcode="40P01"),
    "connection": error("asyncpg.exceptions", "ConnectionDoesNotExistError", sqlstate="08003"),
    "restart": error("psycopg.errors", "AdminShutdown", sqlstate="57P01"),
    "starting": error("asyncpg.exceptions", "CannotConnectNowError", sqlstate="57P03"),
    "too many": error("psycopg.errors", "TooManyConnections", sqlstate="53300"),
    "closed": error("psycopg", "OperationalError", "the connection is closed", sqlstate=None),
    "refused": error("psycopg2", "OperationalError", "connection to server failed: Connection refused", pgcode=None),
    "pool": error("psycopg_pool", "PoolTimeout", "couldn't get a connection after 30.00 sec"),
    "pg8000": error("pg8000.exceptions", "DatabaseError", {"C": "40001"}),
    "pyodbc": error("pyodbc", "OperationalError", "08S01", "[08S01] Communication link failure"),
    "oracle": error("oracledb.exceptions", "DatabaseError", SimpleNamespace(code=3113, isrecoverable=True)),
    "oracle deadlock": error("oracledb.exceptions", "DatabaseError", SimpleNamespace(code=60, isrecoverable=False)),
    "apsw": error("apsw", "BusyError", "database is locked", result=261),
    **{f"pymysql {n}": error("pymysql.err", "OperationalError", n, "x") for n in (1205, 1213, 2006, 2013)},
    "pymysql closed": error("pymysql.err", "InterfaceError", 0, ""),
    "mysql": error("mysql.connector.errors", "DatabaseError", errno=1205, sqlstate="HY000"),
    "sqlalchemy": error("sqlalchemy.exc", "DBAPIError", "x", connection_invalidated=True, orig=KeyError()),
    "orig": error("sqlalchemy.exc", "OperationalError", "x", orig=error("pymysql.err", "InternalError", 1213, "x")),
    "peewee": error("peewee", "OperationalError", error("psycopg2", "OperationalError", "Broken pipe")),
    "connection error": ConnectionResetError(),
}
LASTING = {
    "no table": error("psycopg.errors", "UndefinedTable", sqlstate="42P01"),
    "protocol": error("psycopg.errors", "ProtocolViolation", sqlstate="08P01"),
    "statement timeout": error("psycopg.errors", "QueryCanceled", sqlstate="57014"),
    "password": error("psycopg", "OperationalError", "connection failed: FATAL: password authentication failed"),
    "denied": error("pymysql.err", "OperationalError", 1045, "Access denied"),
    "mysql": error("mysql.connector.errors", "ProgrammingError", errno=1146, sqlstate="42S02"),
    "mysql cursor": error("pymysql.err", "ProgrammingError", "Cursor closed"),
    "pyodbc": error("pyodbc", "ProgrammingError", "42S02", "x"),
    "pg8000": error("pg8000.exceptions", "InterfaceError", {"C": "28000", "M": "connection refused"}),
    "oracle": error("oracledb.exceptions", "DatabaseError", SimpleNamespace(code=942, isrecoverable=False)),
    "by its name alone": error("mine", "OperationalError", "no such table"),
    "text of a statement": error(
        "sqlalchemy.exc",
        "OperationalError",
        "[SQL: select 'connection refused']",
        orig=error("sqlite3", "OperationalError", "no such table: x", sqlite_errorcode=1),
    ),
    "connection in another error": ValueError("connection refused"),
    "timeout": TimeoutError(),
    "os error": FileNotFoundError(2013, "x"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_retried(name):
    assert databases.passes(PASSING[name])


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_not(name):
    assert not databases.passes(LASTING[name])


def test_what_it_was_raised_from_counts_and_a_circle_ends():
    outer, inner = error("django.db.utils"), PASSING["deadlock"]
    outer.__cause__ = inner
    assert databases.passes(outer)
    lost = error("django.db.utils")
    lost.__cause__ = other = error("mine", "Other")
    other.__cause__ = lost
    assert not databases.passes(lost)


def test_the_preset_retries_a_locked_sqlite_and_no_missing_table(tmp_path):
    path = tmp_path / "shop.db"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("create table sales (amount)")
    holder.execute("begin immediate")

    @presets.database(min_delay=0)
    def sell():
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            try:
                connection.execute("insert into sales values (1)")
            finally:
                if sell.opero.stats()["attempts"] == 2:
                    holder.execute("rollback")

    sell()
    assert sell.opero.stats()["attempts"] > 1
    holder.close()

    @opero(presets.database())
    def lost():
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("select 'is locked' from missing")

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        lost()
    assert lost.opero.stats()["attempts"] == 1
