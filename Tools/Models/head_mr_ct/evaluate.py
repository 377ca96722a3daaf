"""Measure a head MR-to-CT model on heads kept out of its training, beside the tissue method and a constant guess.

Every head is simulated whole at 1 mm in each contrast, goes through the same `synthesize` as a user's volume, and is
measured in the body by the SynthRAD2025 definition. The body is the head's own outline, not one found in the image.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SynthGANLib.evaluation.metrics import Metric, ct_regions, evaluate, region_errors
from SynthGANLib.image.geometry import conform
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.io.volumes import read_volume
from SynthGANLib.model.model import Model
from SynthGANLib.phantom.anatomy import body_of, mark_cavities, tissue_codes
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr

CONTRASTS = ("T1", "T2", "PD", "FLAIR")
CONSTANT_HU = 40.0
MODEL = "model"
PROTOCOL = "synthrad2025, body mask, range -1024 to 3071 HU; MAE and ME in HU, PSNR in dB with data range 4095"

Method = Callable[[Volume, np.ndarray[Any, np.dtype[np.bool_]]], Volume]


def head_volume(path: Path, spacing: float = 1.0) -> Volume:
    """Tissue codes of a label map on an LPS grid of `spacing` mm."""
    labels = read_volume(path, unit="label")
    grid = conform(labels, orientation="LPS", spacing=(spacing,) * 3, interpolation="nearest")
    return mark_cavities(tissue_codes(grid.volume))


def with_model(model: Model) -> Method:
    """The model, finding the body by itself as it would for a user."""
    return lambda mr, _: synthesize(mr, model)


def constant(mr: Volume, body: np.ndarray[Any, np.dtype[np.bool_]]) -> Volume:
    """Soft tissue everywhere in the body, air outside: what a model has to beat."""
    return mr.with_array(np.where(body, CONSTANT_HU, -1000.0).astype(np.float32), unit="HU")


def measure(
    methods: Mapping[str, Method], paths: Sequence[Path], contrasts: Sequence[str] = CONTRASTS, seed: int = 7
) -> list[dict[str, Any]]:
    """One row for each head, contrast and method."""
    rows = []
    for number, path in enumerate(paths):
        head = head_volume(path)
        body = body_of(head.array)
        truth = simulate_ct(head, seed + number)
        regions = ct_regions(truth, body)
        for contrast in contrasts:
            mr = simulate_mr(head, contrast, seed + number)
            for name, method in methods.items():
                result = method(mr, body)
                row: dict[str, Any] = {"head": path.name.split(".")[0], "contrast": contrast, "method": name}
                row |= {key: metric.value for key, metric in evaluate(result, truth, body).items()}
                found: dict[str, dict[str, Metric]] = region_errors(result, truth, regions)
                row |= {f"MAE {region}": errors["MAE"].value for region, errors in found.items()}
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the heads: {contrast: {method: {measure: value}}}, rounded to what the numbers carry."""
    table: dict[str, Any] = {}
    for contrast in dict.fromkeys(r["contrast"] for r in rows):
        table[contrast] = {}
        for method in dict.fromkeys(r["method"] for r in rows):
            chosen = [r for r in rows if r["contrast"] == contrast and r["method"] == method]
            keys = [k for k in chosen[0] if k not in ("head", "contrast", "method")]
            table[contrast][method] = {k: round(float(np.mean([r[k] for r in chosen])), 1) for k in keys}
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", type=Path, nargs="+", help="label maps that were kept out of training")
    parser.add_argument("--model", type=Path, required=True, help="model folder to measure")
    parser.add_argument("--tissue", type=Path, required=True, help="folder of the tissue method to compare with")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for rows and summary")
    parser.add_argument("--reuse", type=Path, help="an earlier result: only the model is measured again")
    given = parser.parse_args(arguments)
    methods: dict[str, Method] = {MODEL: with_model(Model.load(given.model))}
    earlier: list[dict[str, Any]] = []
    if given.reuse is None:
        methods |= {"tissue classes": with_model(Model.load(given.tissue)), "constant 40 HU": constant}
    else:
        earlier = [row for row in json.loads(given.reuse.read_text())["rows"] if row["method"] != MODEL]
    rows = measure(methods, given.heads) + earlier
    given.out.write_text(json.dumps({"protocol": PROTOCOL, "summary": summary(rows), "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
