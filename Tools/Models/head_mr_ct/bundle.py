"""Write the bundled model folders: the tissue method, and the head network from its training run.

python -m Tools.Models.head_mr_ct.bundle tissue --out Resources/Models
python -m Tools.Models.head_mr_ct.bundle head --run runs/head-mr-ct --out Resources/Models [--metrics measured.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SynthGANLib.errors import InputError
from SynthGANLib.model.card import Card, MethodSpec, SourceSpec, SpatialSpec, TargetSpec, VectorSpec
from SynthGANLib.model.model import Model
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.simulate import simulate_mr
from SynthGANLib.training.checkpoint import steps_of
from Tools.Models.head_mr_ct.feed import NORMALISERS
from Tools.Models.head_mr_ct.heads import GRID_MM
from Tools.Models.head_mr_ct.randomise import Contrasts
from Tools.Models.head_mr_ct.recipe import Config, Cycle, build, cycles
from Tools.Models.head_mr_ct.train import averaged

LICENCE = "Apache-2.0"
REVIEW = (
    "Hsu S-H et al. Investigation of a method for generating synthetic CT models from MRI scans of the head and neck "
    "for radiation therapy. Phys Med Biol 2013;58:8419."
)
LABELS = (
    "Label maps: Billot B et al. SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without "
    "retraining. Med Image Anal 2023;86:102789 (Apache-2.0)."
)
TARGET = TargetSpec("CT", "HU", -1000.0, (-1024.0, 3071.0), 1, "CT_BONE")


def tissue_card() -> Card:
    """The card of `tissue-mr-ct`."""
    return Card(
        id="tissue-mr-ct",
        version="1.0.0",
        title="Tissue classes: T1 head MR to CT",
        description=(
            "Fuzzy c-means clustering of one T1-weighted head MR; each tissue gets its Hounsfield units. No learned "
            "weights, no training data. Cortical bone and air are equally dark in MR: thin dark layers near the "
            "surface become bone, thick dark pockets become air."
        ),
        anatomy="head",
        source=SourceSpec("MR", "1", ("T1",), 1),
        target=TARGET,
        method=MethodSpec("classical", "tissue", {}),
        spatial=SpatialSpec(3, (16, 16, 16), (512, 512, 512)),
        licence=LICENCE,
        intended_use=(
            "Research and teaching: a quick, explainable baseline. Not for diagnosis, dose calculation or attenuation "
            "correction. The skull base, teeth, sinus walls and anything but a T1-weighted head come out wrong."
        ),
        citation=REVIEW,
    )


def head_card(config: Config, record: dict[str, Any], metrics: dict[str, Any]) -> Card:
    """The card of `head-mr-ct`; `record` tells how the run went."""
    small, large = (sorted({n for shape in shapes for n in shape}) for shapes in (config.small, config.large))
    network = build(config)
    return Card(
        id="head-mr-ct",
        version="0.4.0",
        title="Head MR of any contrast to CT",
        description=(
            "A 3D network that predicts, for every voxel of 1 mm, the share of five tissues and a remainder in HU. "
            "Trained by domain randomisation: every training step deforms a real head's tissue map and draws a random "
            "MR contrast, field of view, resolution, shading and noise on one side and HU on the other, so it needs no "
            "particular sequence. A research demonstration: it has seen no real MR or CT in training."
        ),
        anatomy="head",
        source=SourceSpec("MR", "1", (), 1),
        target=TARGET,
        method=MethodSpec(
            "network",
            "MixtureUNet",
            {"dims": 3, "values": [float(v) for v in network.values], "widths": list(config.widths)},
            storage="float16",
        ),
        spatial=SpatialSpec(
            dims=3,
            tile_min=(96, 96, 96),
            tile_max=(160, 160, 160),
            spacing=(GRID_MM,) * 3,
            multiple=network.multiple,
            overlap=0.25,
        ),
        licence=LICENCE,
        intended_use=(
            "Research, teaching and testing of software with head MR of adults. Not for diagnosis, dose calculation or "
            "attenuation correction. Contrast agent, metal, tumors, surgery and post-operative skulls were not in the "
            "training; lesions may vanish and bone defects may be closed."
        ),
        normalisers={side: dict(fields) for side, fields in NORMALISERS.items()},
        training={
            "data": (
                f"{16 - len(config.held_out)} whole-head label maps of real people (no intensities); "
                f"kept out: {', '.join(config.held_out)}"
            ),
            "pairs": "simulated in every step from the labels; nothing was shown twice",
            "patches": (
                f"{config.coarse_steps} steps of {config.coarse_batch} boxes of {small[0]} to {small[-1]} voxels of "
                f"{config.coarse_spacing[0]:g} to {config.coarse_spacing[1]:g} mm, then "
                f"{config.total - config.coarse_steps} steps of {config.batch} of {large[0]} to {large[-1]} voxels of "
                f"{GRID_MM:g} mm"
            ),
            "loss": (
                "absolute error in HU and cross-entropy of five tissues; in the first cycle bone and enclosed air "
                "weigh 2 to 2.5 times as much"
            ),
            "optimiser": f"AdamW, {_cycles(config)}; weights averaged ({config.ema:g})",
            "seed": config.seed,
            **record,
        },
        metrics=metrics,
        citation=LABELS,
        vector=VectorSpec(2e-3, tolerance_float16=1e-2),
    )


def _cycles(config: Config) -> str:
    """The learning rate's course in words."""
    length = config.restart - config.steps
    course = (
        f"{config.steps} steps from a rate of {config.rate:g} along half a cosine to zero, then {length} from "
        f"{config.second_rate:g} along half a cosine"
    )
    if length < config.second_steps:
        course += f" of {config.second_steps}, cut short from step {config.cool_from} by a straight line"
    course += f" to zero, then, from the weights in float16, {config.third_steps} from {config.third_rate:g} likewise"
    return course


