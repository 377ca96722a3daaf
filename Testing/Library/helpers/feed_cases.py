"""Feeds over the drawn subjects of `list_cases`, shared by the tests of what a training draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from list_cases import save, setup, without, write_list

from SynthGANLib.data.cases import Spatial
from SynthGANLib.data.datalist import DataList, read_datalist
from SynthGANLib.data.feed import Feed

PLAIN = {"source": {"kind": "identity"}, "target": {"kind": "identity"}}


def listed(folder: Path, kind: str = "paired", **fields: Any) -> DataList:
    entries = [
        {"subject": f"s{n}", "source": f"s{n}_mr.nii.gz", "target": f"s{n}_ct.nii.gz", "mask": f"s{n}_mask.nii.gz"}
        for n in range(5)
    ]
    if kind == "unpaired":
        training = [*without(entries[:2], "target"), *without(entries[1:4], "source")]
    elif kind == "mixed":
        training = [*entries[:2], *without(entries[2:3], "target")]
    elif kind == "unconditional":
        training = [{**entry, "label": n % 2} for n, entry in enumerate(without(entries[:4], "source"))]
        fields = {"source": None, **fields}
    else:
        training, fields = entries[:4], {"validation": entries[4:], **fields}
    return read_datalist(write_list(folder, training, kind=kind, **fields))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


CONFIGURATIONS = {
    "paired 2d": ("paired", 2, (32, 32), {}),
    "paired 3d": ("paired", 3, (16, 24, 24), {}),
    "paired 2.5d": ("paired", 2, (24, 24), {"spatial": Spatial(axis="all", neighbours=1)}),
    "unpaired": ("unpaired", 2, (32, 32), {}),
    "mixed": ("mixed", 2, (32, 32), {}),
    "unconditional": ("unconditional", 2, (32, 32), {}),
}


def feed_of(folder: Path, name: str, **more: Any) -> Feed:
    kind, dims, patch, fields = CONFIGURATIONS[name]
    channels = (3, 1) if "2.5d" in name else (1, 1)
    return Feed(listed(folder, kind), setup(dims, patch, channels=channels), seed=more.pop("seed", 7), **fields, **more)


def index_volumes(folder: Path, shape: tuple[int, int, int], **extra: np.ndarray) -> list[dict[str, str]]:
    """One pair whose source holds each voxel's own number, and whose target 2 times it plus 1."""
    index = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    entry = {"subject": "i", "source": save(index, folder / "i.nii.gz")}
    entry["target"] = save(2 * index + 1, folder / "t.nii.gz")
    for name, array in extra.items():
        entry[name] = save(array, folder / f"{name}.nii.gz", "label" if name != "weight" else "1")
    return [entry]


ONE = {"modality": "OT", "unit": "1"}
