"""Whatever becomes of the disk: the function's result is right, nothing hangs, an event says why."""

import gc
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from caches import cached, place, reasons

import opero as o
from opero import testing
from services.namespaces import apart


def test_a_damaged_file_is_begun_anew(tmp_path, heard):
    f, made = cached(backend="disk", directory=tmp_path / "c", patience=2.0)
    for n in range(200):
        f(n)
    store = place(f).shelf.store
    store.close()
    for suffix in ("-wal", "-shm"):
        store.path.with_name(store.path.name + suffix).unlink(missing_ok=True)
    content = bytearray(store.path.read_bytes())
    content[:2000] = os.urandom(2000)
    store.path.write_bytes(content)
    assert [f(n) for n in range(3)] == [0, 10, 20]
    assert "corrupt" in reasons(heard)
    made.clear()
    assert [f(2), f(2)] == [20, 20]
    assert made == []


def test_bytes_on_disk_are_bounded(tmp_path):
    @o.opero(o.Cache(60, backend="disk", directory=tmp_path / "c", max_bytes=50_000, patience=2.0))
    def f(x):
        return "x" * 4000

    for n in range(100):
        f(n)
    entries, size = place(f).shelf.store.size()
    assert 5 < entries < 13
    assert size <= 50_000
    assert f.opero.cache.stats()["evictions"] == 100 - entries


FULL = """
import subprocess, sys
from opero import Cache, events, opero
heard = []
events.subscribe(heard.append, "opero.cache.backend_failed")
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "opero", sys.argv[1]], check=True)

@opero(Cache(60, backend="disk", directory=sys.argv[1] + "/c", patience=2.0))
def f(x):
    return "x" * 100_000

def fill():
    with open(sys.argv[1] + "/others", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass

if sys.argv[2] == "by others":
    try:
        fill()
    except OSError:
        pass
assert all(f(n) == "x" * 100_000 for n in range(30))
assert {e.fields["reason"] for e in heard} == {"full"}, heard
"""


@pytest.mark.parametrize("by", ["by entries", "by others"])
def test_a_full_disk_is_no_outage(by, tmp_path):
    command = [*apart("mount"), sys.executable, "-c", FULL, tmp_path, by]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


LIMITED = """
import resource, signal, sys
from opero import Cache, events, opero
heard = []
events.subscribe(heard.append, "opero.cache.backend_failed")

@opero(Cache(60, backend="disk", directory=sys.argv[1], patience=2.0))
def f(x):
    return "x" * 100_000

f(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
assert all(f(n) == "x" * 100_000 for n in range(30))
assert heard, "nothing was said"
print(sorted({e.fields["reason"] for e in heard}))
"""


def test_a_file_that_may_not_grow_is_no_outage_either(tmp_path):
    command = [sys.executable, "-c", LIMITED, tmp_path / "c"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"['full']", "['unreadable']", "['full', 'unreadable']"}


@pytest.mark.parametrize("how", ["link", "others", "file_link"])
def test_a_folder_that_others_could_have_prepared_is_refused(how, tmp_path):
    folder = tmp_path / "c"
    if how == "link":
        (tmp_path / "real").mkdir()
        folder.symlink_to(tmp_path / "real")
    elif how == "others":
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    else:
        f, _ = cached(backend="disk", directory=folder, patience=2.0)
        victim = tmp_path / "victim"
        victim.write_text("precious")
        place_of = o.opero(o.Cache(60, backend="disk", directory=folder))(f.__wrapped__).opero.cache._around.place
        place_of.shelf.store.path.symlink_to(victim)
        assert [f(1), f(1)] == [10, 10]
        assert victim.read_text() == "precious"
        return
    with pytest.raises(o.ConfigurationError, match="directory"):
        cached(backend="disk", directory=folder)


def test_files_are_the_users_alone(tmp_path):
    f, _ = cached(backend="disk", directory=tmp_path / "c", patience=2.0)
    f(1)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir()} == {0o600}


WRITER = """
import sys
from opero import Cache, opero

@opero(Cache(60, backend="disk", directory=sys.argv[1], namespace="shared", max_bytes=2_000_000, patience=2.0))
def f(x):
    return [x] * 1000

print("ready", flush=True)
n = 0
while True:
    n += 1
    assert f(n % 300) == [n % 300] * 1000
    if n % 7 == 0:
        f.opero.cache.invalidate(n % 300)
"""


