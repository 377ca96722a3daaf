"""How long the module's import and the panel's opening take, written as a table: `--out Docs/benchmarks_panel.md`.

On the host of the panel tests (Qt through PySide6, the MRML scene of slicer-core); `panel_opening.py` measures the same
in a Slicer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
BARS = {"import": "< 0.05 s", "open": "< 1 s"}
WHAT = {"import": "the module's import, as Slicer does at every start", "open": "the panel's first opening"}


def opening(cache: str) -> dict[str, object]:
    """One measurement in a fresh process with compiled modules at hand, as in an installation."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "QT_QPA_PLATFORM": "offscreen"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, str(HERE / "panel_opening.py")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {answer}", flush=True)
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeat", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        opening(cache)
        runs = [opening(cache) for _ in range(options.repeat)]
    loaded = sorted({name for run in runs for name in run["loaded"]})  # type: ignore[attr-defined]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("slicer-core", "PySide6-Essentials"))
    lines = [
        "# Benchmarks of the panel",
        "",
        "Written by `make bench-panel` (`Tools/Benchmarks/bench_panel.py`); not edited by hand.",
        "",
        f"Machine: {os.cpu_count()} logical cores, {platform.system()}; "
        f"Python {platform.python_version()}, {packages}. Load averages at the end: {load}. "
        f"Medians of {options.repeat} fresh processes, with the fastest and the "
        "slowest, after one that compiles the modules.",
        "",
        "| | processor, s | clock, s | bar |",
        "| --- | --- | --- | --- |",
    ]
    for name, what in WHAT.items():
        cells = []
        for kind in ("cpu_s", "wall_s"):
            times = sorted(float(str(run[f"{name}_{kind}"])) for run in runs)
            cells.append(f"{statistics.median(times):.3f} ({times[0]:.3f} to {times[-1]:.3f})")
        lines.append(f"| {what} | {' | '.join(cells)} | {BARS[name]} |")
    lines += [
        "",
        f"Loaded by it of torch, SimpleITK, pydicom, monai and safetensors: {', '.join(loaded) or 'none'}.",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
