"""A worker that speaks the protocol and misbehaves on request: `fakeWorker.py MODE [argument]`.

Modes: good, slow, refuse, crash, killed, exitCode, silent, garbage, flood, hang, deaf, orphan, wrongHash, wrongGrid,
wrongShape, notFinite, noFile.
It copies the input with its values changed, so that a result can be told from its source.
"""

import array
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

TYPES = {b"int16": "h", b"float": "f", b"double": "d"}
cancelled = threading.Event()


def emit(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def fail(kind, cause, nextStep, code):
    emit(event="error", kind=kind, cause=cause, next_step=nextStep, exit_code=code)
    sys.exit(code)


def listen():
    for line in sys.stdin:
        if json.loads(line).get("cancel"):
            break
    cancelled.set()


def pause(seconds):
    if cancelled.wait(seconds):
        fail("cancelled", "The run was cancelled.", "Start it again when wanted.", 130)


def result(job, mode):
    """The input's raw NRRD with every value lowered by 1000 (bytes: inverted), damaged as the mode says."""
    header, values = Path(job["input"]).read_bytes().split(b"\n\n", 1)
    lines = header.split(b"\n")
    kind = next(line for line in lines if line.startswith(b"type: ")).removeprefix(b"type: ")
    if kind == b"uint8":
        return header + b"\n\n" + bytes(255 - value for value in values)
    # Without numpy, whose import takes longer than all the rest of this process.
    lowered = array.array("f", (value - 1000 for value in array.array(TYPES[kind], values)))
    lines[lines.index(b"type: " + kind)] = b"type: float"
    if mode == "wrongGrid":
        lines = [b"space origin: (1,2,3)" if line.startswith(b"space origin") else line for line in lines]
    if mode == "wrongShape":
        extents = next(line for line in lines if line.startswith(b"sizes:")).split()[1:]
        slices = int(extents[-1])
        shorter = b"sizes: " + b" ".join([*extents[:-1], b"%d" % (slices - 1)])
        lines = [shorter if line.startswith(b"sizes:") else line for line in lines]
        lowered = lowered[: len(lowered) // slices * (slices - 1)]
    if mode == "notFinite":
        lowered[0] = float("nan")
    return b"\n".join(lines) + b"\n\n" + lowered.tobytes()


def main(mode, argument):
    job = json.loads(sys.stdin.readline())
    if argument:
        note = {"job": job, "pid": os.getpid(), "cwd": os.getcwd()}
        if mode == "orphan":
            note["child"] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]).pid
        Path(argument).write_text(json.dumps(note), encoding="utf-8")
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if mode == "orphan":
        sys.exit(9)
    if mode == "hang":
        time.sleep(60)
    threading.Thread(target=listen, daemon=True).start()
    emit(event="stage", stage="read")
    if mode == "refuse":
        fail("unfit", "The volume is constant: every voxel is 0.", "Choose another volume.", 3)
    if mode == "crash":
        print("Segmentation fault, they said", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "silent":
        sys.exit(0)
    if mode in ("garbage", "flood"):
        for line in ("not json", "{", "[1, 2]", '{"event": 7}', '"done"', "\x00\x01 ü", "{" * 5000):
            print(line)
        print(json.dumps({"event": "progress", "fraction": "many"}))
        print(json.dumps({"event": "unheard of"}))
    for step in range(3000 if mode == "flood" else 5):
        left = {"seconds_left": 90.0 - step} if step % 2 else {}
        emit(event="progress", stage="predict", fraction=min(1.0, 0.2 * step), **left)
        pause(0.3 if mode == "slow" else 0.0)
    emit(event="warning", message="The volume states no unit.")
    content = b"" if mode == "noFile" else result(job, mode)
    if mode != "noFile":
        Path(job["output"]).write_bytes(content)
    digest = "0" * 64 if mode == "wrongHash" else hashlib.sha256(content).hexdigest()
    emit(
        event="done", output=job["output"], model=job["model"], version="1.0.0", weights_sha256="ab" * 32, device="cpu",
        seconds=1.5, tiles=8, peak_memory=1 << 20, warnings=["The volume states no unit."],
        versions={"torch": "2.13.0"}, output_sha256=digest,
    )  # fmt: skip
    sys.exit(5 if mode == "exitCode" else 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