def test_processes_killed_between_writes_leave_only_whole_entries(tmp_path, heard):
    folder = tmp_path / "c"
    for round_ in range(4):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        for writer in writers:
            assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.3 + 0.05 * round_)
        for writer in writers:
            assert writer.poll() is None, writer.stderr.read()
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
            writer.stderr.close()

        @o.opero(
            o.Cache(60, backend="disk", directory=folder, namespace="shared", max_bytes=2_000_000, patience=5.0),
            name="reader",
        )
        def f(x):
            return [x] * 1000

        f.__wrapped__.__module__, f.__wrapped__.__qualname__ = "__main__", "f"
        reader = o.opero(f.opero.policies[0])(f.__wrapped__)
        started = time.monotonic()
        assert [reader(n) for n in range(300)] == [[n] * 1000 for n in range(300)]
        assert time.monotonic() - started < 30  # no lease of a dead process is waited for
        assert reader.opero.cache.stats()["hits"] > 0
        with closing(sqlite3.connect(place(reader).shelf.store.path)) as db:
            assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        place(reader).shelf.store.close()
    assert reasons(heard) == []
    assert reasons(heard, "entry_refused") == []


def test_a_forked_child_opens_the_file_anew(tmp_path):
    f, _ = cached(backend="disk", directory=tmp_path / "c", patience=5.0)
    f(1)
    child = os.fork()
    if child == 0:
        ok = f(1) == 10 and f(2) == 20 and f.opero.cache.stats()["hits"] == 1
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert f(2) == 20
    assert f.opero.cache.stats()["hits"] == 1


def test_eight_threads_on_one_file(tmp_path):
    f, made = cached(backend="disk", directory=tmp_path / "c", patience=10.0)
    wrong = []

    def work():
        wrong.extend(n for n in range(100) if f(n) != n * 10)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert sorted(made) == list(range(100))


@pytest.mark.parametrize("place", ["c", "c/below"])
def test_a_file_where_the_folder_should_be_is_refused_when_decorating(place, tmp_path):
    (tmp_path / "c").touch()
    with pytest.raises(o.ConfigurationError, match="directory"):
        cached(backend="disk", directory=tmp_path / place)


def test_a_folder_that_cannot_be_made_is_told_and_the_function_runs(tmp_path, heard):
    f, made = cached(backend="disk", directory="/proc/opero/c")
    assert [f(1), f(1), made] == [10, 10, [1, 1]]
    assert set(reasons(heard)) == {"FileNotFoundError"}


def test_a_folder_that_was_removed_is_made_again(tmp_path):
    f, made = cached(backend="disk", directory=tmp_path / "c", patience=2.0)
    f(1)
    place(f).shelf.store.close()
    shutil.rmtree(tmp_path / "c")
    assert [f(1), f(1), made] == [10, 10, [1, 1]]


def test_an_entry_of_the_future_is_of_no_known_age(tmp_path, heard):
    with testing.clock() as time:
        f, made = cached(backend="disk", directory=tmp_path / "c", patience=5.0)
        f(1)
        time._wall -= 30.0
        assert (f(1), made) == (10, [1])
        time._wall -= 86_400.0
        assert (f(1), f(1), made) == (10, 10, [1, 1])
        time.advance(60.0)
        assert (f(1), made) == (10, [1, 1, 1])
    assert heard == []


def test_a_file_that_was_removed_under_open_connections_is_shared_again(tmp_path):
    value = [1]

    def work(x):
        return value[0]

    f, g = (o.opero(o.Cache(60, backend="disk", directory=tmp_path / "c", patience=5.0))(work) for _ in range(2))
    assert (f(1), g(1)) == (1, 1)
    shutil.rmtree(tmp_path / "c")
    assert g(1) == 1
    value[0] = 2
    assert g.opero.cache.invalidate(1)
    assert (g(1), f(1)) == (2, 2)
    assert f.opero.cache.invalidate(1)
    assert not g.opero.cache.contains(1)


def test_a_function_that_nobody_has_any_more_closes_its_file(tmp_path):
    f, _ = cached(backend="disk", directory=tmp_path / "c")
    f(1)
    (db,) = place(f).shelf.store._open
    del f
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        db.execute("select 1")


AT_EXIT = """
import atexit, sys
from opero import Cache, events, opero

events.subscribe(print, "opero.cache.backend_failed")

def late():
    print(f(1), f(2), made)

if sys.argv[2:]:
    atexit.register(late)  # it runs after what was registered later
made = []

@opero(Cache(60, backend="disk", directory=sys.argv[1]))
def f(x):
    made.append(x)
    return x

f(1)
"""


@pytest.mark.parametrize(
    ("how", "late", "told"), [(["-X", "dev"], [], ""), ([], ["late"], "1 2 [1, 2]\n")], ids=["nobody", "who comes late"]
)
def test_a_file_is_closed_at_exit_and_opened_again_for_who_calls_later(how, late, told, tmp_path):
    command = [sys.executable, *how, "-c", AT_EXIT, str(tmp_path / "c"), *late]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == (told, "")


def test_a_file_without_its_tables_is_healed(tmp_path, heard):
    f, made = cached(backend="disk", directory=tmp_path / "c", patience=5.0)
    with sqlite3.connect(place(f).shelf.store.path) as db:
        db.execute("pragma user_version = 1")
    db.close()
    assert (f(1), f(1), made, heard) == (10, 10, [1], [])
