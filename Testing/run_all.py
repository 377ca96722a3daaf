"""Run the checks and the test suites one after another and fail if any of them failed.

Each suite has a process of its own: the panel tests put stand-ins for Slicer's Qt modules into `sys.modules`,
which no other test may see. The library's tests are shared out, file by file, to as many processes as there are cores,
four at most. The closing lines repeat every suite's own summary.

Without arguments all checks and suites run, and what they reach of the code is measured together. With arguments only
the named steps run, without being measured; `fast` stands for those of daily work.
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
COVERAGE_FLOOR = 90
"""Percent of lines and branches of the library and the module that the suites together must reach."""
STEPS: dict[str, list[str]] = {
    "ruff": [sys.executable, "-m", "ruff", "check", "."],
    "format": [sys.executable, "-m", "ruff", "format", "--check", "Testing", "Tools", "SynthGAN", "SynthGANLib"],
    "imports": [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
    "mypy": [sys.executable, "-m", "mypy"],
    "library": [*PYTEST, "--numprocesses", str(SHARES), "--dist", "loadfile", "Testing/Library"],
    "mrml": [*PYTEST, "Testing/Mrml"],
    "panel": [*PYTEST, "Testing/Panel"],
    "coverage": [sys.executable, "-m", "coverage", "report", f"--fail-under={COVERAGE_FLOOR}"],
    "quick": [*PYTEST, "--numprocesses", str(SHARES), "--dist", "loadfile", "-m", "not slow", "Testing/Library"],
    "docs": [sys.executable, "-m", "mkdocs", "build", "--strict"],
}
EVERYTHING = ("ruff", "format", "imports", "mypy", "library", "mrml", "panel", "coverage")
FAST = ("ruff", "format", "imports", "quick")
SUITES = ("library", "mrml", "panel")
COVERAGE_REMARK = re.compile(r"\d+ files? skipped due to complete coverage")
COVERAGE_TOTAL = re.compile(r"^TOTAL .* ([\d.]+%)$")
PYTEST_SUMMARY = re.compile(r"^=+ (.*\bin [\d.]+s.*?) =+$")


def run_step(name: str, command: list[str]) -> tuple[int, str]:
    """Run one step with its output shown as it comes; its exit code and its closing line."""
    print(f"\n--- {name}: {' '.join([Path(command[0]).name, *command[1:]])}", flush=True)
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONUNBUFFERED": "1"}
    environment["NO_MKDOCS_2_WARNING"] = "1"  # a notice on the next major version of mkdocs
    if name == "imports":
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "SynthGAN")))
    if name in ("library", "quick"):
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
        if not COVERAGE_REMARK.match(line):  # it follows the total
            closing = line.strip() or closing
    code = process.wait()
    summary = PYTEST_SUMMARY.match(closing)
    closing = COVERAGE_TOTAL.sub(r"\1 of lines and branches", closing)
    text = f"=== {name}: {summary.group(1)} ===" if summary else f"{name}: {closing}"
    return code, f"{text} [exit code {code}, {time.monotonic() - started:.0f} s]"


def measured(name: str) -> list[str]:
    """The command of a step; a suite also adds what it reaches to `.coverage`, which the first suite begins."""
    if name not in SUITES:
        return STEPS[name]
    return [*STEPS[name], "--cov", "--cov-report=", *(["--cov-append"] if name != SUITES[0] else [])]


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments if name not in (*STEPS, "fast")]
    if unknown:
        print(f"There is no step named {unknown[0]}: choose from {', '.join((*STEPS, 'fast'))}.", file=sys.stderr)
        return 2
    named = [step for name in arguments for step in (FAST if name == "fast" else (name,))]
    commands = {name: STEPS[name] for name in named} or {name: measured(name) for name in EVERYTHING}
    results = [run_step(name, command) for name, command in commands.items()]
    print("\n" + "-" * 100)
    for _, closing in results:
        print(closing)
    return 1 if any(code != 0 for code, _ in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
