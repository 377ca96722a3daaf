"""The child process as the panel starts it: real processes, real pipes, killed and cancelled midway."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import head_like, identity_card, network_card, tiny_model

import SynthGANLib
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.jobs.run import run_job
from SynthGANLib.model.card import MethodSpec, SpatialSpec

PACKAGE = Path(SynthGANLib.__file__).parent
PATIENCE = 180
"""Seconds after which a process counts as stuck; nothing measured, only a way out."""


class Child:
    """A worker with its lines."""

    def __init__(self, root: Path = PACKAGE.parent) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PYTHONPATH"] = str(root)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "SynthGANLib.jobs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=root,
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        self.noise = b""
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._listen, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _listen(self) -> None:
        assert self.process.stderr
        self.noise = self.process.stderr.read()

    def send(self, content: Any) -> None:
        assert self.process.stdin
        line = content if isinstance(content, bytes) else json.dumps(content).encode() + b"\n"
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def event(self) -> dict[str, Any] | None:
        """The next event; None at the end. Anything on standard output that is no JSON object fails."""
        line = self._lines.get(timeout=PATIENCE)
        if not line:
            return None
        content = json.loads(line)
        assert isinstance(content, dict)
        assert line.isascii()
        return content

    def until(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Skip to the first event of a kind with the given values."""
        while (event := self.event()) is not None:
            if event["event"] == kind and wanted.items() <= event.items():
                return event
        raise AssertionError(f"no {kind} came; standard error: {self.noise.decode(errors='replace')}")

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and the events that were left."""
        left = []
        while (event := self.event()) is not None:
            left.append(event)
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return code, left


@pytest.fixture
def start() -> Iterator[Any]:
    """Starts workers and ends those that a failing test leaves behind."""
    children: list[Child] = []

    def launch(**options: Any) -> Child:
        children.append(Child(**options))
        return children[-1]

    yield launch
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
            child.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name is not ASCII, with an MR, a quick model and one that takes minutes on this MR."""
    folder = tmp_path_factory.mktemp("work") / "Schädel 頭 scan"
    folder.mkdir()
    write_volume(head_like(), folder / "mr tête.nii.gz")
    write_volume(head_like((96, 96, 96)), folder / "large.nrrd")
    tiny_model(identity_card()).save(folder / "modèle")
    slow = network_card(
        id="slow",
        method=MethodSpec("network", "UNet", {"widths": [32, 64]}),
        spatial=SpatialSpec(3, (16, 16, 16), (16, 16, 16), multiple=2, tile_fixed=True, overlap=0.75),
        mask="none",
    )
    tiny_model(slow).save(folder / "slow")
    return folder


def job(place: Path, output: Path, model: str = "modèle", source: str = "mr tête.nii.gz") -> dict[str, Any]:
    return {
        "job": "synthesize",
        "input": str(place / source),
        "output": str(output),
        "model": str(place / model),
        "device": "cpu",
    }


def started(child: Child) -> dict[str, Any]:
    """Wait until tiles are being predicted."""
    while True:
        event = child.until("progress", stage="predict")
        if event["seconds_left"] is not None:
            return event


def nothing_left(folder: Path) -> bool:
    return list(folder.iterdir()) == []


