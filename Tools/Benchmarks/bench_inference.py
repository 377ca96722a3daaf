"""Speed and memory of inference beside MONAI's sliding window, written as a table: `--out Docs/benchmarks.md`.

Each measurement is a process of its own (`bench_cases.py`); the variants take turns, so that a change in the
machine's load falls on all of them. CPU time is what is compared: it hardly depends on what else is running.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MIB, GIB = 2**20, 2**30

SHAPE = [180, 256, 256]
LARGE = [400, 512, 512]
WINDOW = [96, 96, 96]


def run_case(case: str, options: dict[str, Any], threads: int) -> dict[str, Any]:
    """One measurement in a fresh process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(HERE / "bench_cases.py"), case, json.dumps({**options, "threads": threads})]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {case} {options.get('method', '')} {options.get('net', '')}: {answer}", flush=True)
    return answer


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure."""
    keys = [key for key, value in runs[0].items() if isinstance(value, float | int)]
    found = {key: statistics.median(run[key] for run in runs) for key in keys}
    return {**runs[0], **found, "runs": runs}


def compare(net: str, shape: list[int], repeats: int, threads: int) -> dict[str, dict[str, Any]]:
    """MONAI by one window and by four, ours with any tiles within MONAI's memory and with its window; in turns."""
    base = {"net": net, "shape": shape, "window": WINDOW}
    monai = {**base, "method": "monai"}
    print(f"{net}: a run to learn what MONAI takes", flush=True)
    taken = run_case("measure", monai, threads)["memory"]
    variants = {
        "monai": monai,
        "monai-4": {**monai, "batch": 4},
        "free": {**base, "method": "synthgan", "fixed": False, "memory": taken},
        "fixed": {**base, "method": "synthgan", "fixed": True},
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for turn in range(repeats):
        print(f"{net}: turn {turn + 1} of {repeats}", flush=True)
        for name, options in variants.items():
            runs[name].append(run_case("measure", options, threads))
    return {name: medians(found) for name, found in runs.items()}


def import_seconds(repeats: int) -> tuple[float, bool]:
    """Median time of `import SynthGANLib` in a fresh interpreter, and whether torch came with it."""
    script = (
        "import time, sys; t = time.perf_counter(); import SynthGANLib; "
        "print(time.perf_counter() - t, 'torch' in sys.modules)"
    )
    answers = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True).stdout
        for _ in range(repeats)
    ]
    return statistics.median(float(answer.split()[0]) for answer in answers), "True" in "".join(answers)


