"""`opero dashboards`: what a user types, and what Grafana's API gets."""

import json
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from opero import ConfigurationError
from opero_dashboards import build
from opero_dashboards.commands import command
from opero_dashboards.remote import Server

COMMITTED = Path(__file__).parents[2] / "dashboards/grafana"
TOKEN = "glsa_0123456789"


class Grafana(ThreadingHTTPServer):
    """Answers as Grafana's folder and dashboard API does, and takes only what its documentation says it takes."""

    daemon_threads = True

    def __init__(self):
        self.folders, self.dashboards, self.requests = {}, {}, []
        super().__init__(("127.0.0.1", 0), Api)
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        uid = self.path.removeprefix("/api/folders/")
        found = self.server.folders.get(uid)
        self.answer(*((200, found) if found else (404, {"message": "folder not found"})))

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        self.server.requests.append((self.path, body))
        if self.headers["Content-Type"] != "application/json":
            self.answer(422, {"message": "unexpected content type"})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"message": "Unauthorized"})
        else:
            self.answer(*(self.folder(body) if self.path == "/api/folders" else self.dashboard(body)))

    def folder(self, body):
        if body.keys() != {"uid", "title"} or body["uid"] in self.server.folders:
            return 400, {"message": "bad folder"}
        self.server.folders[body["uid"]] = body
        return 200, {"id": 1, **body, "url": f"/dashboards/f/{body['uid']}"}

    def dashboard(self, body):
        page = body["dashboard"]
        known = {"dashboard", "folderUid", "message", "overwrite"}
        if self.path != "/api/dashboards/db" or body.keys() - known or page["id"] is not None or not page["title"]:
            return 400, {"message": "bad dashboard"}
        if body["folderUid"] not in self.server.folders:
            return 400, {"message": "folder not found"}
        if page["uid"] in self.server.dashboards and not body["overwrite"]:
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        version = self.server.dashboards.get(page["uid"], 0) + 1
        self.server.dashboards[page["uid"]] = version
        url = f"/d/{page['uid']}/{page['title'].lower().replace(' ', '-')}"
        return 200, {"id": 1, "uid": page["uid"], "url": url, "status": "success", "version": version}

    def answer(self, status, body):
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args): ...


@pytest.fixture
def grafana():
    with Grafana() as server:
        yield server
        server.shutdown()


def test_the_committed_dashboards_are_fresh(capsys):
    status = command(["check", "--out", str(COMMITTED)])
    assert (status, capsys.readouterr().out) == (0, f"nothing wrong: 11 pages keep the rules; as in {COMMITTED}\n")


def test_export_writes_one_file_a_page(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert command(["export", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == build().keys()
    assert json.loads((out / "overview.json").read_text())["uid"] == "opero-overview"
    assert str(out / "overview.json") in capsys.readouterr().out


def test_export_writes_everything_for_a_reader_that_leaves_early(tmp_path):
    command = [sys.executable, "-m", "opero", "dashboards", "export", "--out", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == build().keys()


def test_check_names_stale_missing_and_foreign_files_and_the_way_out(tmp_path, capsys):
    command(["export", "--out", str(tmp_path)])
    (tmp_path / "overview.json").write_text("{}")
    (tmp_path / "slo.json").unlink()
    (tmp_path / "mine.json").write_text("{}")
    capsys.readouterr()
    assert command(["check", "--out", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2].partition(";")[0] for line in lines] == ["not one of ours", "stale", "missing"]
    assert [f"opero dashboards export --out {tmp_path}" in line for line in lines] == [False, True, True]


def test_push_puts_every_page_into_the_folder(grafana, monkeypatch, capsys):
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    assert command(["push", "--url", grafana.url + "/"]) == 0
    assert grafana.folders == {"opero": {"uid": "opero", "title": "Opero"}}
    assert grafana.dashboards == {page["uid"]: 1 for page in build().values()}
    assert f"{grafana.url}/d/opero-overview/" in capsys.readouterr().out
    assert command(["push", "--url", grafana.url]) == 0
    assert set(grafana.dashboards.values()) == {2}
    assert [path for path, _ in grafana.requests].count("/api/folders") == 1


def test_a_wrong_token_is_one_sentence_that_names_the_way_out(grafana, monkeypatch, capsys):
    monkeypatch.setenv("GRAFANA_TOKEN", "wrong")
    assert command(["push", "--url", grafana.url]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Unauthorized" in said.err
    assert "GRAFANA_TOKEN" in said.err
    assert "wrong" not in said.err


def test_nobody_there_is_one_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    for arguments in (["push", "--url", url], ["check", "--prometheus", url]):
        assert command(arguments) == 2
        said = capsys.readouterr().err
        assert (said.count("\n"), "does not answer" in said) == (1, True)


@pytest.mark.parametrize("url", ["grafana.example", "ftp://a", "http://me:secret@grafana.example", "", "http://"])
def test_a_wrong_address_is_refused_and_no_password_repeated(url, capsys):
    assert command(["push", "--url", url]) == 2
    said = capsys.readouterr().err
    assert "secret" not in said
    assert said.count("\n") == 1


def test_a_token_goes_over_tls_or_stays_on_this_machine():
    with pytest.raises(ConfigurationError, match="https, since a token is sent"):
        Server("http://grafana.example", TOKEN)
    Server("http://127.0.0.1:3000", TOKEN)
    Server("https://grafana.example", TOKEN)


def test_a_redirect_is_not_followed(monkeypatch, capsys):
    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *args): ...

    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert command(["push", "--url", f"http://127.0.0.1:{server.server_address[1]}"]) == 2
        server.shutdown()
    assert "Found" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert command(["export", "--out", str(tmp_path / "file" / "folder")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
