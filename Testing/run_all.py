"""Run the checks and the test suites one after another and fail if any of them failed.

Each suite has a process of its own: the panel tests put stand-ins for Slicer's Qt modules into `sys.modules`,
which no other test may see. The library's tests are shared out, file by file, to as many processes as there are cores,
four at most. The closing lines repeat every suite's own summary.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest"]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SHARES = min(4, CORES)
STEPS: dict[str, list[str]] = {
    "ruff": [sys.executable, "-m", "ruff", "check", "."],
    "imports": [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
    "mypy": [sys.executable, "-m", "mypy"],
    "library": [*PYTEST, "--numprocesses", str(SHARES), "--dist", "loadfile", "Testing/Library"],
    "mrml": [*PYTEST, "Testing/Mrml"],
    "panel": [*PYTEST, "Testing/Panel"],
}
PYTEST_SUMMARY = re.compile(r"^=+ (.*\bin [\d.]+s.*?) =+$")


def run_step(name: str, command: list[str]) -> tuple[int, str]:
    """Run one step with its output shown as it comes; its exit code and its closing line."""
    print(f"\n--- {name}: {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONUNBUFFERED": "1"}
    if name == "imports":
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "SynthGAN")))
    if name == "library":
        environment["OMP_NUM_THREADS"] = str(max(1, CORES // SHARES))  # the processes are the threads
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None  # asked for with PIPE
    closing = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        closing = line.strip() or closing
    code = process.wait()
    summary = PYTEST_SUMMARY.match(closing)
    text = f"=== {name}: {summary.group(1)} ===" if summary else f"{name}: {closing}"
    return code, f"{text} [exit code {code}, {time.monotonic() - started:.0f} s]"


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments if name not in STEPS]
    if unknown:
        print(f"There is no step named {unknown[0]}: choose from {', '.join(STEPS)}.", file=sys.stderr)
        return 2
    results = [run_step(name, STEPS[name]) for name in arguments or STEPS]
    print("\n" + "-" * 100)
    for _, closing in results:
        print(closing)
    return 1 if any(code != 0 for code, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