def worker_seconds(repeats: int) -> float:
    """Median time from starting the worker to its answer that it is ready, torch loaded."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "SynthGANLib.jobs.worker"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as worker:  # fmt: skip
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write('{"job": "ready"}\n')
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            times.append(time.perf_counter() - started)
            worker.stdin.close()
        if answer.get("event") != "ready":
            raise RuntimeError(f"The worker answered {answer}.")
    return statistics.median(times)


def machine(threads: int) -> str:
    """What the figures were measured on, in a sentence."""
    processor = platform.processor() or platform.machine()
    table = Path("/proc/cpuinfo")
    if table.exists():
        names = [line.split(":", 1)[1].strip() for line in table.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "monai", "numpy"))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{processor}, {os.cpu_count()} logical cores, {memory:.0f} GiB, {platform.system()}; Python "
        f"{platform.python_version()}, {packages}; {threads} thread(s). Load averages at the end: {load} (with a "
        "load above the number of free cores wall times are not to be compared; CPU times are)."
    )


def ratio_row(name: str, ours: dict[str, Any], monai: dict[str, Any], bar: str) -> str:
    """A line of the table of ratios."""
    faster, wall = monai["cpu"] / ours["cpu"], monai["wall"] / ours["wall"]
    memory = ours["memory"] / monai["memory"]
    return (
        f"| {name} | {monai['cpu']:.1f} | {ours['cpu']:.1f} | **{faster:.2f}** | {wall:.2f} | {bar} | "
        f"{monai['memory'] / MIB:.0f} | {ours['memory'] / MIB:.0f} | **{memory:.2f}** |"
    )


def spread(found: dict[str, dict[str, Any]]) -> str:
    """Smallest and largest CPU time of each variant."""
    parts = []
    for name, entry in found.items():
        times = [run["cpu"] for run in entry["runs"]]
        parts.append(f"{name} {min(times):.1f} to {max(times):.1f} s")
    return ", ".join(parts)


def write(out: Path, results: dict[str, Any], repeats: int, threads: int) -> None:
    """The page of tables."""
    unet, identity, large = results["unet"], results["identity"], results["large"]
    size = " x ".join(str(n) for n in reversed(SHAPE))
    large_size = " x ".join(str(n) for n in reversed(LARGE))
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`Tools/Benchmarks/bench_inference.py`); not edited by hand.",
        "",
        f"Machine: {machine(threads)}",
        "",
        "## Sliding window, beside MONAI",
        "",
        f"The same network (MONAI `UNet`, channels 16 to 128, strides 2, two residual units, float32), the same volume "
        f"of {size} voxels, at least 25 % overlap, Gaussian blending. MONAI: `sliding_window_inference`, window 96^3, "
        f"one window at a time unless stated. Each figure is the median of {repeats} runs, each in a fresh process, "
        "the variants in turns, after a warm-up on one window. Memory is the growth of the largest resident size. "
        "With free extents the planner was told to stay within what MONAI took.",
        "",
        "| | MONAI CPU s | SynthGAN CPU s | times faster (CPU) | (wall) | bar | MONAI MiB | SynthGAN MiB | "
        "memory ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ratio_row("free tile extents", unet["free"], unet["monai"], ">= 2.5"),
        ratio_row("window fixed at 96^3", unet["fixed"], unet["monai"], ">= 1.0"),
        ratio_row("free extents; MONAI 4 windows at a time", unet["free"], unet["monai-4"], ""),
        ratio_row("window fixed; MONAI 4 windows at a time", unet["fixed"], unet["monai-4"], ""),
        ratio_row("blending alone (identity network), 96^3", identity["fixed"], identity["monai"], ""),
        "",
        "Two things make the difference: fewer voxels are computed twice (the plans below), and 3D convolutions of a "
        "single tile are given to oneDNN, which PyTorch does by itself only for batches and large tiles "
        "(`SynthGANLib/inference/convolutions.py`); MONAI gains the second with several windows at a time, for memory.",
        "",
        f"Spread of the CPU times: {spread(unet)}.",
        "",
        f"Plan with free extents: {unet['free']['plan']}",
        "",
        f"Plan with the fixed window: {unet['fixed']['plan']}",
        "",
        "Identity network, largest error over the whole volume including the borders, relative to the largest value: "
        f"SynthGAN {identity['fixed']['error']:.1e} (window 96^3), {identity['free']['error']:.1e} (free extents), "
        f"MONAI {identity['monai']['error']:.1e}; the spacing of float32 is 1.2e-07.",
        "",
        "## A large volume on the CPU",
        "",
        f"The whole of `synthesize` (body mask, turning, normalisation, prediction, way back) on {large_size} voxels, "
        "a small U-Net, default memory. The planner fills the same budget with any network.",
        "",
        "| largest resident size of the process | bar |",
        "| --- | --- |",
        f"| {large['memory'] / GIB:.2f} GiB | < 3 GiB |",
        "",
        f"CPU time {large['cpu']:.0f} s. Plan: {large['plan']}",
        "",
        "## Start",
        "",
        "| | measured | bar |",
        "| --- | --- | --- |",
        f"| `import SynthGANLib` | {results['import'][0]:.3f} s, torch "
        f"{'loaded' if results['import'][1] else 'not loaded'} | < 0.3 s, without torch |",
        f"| worker ready (process started, torch loaded), wall | {results['worker']:.2f} s | < 4 s |",
        "",
    ]
    out.write_text("\n".join(lines), encoding="utf-8")
    print(f"wrote {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "Docs" / "benchmarks.md", help="the page to write")
    parser.add_argument("--repeats", type=int, default=3, help="runs per variant")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run")
    arguments = parser.parse_args()
    repeats, threads = arguments.repeats, arguments.threads
    results = {
        "import": import_seconds(2 * repeats + 1),
        "worker": worker_seconds(repeats),
        "identity": compare("identity", SHAPE, repeats, threads),
        "unet": compare("unet", SHAPE, repeats, threads),
        "large": run_case("whole_flow", {"shape": LARGE}, threads),
    }
    write(arguments.out, results, repeats, threads)


if __name__ == "__main__":
    main()