@pytest.mark.slow
def test_ready_then_a_job(place: Path, tmp_path: Path, start: Any) -> None:
    child = start()
    child.send({"job": "ready"})
    ready = child.event()
    assert ready["event"] == "ready"
    assert "cpu" in ready["devices"]
    assert ready["seconds"] > 0
    assert ready["versions"]["synthgan"] == SynthGANLib.__version__
    output = tmp_path / "CT für 頭.nrrd"
    child.send(job(place, output))
    code, events = child.end()
    assert code == 0, child.noise
    assert [event["event"] for event in events].count("done") == 1
    done = events[-1]
    assert done["output"] == str(output)
    assert done["output_sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    source = read_volume(place / "mr tête.nii.gz")
    assert np.array_equal(read_volume(output).array, np.rint(source.array))
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


@pytest.mark.slow
def test_read_only_installation(place: Path, tmp_path: Path, start: Any) -> None:
    """Slicer is often installed where the user may not write: no cache, no log, no byte code is needed."""
    root = tmp_path / "Programme, schreibgeschützt"
    shutil.copytree(PACKAGE, root / "SynthGANLib", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [root / "SynthGANLib", *(path for path in root.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("a file here keeps even an administrator from writing byte code")
    paths = [root, *root.rglob("*")]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.is_file()}
    for path in paths:
        path.chmod(stat.S_IREAD | (stat.S_IEXEC if path.is_dir() else 0))
    try:
        child = start(root=root)
        child.send(job(place, tmp_path / "ct.nrrd"))
        code, events = child.end()
        assert code == 0, child.noise
        assert events[-1]["event"] == "done"
        after = [path for path in root.rglob("*") if path.is_file()]
        assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in after} == before
    finally:
        for path in paths:
            path.chmod(stat.S_IRWXU)


@pytest.mark.slow
def test_cancel_line_ends_within_a_tile_and_leaves_nothing(place: Path, tmp_path: Path, start: Any) -> None:
    child = start()
    child.send(job(place, tmp_path / "ct.nrrd", "slow", "large.nrrd"))
    before = started(child)
    child.send({"cancel": True})
    code, events = child.end()
    assert code == 130
    assert events[-1] == {**events[-1], "event": "error", "kind": "cancelled", "exit_code": 130}
    reached = max([event["fraction"] for event in events if event["event"] == "progress"], default=0.0)
    assert reached < before["fraction"] + 0.2
    assert nothing_left(tmp_path)


@pytest.mark.slow
def test_end_of_input_ends_the_worker(place: Path, tmp_path: Path, start: Any) -> None:
    child = start()
    child.send(job(place, tmp_path / "ct.nrrd", "slow", "large.nrrd"))
    started(child)
    child.close()
    code, events = child.end()
    assert code == 130
    assert events[-1]["kind"] == "cancelled"
    assert nothing_left(tmp_path)
    assert b"Traceback" not in child.noise
    assert b"Fatal" not in child.noise


@pytest.mark.slow
def test_killed_in_the_middle_leaves_no_output(place: Path, tmp_path: Path, start: Any) -> None:
    child = start()
    child.send(job(place, tmp_path / "ct.nrrd", "slow", "large.nrrd"))
    started(child)
    child.process.kill()
    child.process.wait(PATIENCE)
    assert nothing_left(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes without a signal")
def test_terminated_politely_it_says_so(place: Path, tmp_path: Path, start: Any) -> None:
    (tmp_path / "ct.nrrd").write_text("the former result")
    child = start()
    child.send({**job(place, tmp_path / "ct.nrrd", "slow", "large.nrrd"), "force": True})
    started(child)
    child.process.send_signal(signal.SIGTERM)
    code, events = child.end()
    assert code == 130
    assert events[-1]["kind"] == "cancelled"
    assert (tmp_path / "ct.nrrd").read_text() == "the former result"
    assert b"Traceback" not in child.noise


def test_a_bad_job_in_a_real_process(start: Any) -> None:
    child = start()
    child.send(b"{broken\n")
    code, events = child.end()
    assert code == 2
    assert events[-1] == {**events[-1], "event": "error", "kind": "input", "exit_code": 2}
    assert b"Traceback" not in child.noise


STRAY = """
import os, sys
import SynthGANLib.jobs.worker as worker
import SynthGANLib.jobs.run as run
original = run.run_synthesis
def noisy(*arguments):
    print("a library prints")
    sys.stdout.write("and writes")
    os.write(1, b"and a C library does too")
    return original(*arguments)
run.run_synthesis = noisy
sys.exit(worker.main())
"""


def test_prints_of_libraries_do_not_reach_the_events(place: Path, tmp_path: Path) -> None:
    lines = json.dumps(job(place, tmp_path / "no" / "ct.nrrd")) + "\n"
    answer = subprocess.run(
        [sys.executable, "-c", STRAY],
        input=lines.encode(),
        cwd=PACKAGE.parent,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [event["event"] for event in events] == ["error"]
    assert answer.returncode == events[-1]["exit_code"] == 2
    for words in (b"a library prints", b"and writes", b"C library"):
        assert words in answer.stderr


@pytest.mark.slow
def test_nobody_reading_ends_the_worker(place: Path, tmp_path: Path, start: Any) -> None:
    """The one who started it is gone, and with it the reader of its events: no result, no orphan."""
    process = subprocess.Popen(
        [sys.executable, "-m", "SynthGANLib.jobs.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=PACKAGE.parent,
    )
    try:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(job(place, tmp_path / "ct.nrrd", "slow", "large.nrrd")).encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 130
        assert nothing_left(tmp_path)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="a shell's way to close a descriptor")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_without_standard_output_nothing_is_begun(place: Path, tmp_path: Path, closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m SynthGANLib.jobs.worker {closed}', sys.executable],
        input=json.dumps(job(place, tmp_path / "ct.nrrd")).encode() + b"\n",
        cwd=PACKAGE.parent,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert nothing_left(tmp_path)


def test_a_volume_of_one_slice_is_worked_or_refused_but_never_half(place: Path, tmp_path: Path) -> None:
    thin = head_like((3, 24, 22))
    write_volume(Volume(thin.array[1:2], thin.affine, "1"), tmp_path / "thin.nrrd")
    events: list[dict[str, Any]] = []
    wanted = {**job(place, tmp_path / "ct.nrrd"), "input": str(tmp_path / "thin.nrrd")}
    assert run_job(wanted, events.append) == 0, events[-1]
    assert read_volume(tmp_path / "ct.nrrd").shape == (1, 24, 22)
