"""Train a compact form of every recipe and write the table of what came out: `make zoo`.

    python Tools/Zoo/zoo.py                       # all that is missing, then Docs/methods.md
    python Tools/Zoo/zoo.py --only 'medgan*'      # some of it
    python Tools/Zoo/zoo.py --report              # only the table, from the results that are there

Every finished entry leaves a JSON in the runs folder and is not made again; a training that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from SynthGANLib.errors import SynthGANError  # noqa: E402
from SynthGANLib.recipes.registry import FITTED, RECIPES  # noqa: E402
from Tools.Zoo.baselines import unet_entry  # noqa: E402
from Tools.Zoo.compact import ENTRIES, Entry  # noqa: E402
from Tools.Zoo.report import write_report  # noqa: E402
from Tools.Zoo.running import StoppedError, Zoo  # noqa: E402
from Tools.Zoo.tasks import TASKS  # noqa: E402

GPU_SCALE = 50.0
"""Factor on all steps where there is a GPU."""


def chosen(pattern: str) -> list[Entry]:
    """The entries whose recipe or key fits the pattern, each followed by no other; baselines come with them."""
    return [e for e in ENTRIES if fnmatch.fnmatch(e.recipe, pattern) or fnmatch.fnmatch(e.key, pattern)]


def with_baselines(entries: list[Entry]) -> list[Entry]:
    """The entries, and before each the U-Net that it is held against, if that was not there already."""
    found: dict[str, Entry] = {}
    for entry in entries:
        task = TASKS[entry.task]
        if not task.generates:
            known = RECIPES[entry.recipe] if entry.recipe in RECIPES else FITTED[entry.recipe]
            baseline = unet_entry(task, known.dims)
            found.setdefault(baseline.key, baseline)
        found[entry.key] = entry
    return list(found.values())


def make_all(zoo: Zoo, entries: list[Entry]) -> dict[str, str]:
    """Make what is missing; the failures by entry, in one sentence each. StoppedError passes."""
    failures: dict[str, str] = {}
    missing = [entry for entry in with_baselines(entries) if not zoo.finished(entry)]
    for number, entry in enumerate(missing, 1):
        print(f"[{number}/{len(missing)}] {entry.recipe} on {entry.task}", flush=True)
        begun = time.perf_counter()
        try:
            result = zoo.make(entry)
            if not TASKS[entry.task].generates:
                zoo.guesses(TASKS[entry.task].reference)
        except StoppedError:
            raise
        except Exception as error:  # one recipe's fault must not cost the others their turn: all are told at the end  # noqa: BLE001
            if not isinstance(error, SynthGANError):
                traceback.print_exc()
            failures[entry.key] = f"{type(error).__name__}: {error} {getattr(error, 'next_step', '')}".strip()
            print(f"    failed: {failures[entry.key]}", flush=True)
            continue
        told = ", ".join(f"{name} {value:.4g}" for name, value in result["metrics"].items() if name != "cases")
        print(f"    {told}; {result['seconds']:.0f} s, {time.perf_counter() - begun:.0f} s in all", flush=True)
    return failures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = os.environ.get("SYNTHGAN_TEST_DATA")
    parser.add_argument("--data", type=Path, default=Path(named) if named else ROOT.parent / "shared" / "data")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "zoo", help="folder of all that is made")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="recipes, or recipe--task, such as 'cyclegan*'")
    parser.add_argument("--scale", type=float, help=f"factor on all steps (default: 1, with a GPU {GPU_SCALE:g})")
    parser.add_argument("--report", action="store_true", help="train nothing: write the table of what is there")
    parser.add_argument("--docs", type=Path, default=ROOT / "Docs", help="folder of methods.md and pictures/")
    given = parser.parse_args(arguments)
    entries = chosen(given.only)
    if not entries:
        print(f"No recipe fits '{given.only}'; 'synthgan recipes' lists them.", file=sys.stderr)
        return 2
    scale = given.scale if given.scale is not None else GPU_SCALE if torch.cuda.is_available() else 1.0
    failures: dict[str, str] = {}
    if not given.report:
        try:
            failures = make_all(Zoo(given.data, given.runs, scale), entries)
        except StoppedError as stopped:
            print("Stopped; the same command goes on.", file=sys.stderr)
            return stopped.exit_code
    write_report(given.runs, given.docs, failures)
    print(f"{given.docs / 'methods.md'}: written")
    for key, sentence in failures.items():
        print(f"failed: {key}: {sentence}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
