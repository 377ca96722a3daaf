"""Fetching over a real connection to this machine: resumed, verified, cancelled, broken off, refused."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from model_folders import tiny_model

from SynthGANLib.errors import CancelledError, InputError, ModelError
from SynthGANLib.jobs.models import install
from SynthGANLib.model.catalogue import Catalogue
from SynthGANLib.model.download import checked_address, download_file

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; notes the ranges asked for; breaks off after `cut` bytes of a body; resumes if `ranges`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.cut, self.ranges, self.redirect = {"/model.zip": CONTENT}, [], None, True, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/model.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start >= len(content) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: server.cut] if server.cut else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    running = Server()
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def test_a_file_arrives_whole(server, tmp_path):
    told = []
    download_file(
        server.url, tmp_path / "m.zip", DIGEST.upper(), progress=lambda done, total: told.append((done, total))
    )
    assert (tmp_path / "m.zip").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _total in told] == sorted({done for done, _total in told})
    assert [path.name for path in tmp_path.iterdir()] == ["m.zip"]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.cut = 1_000_000
    with pytest.raises(InputError) as error:
        download_file(server.url, tmp_path / "m.zip", DIGEST)
    assert "goes on" in error.value.next_step
    assert not (tmp_path / "m.zip").exists()
    server.cut = None
    download_file(server.url, tmp_path / "m.zip", DIGEST)
    assert server.asked == [None, "bytes=1000000-"]
    assert (tmp_path / "m.zip").read_bytes() == CONTENT


def test_a_server_that_cannot_resume_sends_all_again(server, tmp_path):
    server.cut = 500_000
    with pytest.raises(InputError):
        download_file(server.url, tmp_path / "m.zip", DIGEST)
    server.cut, server.ranges = None, False
    download_file(server.url, tmp_path / "m.zip", DIGEST)
    assert (tmp_path / "m.zip").read_bytes() == CONTENT


def test_cancelled_downloads_are_kept_for_later(server, tmp_path):
    with pytest.raises(CancelledError):
        download_file(server.url, tmp_path / "m.zip", DIGEST, cancel=lambda: True)
    seen = []
    with pytest.raises(CancelledError):
        download_file(server.url, tmp_path / "m.zip", DIGEST, progress=lambda done, total: seen.append(done),
                 cancel=lambda: len(seen) >= 3)  # fmt: skip
    download_file(server.url, tmp_path / "m.zip", DIGEST)
    assert server.asked[-1] == f"bytes={seen[-1]}-"
    assert (tmp_path / "m.zip").read_bytes() == CONTENT


def test_a_complete_part_needs_only_its_name(server, tmp_path):
    (tmp_path / f"m.zip.{DIGEST[:16]}.part").write_bytes(CONTENT)
    download_file(server.url, tmp_path / "m.zip", DIGEST)
    assert (tmp_path / "m.zip").read_bytes() == CONTENT


def test_another_content_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(InputError, match="another checksum"):
        download_file(server.url, tmp_path / "m.zip", "0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "digest", "words"),
    [
        ("http://example.org/m.zip", DIGEST, "not safe"),
        ("ftp://example.org/m.zip", DIGEST, "not safe"),
        ("file:///etc/passwd", DIGEST, "not safe"),
        ("https://user:secret@example.org/m.zip", DIGEST, "password"),
        ("https:///m.zip", DIGEST, "not complete"),
        ("https://example.org/m.zip", "abc", "no SHA-256"),
    ],
)
def test_unsafe_wishes_are_refused_before_the_network(tmp_path, url, digest, words):
    with pytest.raises(InputError, match=words):
        download_file(url, tmp_path / "m.zip", digest)
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_an_unsafe_place_is_not_followed(server, tmp_path):
    server.redirect = "http://example.org/m.zip"
    with pytest.raises(InputError, match="not safe"):
        download_file(server.url, tmp_path / "m.zip", DIGEST)


def test_absent_file_and_absent_server_are_told(server, tmp_path):
    with pytest.raises(InputError, match="answered 404"):
        download_file(server.url.replace("model", "other"), tmp_path / "m.zip", DIGEST)
    with pytest.raises(InputError, match="cannot be reached"):
        download_file("http://127.0.0.1:9/m.zip", tmp_path / "m.zip", DIGEST)


def test_https_addresses_pass():
    assert checked_address("https://example.org/a/b.zip?raw=1") == "https://example.org/a/b.zip?raw=1"


@pytest.fixture
def archive(tmp_path):
    """A model's zip, as bytes."""
    import shutil

    tiny_model().save(tmp_path / "made")
    return Path(shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path / "made")).read_bytes()


def test_a_model_is_installed_from_an_address(server, tmp_path, archive):
    server.files["/model.zip"] = archive
    catalogue = Catalogue([tmp_path / "user"], user=tmp_path / "user")
    entry = install(catalogue, server.url, sha256=hashlib.sha256(archive).hexdigest())
    assert [found.id for found in catalogue.models()] == [entry["id"]]
    assert [path.name for path in (tmp_path / "user").iterdir()] == [entry["id"]]
    with pytest.raises(InputError, match="No checksum"):
        install(catalogue, server.url)
    with pytest.raises(ModelError, match="exists already"):
        install(catalogue, server.url, sha256=hashlib.sha256(archive).hexdigest())


def test_what_is_no_model_is_refused_by_the_name_that_was_given(server, tmp_path):
    catalogue = Catalogue([tmp_path / "user"], user=tmp_path / "user")
    with pytest.raises(ModelError) as error:
        install(catalogue, server.url, sha256=DIGEST)
    assert server.url in str(error.value)
    assert list((tmp_path / "user").iterdir()) == []


@pytest.mark.slow
def test_the_worker_installs_and_verifies(server, tmp_path, archive):
    """Through the child process, as the panel does it; installing imports no torch."""
    server.files["/model.zip"] = archive
    environment = {"XDG_DATA_HOME": str(tmp_path), "PATH": "/usr/bin", "PYTHONPATH": str(Path.cwd())}

    def ask(**job):
        command = [sys.executable, "-m", "SynthGANLib.jobs.worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, env=environment, **pipes) as worker:
            worker.stdin.write(json.dumps(job) + "\n")  # and stays open: its end would cancel the job
            worker.stdin.flush()
            events = [json.loads(line) for line in worker.stdout]
        return worker.returncode, events

    code, events = ask(job="install", source=server.url, sha256=hashlib.sha256(archive).hexdigest())
    assert code == 0, events
    done = events[-1]
    assert Path(done["path"]).is_relative_to(tmp_path)
    code, events = ask(job="verify", model=done["id"])
    assert (code, events[-1]["model"]) == (0, done["id"])
    weights = Path(done["path"]) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    code, events = ask(job="verify", model=done["path"])
    assert (code, events[-1]["kind"]) == (2, "model")
    code, events = ask(job="install", source=server.url, digest="x")
    assert (code, "unknown field 'digest'" in events[-1]["cause"]) == (2, True)


def test_the_command_installs_from_an_address(server, tmp_path, archive, capsys, monkeypatch):
    from SynthGANLib.cli.main import main

    monkeypatch.setenv("SYNTHGAN_HOME", str(tmp_path))
    server.files["/model.zip"] = archive
    assert main(["install", server.url]) == 2
    assert "No checksum" in capsys.readouterr().err
    assert main(["install", server.url, "--sha256", hashlib.sha256(archive).hexdigest(), "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["path"]).is_relative_to(tmp_path)
