"""The numbers that the demo prints: against the truth where it is known, else what the image itself says."""

from __future__ import annotations

from typing import Any

import numpy as np

from SynthGANLib.evaluation.metrics import ct_regions, evaluate, region_errors
from SynthGANLib.image.volume import Volume

SOFT_TISSUE_HU = 40.0  # what a guess that has not looked at the image says everywhere in the body


def against_truth(synthetic: Volume, truth: Volume, body: Any) -> tuple[list[str], str]:
    """A table of errors in HU inside `body` (z, y, x), beside a constant guess; one line for the picture."""
    guess = synthetic.with_array(np.full(synthetic.shape, SOFT_TISSUE_HU, np.float32))
    overall, plain = evaluate(synthetic, truth, body), evaluate(guess, truth, body)
    regions = ct_regions(truth, body)
    rows = {"body": overall, **region_errors(synthetic, truth, regions)}
    guesses = {"body": plain, **region_errors(guess, truth, regions)}
    lines = [f"{'region':<14}{'voxels':>10}{'MAE, HU':>11}{'ME, HU':>11}{'constant guess MAE, HU':>26}"]
    lines += [
        f"{name:<14}{row['MAE'].voxels:>10}{row['MAE'].value:>11.1f}{row['ME'].value:>+11.1f}"
        f"{guesses[name]['MAE'].value:>26.1f}"
        for name, row in rows.items()
    ]
    low, high = overall["PSNR"].data_range
    lines += [
        f"PSNR in the body {overall['PSNR'].value:.1f} dB over {low:.0f} to {high:.0f} HU.",
        "MAE, ME and PSNR as SynthRAD2025 defines them; the constant guess is "
        f"{SOFT_TISSUE_HU:.0f} HU everywhere in the body.",
    ]
    note = (
        f"in the body: MAE {overall['MAE'].value:.0f} HU (constant guess {plain['MAE'].value:.0f}), "
        f"PSNR {overall['PSNR'].value:.1f} dB, by SynthRAD2025"
    )
    return lines, note


def without_truth(synthetic: Volume, body: Any) -> tuple[list[str], str]:
    """Lines that describe a synthetic image by itself; they say nothing about how right it is."""
    values = synthetic.array[body]
    litres = float(body.sum()) * float(np.prod(synthetic.spacing)) / 1e6
    lines = [f"body {litres:.2f} l, values {values.min():.0f} to {values.max():.0f} {synthetic.unit}"]
    if synthetic.unit == "HU":
        parts = ct_regions(synthetic, body)
        lines += [
            f"{name:<14}{100 * part.sum() / body.sum():>8.1f} % of the body"
            + (f", median {np.median(synthetic.array[part]):.0f} HU" if part.any() else "")
            for name, part in parts.items()
        ]
    lines.append("No reference was given, so how right this is was not measured.")
    return lines, "no reference was given, so the error was not measured"
