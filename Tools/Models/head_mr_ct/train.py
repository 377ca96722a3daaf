"""Train the bundled `head-mr-ct` network: any head MR contrast to HU, from label maps of real heads.

    python -m Tools.Models.head_mr_ct.train --labels FOLDER --out runs/head-mr-ct [--resume] [--until STEP]

Every step is drawn from (seed, step) alone, so a run that was interrupted and resumed ends, on the CPU, in the same
bits as one that ran through. The three cycles (see `recipe.py`) are runs in the folders `cycle1` to `cycle3`, with
checkpoints and a log each; every later one begins from the averaged weights of the one before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from SynthGANLib.errors import InputError, SynthGANError
from SynthGANLib.training import checkpoint, engine
from Tools.Models.head_mr_ct.feed import HeadFeed
from Tools.Models.head_mr_ct.heads import Head, load_heads
from Tools.Models.head_mr_ct.recipe import Config, Cycle, cycles

SAVE_EVERY = 50


def averaged(run: Path) -> tuple[int, dict[str, Tensor]]:
    """(steps, state of the network with averaged weights) of a run's newest checkpoint; InputError without any."""
    step = checkpoint.newest(run, 1, _warn)
    if step is None:
        raise InputError(f"There is no checkpoint in '{run}'.", next_step="Train first.")
    content = checkpoint.load(run, step)
    state = {**content["regime"], **content["average"]["values"]}
    return step, {name.removeprefix("network."): value for name, value in state.items()}


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


def train_cycle(
    cycle: Cycle,
    heads: Sequence[Head],
    out: Path,
    config: Config,
    begin: Mapping[str, Tensor] | None,
    *,
    resume: bool = False,
    until: int | None = None,
) -> engine.Outcome:
    """Run one cycle in its folder of `out`, from the weights `begin` (None: from the seed)."""
    setup = cycle.setup if begin is None else cycle.begun_from(begin)

    def begun() -> None:
        (out / "config.json").write_text(json.dumps(asdict(config), indent=1))

    return engine.train(
        setup,
        HeadFeed(heads, config.seed, cycle.offset, cycle.boxes),
        out / cycle.name,
        seed=config.seed,
        resume=resume,
        device="cpu",
        save_every=SAVE_EVERY,
        log_every=SAVE_EVERY,
        begun=begun,
        until=None if until is None else until - cycle.offset,
    )


def train(labels: Path, out: Path, config: Config, *, resume: bool = False, until: int | None = None) -> int:
    """Run the training; returns the exit code.

    It ends after `until` steps, where that is given, or by a signal, and can be resumed.
    """
    heads, _ = load_heads(labels, config.held_out)
    out.mkdir(parents=True, exist_ok=True)
    begin: Mapping[str, Tensor] | None = None
    for cycle in cycles(config):
        if until is not None and until <= cycle.offset:
            break
        outcome = train_cycle(cycle, heads, out, config, begin, resume=resume, until=until)
        if outcome.exit_code or outcome.steps < cycle.setup.steps:
            return outcome.exit_code
        _, begin = averaged(out / cycle.name)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="folder of whole-head label maps (*.nii.gz)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs of the three cycles")
    parser.add_argument("--until", type=int, help="end after this many steps; --resume goes on from there")
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoints")
    given = parser.parse_args(arguments)
    try:
        return train(given.labels, given.out, Config(seed=given.seed), resume=given.resume, until=given.until)
    except SynthGANError as error:
        print(f"error: {error} {error.next_step}".rstrip(), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