def vector_input() -> torch.Tensor:
    """A small phantom head as test input (1,1,64,32,32), scaled as the normaliser would.

    Twice the network's multiple along one axis: at its coarsest level two voxels are left for the norm to compare.
    """
    mr = simulate_mr(draw_head(seed=5, spacing=5.0), "T1", 5).array
    extents = (64, 32, 32)
    start = [max(0, n - m) // 2 for n, m in zip(mr.shape, extents, strict=True)]
    box = np.zeros(extents, np.float32)
    part = mr[tuple(slice(s, s + m) for s, m in zip(start, extents, strict=True))]
    box[: part.shape[0], : part.shape[1], : part.shape[2]] = part / np.percentile(mr, 99.5)
    return torch.from_numpy(box)[None, None]


def bundle_tissue(out: Path) -> None:
    """Write `tissue-mr-ct` into `out`."""
    Model.build(tissue_card()).save(out / "tissue-mr-ct", force=True)


def _plain(value: Any) -> Any:
    """A setting from JSON as the configuration holds it."""
    if isinstance(value, dict):
        return Contrasts(**{**value, "sequences": tuple(value["sequences"])})
    return tuple(_plain(item) for item in value) if isinstance(value, list) else value


def hours(runs: Sequence[Path]) -> float:
    """Time that the runs took, by the rows of their logs.

    A gap of more than ten times the median is a pause; it counts as the median does, and so does the time before the
    first row.
    """
    spent = 0.0
    for run in runs:
        rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        gaps = np.diff([row["time"] for row in rows if "time" in row])
        if len(gaps):
            usual = float(np.median(gaps))
            spent += usual + float(np.where(gaps > 10 * usual, usual, gaps).sum())
    return spent / 3600


def _begun(run: Path, config: Config) -> list[Cycle]:
    """The cycles of a training that have a checkpoint; InputError without any."""
    begun = [cycle for cycle in cycles(config) if steps_of(run / cycle.name)]
    if not begun:
        raise InputError(f"There is no checkpoint in '{run}'.", next_step="Train first.")
    return begun


def bundle_head(run: Path, out: Path, metrics: Path | None, pictures: Sequence[Path]) -> None:
    """Write `head-mr-ct` into `out` from the averaged weights of `run`."""
    settings = json.loads((run / "config.json").read_text())
    config = Config(**{name: _plain(value) for name, value in settings.items()})
    begun = _begun(run, config)
    steps, weights = averaged(run / begun[-1].name)
    network = build(config)
    network.load_state_dict(weights)
    record = {
        "steps": begun[-1].offset + steps,
        "hours": round(hours([run / cycle.name for cycle in begun]), 1),
        "machine": "two CPU cores, no GPU, shared with other work",
    }
    measured: dict[str, Any] = {}
    if metrics is not None:
        content = json.loads(metrics.read_text())
        measured = {"protocol": content["protocol"], **content["summary"], **content.get("notes", {})}
    model = Model.build(head_card(config, record, measured), network, vector_input())
    model.save(out / "head-mr-ct", force=True, attachments={p.name: p for p in pictures})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("tissue", "head"))
    parser.add_argument("--out", type=Path, required=True, help="folder that holds the model folders")
    parser.add_argument("--run", type=Path, help="folder of the training (head)")
    parser.add_argument("--metrics", type=Path, help="measurements from evaluate (head)")
    parser.add_argument("--picture", type=Path, action="append", default=[], help="picture for the card (head)")
    given = parser.parse_args(arguments)
    if given.which == "tissue":
        bundle_tissue(given.out)
    elif given.run is None:
        parser.error("the head model needs --run")
    else:
        bundle_head(given.run, given.out, given.metrics, given.picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
