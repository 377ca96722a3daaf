"""What the zoo trains on: collections of images, and the tasks that pair their files as source and target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from SynthGANLib.data.datalist import DataList, Kind, read_datalist
from SynthGANLib.files import write_json
from Tools.Zoo.heads import heads
from Tools.Zoo.material import Collection, Item, blocks, fundus, slice_stacks, small_photographs

_UNCLEAR = "unclear; numbers only"
_PERSON = "of one person: cut into blocks of slices, so nothing is said about other people"

COLLECTIONS: Mapping[str, Collection] = {
    item.name: item
    for item in (
        Collection(
            "heads", "whole heads: real anatomy (SynthSeg label maps), simulated images at 3 mm",
            "Apache-2.0 (labels)", True, "13 heads to train on, 3 (05, 09, 16) held out", heads,
        ),
        Collection(
            "aanlib-ct", "Whole Brain Atlas, registered CT and MR slices of 7 patients, 8 bit, 96 pixels",
            _UNCLEAR, False, "5 patients to train on, 2 held out",
            slice_stacks("harvard_aanlib/ct_mr", {"ct": "ct", "mr": "mr"}, ("case33", "case41")),
        ),
        Collection(
            "aanlib-spect", "Whole Brain Atlas, SPECT and MR slices of 10 patients, 8 bit, 96 pixels",
            _UNCLEAR, False, "8 patients to train on, 2 held out",
            slice_stacks("harvard_aanlib/spect_mr", {"spect": "spect", "mr": "mr"}, ("case15", "case35")),
        ),
        Collection(
            "aanlib-pet", "Whole Brain Atlas, FDG PET (color index) and T1 of one subject, 96 pixels",
            _UNCLEAR, False, f"slices {_PERSON}",
            blocks(
                {
                    "t1": ("harvard_aanlib/pet_mr/subjectA_normal/subjectA_t1_3d.nii.gz", 1.0),
                    "pet": ("harvard_aanlib/pet_mr/subjectA_normal/subjectA_pet_3d.nii.gz", 1.0),
                },
                (2.2917, 2.2917, None), (0.45, 0.6), 3,
            ),
        ),
        Collection(
            "patients-18", "CT, T1 and T2 slices of 7 patients' brains, roughly registered, 8 bit, 96 pixels",
            _UNCLEAR, False, "5 patients to train on, 2 held out",
            slice_stacks(
                "paired_ct_t1_t2_18pts", {"ct": "ct", "t1": "t1", "t2": "t2"}, ("Patient_07", "Patient_09"),
                tuple(f"Patient_0{number}" for number in (1, 3, 4, 5, 7, 8, 9)),
            ),
        ),
        Collection(
            "drive", "DRIVE fundus photographs and vessel masks of 28 people, 96 pixels", "research only; numbers only",
            False, "23 people to train on, 5 held out", fundus,
        ),
        Collection(
            "photographs", "fundus photographs of DRIVE and HRF, 32 pixels", "unclear or research only; numbers only",
            False, "every fifth person held out", small_photographs,
        ),
        Collection(
            "meat", "MRI-DIR porcine phantom, real T2 and CT in HU, 2.5 mm", "CC BY 4.0 (Ger et al., Med Phys 2018)",
            True, "slices of one object, cut into blocks",
            blocks(
                {
                    "t2": ("mri_dir_meatphantom/t2.nii.gz", 1.0),
                    "ct": ("mri_dir_meatphantom/ct_on_t2grid_HU.nii.gz", 1.0),
                },
                (2.5, 2.5, 2.5), (0.45, 0.65), 3,
            ),
        ),
        Collection(
            "brainweb", "BrainWeb 06, simulated T1 and FDG-like PET of one head, 3 mm",
            "MIT (pyapetnet)", True, f"slices {_PERSON}",
            blocks(
                {
                    "t1": ("brainweb_sim_pet_mr/t1_simulated_x1000_1.5mm.nii.gz", 1e-3),
                    "pet": ("brainweb_sim_pet_mr/pet_fdg_osem_simulated_x1000_1.5mm.nii.gz", 1e-3),
                },
                (2.0, 2.0, 2.0), (0.45, 0.65), 2,
            ),
        ),
    )
}  # fmt: skip

MR = {"modality": "MR", "unit": "1"}
T1 = {**MR, "sequence": "T1"}
CT = {"modality": "CT", "unit": "HU"}
GREY_CT = {"modality": "CT", "unit": "1"}
PET = {"modality": "PT", "unit": "SUVbw"}
GREY_PET = {"modality": "PT", "unit": "1"}
SPECT = {"modality": "NM", "unit": "1"}
VESSELS = {"modality": "OT", "unit": "label"}
PHOTO = {"modality": "OP", "unit": "RGB"}

HU, SUV, ARBITRARY, GREY = (-1024.0, 3071.0), (0.0, 20.0), (0.0, 1000.0), (0.0, 255.0)


@dataclass(frozen=True)
class Task:
    """Source and target files of a collection, and how what comes out is measured.

    Attributes:
        name, title: title says the direction for people.
        collection: where the files come from. source, target: keys of its items; source is empty for generation.
        source_side, target_side: as a data list says them.
        kind: of the data list. limits: range of intensities that PSNR and SSIM are computed with.
        unit: of the MAE. mask: key of the region that images are normalised in. region: key of a mask that is measured
            in; "" for the mask. weight: key of voxel weights, "" for none.
        pairs: the task with the same validation whose pairs the baselines are trained on; "" for this one.
        note: what a reader of the numbers must know.
        most: training items that are used; None for all.
    """

    name: str
    title: str
    collection: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    source_side: Mapping[str, Any]
    target_side: Mapping[str, Any]
    limits: tuple[float, float]
    unit: str
    kind: Kind = "paired"
    mask: str = "body"
    region: str = ""
    weight: str = ""
    pairs: str = ""
    note: str = ""
    most: int | None = None

    @property
    def generates(self) -> bool:
        """Images from noise: there is no source, not even an image with a hole."""
        return not self.source and not self.pairs

    @property
    def reference(self) -> str:
        """The task that the baselines are trained on."""
        return self.pairs or self.name

    def written(self, data: Path, root: Path) -> Path:
        """The data list of the task, below `root`; its collection is prepared if it is not. InputError as there."""
        items = COLLECTIONS[self.collection].prepare(data, root)
        path = root / self.collection / f"{self.name}.json"
        write_json(path, self.listed(items))
        return path

    def read(self, data: Path, root: Path) -> DataList:
        """The data list, read and checked."""
        return read_datalist(self.written(data, root))

    def listed(self, items: list[Item]) -> dict[str, Any]:
        """The content of the data list."""
        usable = [item for item in items if set(self.source) | set(self.target) <= set(item.files)]
        training = [item for item in usable if not item.held][: self.most]
        content: dict[str, Any] = {
            "name": self.name,
            "description": COLLECTIONS[self.collection].title,
            "kind": self.kind,
            "target": {**self.target_side, **_channels(self.target, self.target_side)},
            "validation": [self._entry(item, "both") for item in usable if item.held],
        }
        if self.source:
            content["source"] = {**self.source_side, **_channels(self.source, self.source_side)}
        if self.kind in ("paired", "unconditional"):
            content["training"] = [self._entry(item, "both") for item in training]
            return content
        # The two sides are of different people; a mixed list begins with pairs of a third of them.
        both = len(training) // 3 if self.kind == "mixed" else 0
        content["training"] = [self._entry(item, "both") for item in training[:both]]
        content["training_source"] = [self._entry(item, "source") for item in training[both::2]]
        content["training_target"] = [self._entry(item, "target") for item in training[both + 1 :: 2]]
        return content

    def _entry(self, item: Item, sides: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"subject": item.subject}
        for side, keys in (("source", self.source), ("target", self.target)):
            if keys and sides in ("both", side):
                files = [item.files[key] for key in keys]
                entry[side] = files if len(files) > 1 else files[0]
        if self.mask:
            entry["mask"] = item.files[self.mask]
        if self.region and sides == "both":
            entry["regions"] = item.files[self.region]
        if self.weight:
            entry["weight"] = item.files[self.weight]
        if item.label is not None:
            entry["label"] = item.label
        return entry


def _channels(keys: tuple[str, ...], side: Mapping[str, Any]) -> dict[str, int]:
    return {} if side["unit"] == "RGB" else {"channels": len(keys)}


def _heads(name: str, title: str, source: str, target: str, **more: Any) -> Task:
    """A translation of the simulated heads from one file to another."""
    sides = {"ct": (CT, HU, "HU"), "pet": (PET, SUV, "SUV")}
    from_side = sides.get(source.split("_")[0], (T1, ARBITRARY, "a.u."))[0]
    to_side, limits, unit = sides.get(target, (T1, ARBITRARY, "a.u."))
    more = {"mask": "body_mask", **more}
    return Task(name, title, "heads", (source,), (target,), from_side, to_side, limits, unit, **more)


def _generation(
    name: str, title: str, keys: tuple[str, ...], side: Mapping[str, Any], limits: Any, **more: Any
) -> Task:
    more = {"mask": "small_all", **more}
    return Task(name, title, "heads", (), keys, {}, side, limits, "", "unconditional", **more)


_CT_MR = Task(
    "ct-mr", "CT to MR", "aanlib-ct", ("ct",), ("mr",), GREY_CT, MR, ARBITRARY, "a.u.",
    note="8-bit display values; the MR of a case may be T2, PD or FLAIR.",
)  # fmt: skip
_MR_CT = Task(
    "mr-ct", "MR to CT", "aanlib-ct", ("mr",), ("ct",), MR, GREY_CT, GREY, "gray levels",
    note="8-bit windowed CT, not HU.",
)  # fmt: skip
_HEAD_MR_CT = _heads("heads-mr-ct", "T1 to CT", "t1", "ct")
_T2_T1 = Task(
    "t1-t2", "T1 to T2", "patients-18", ("t1",), ("t2",), T1, {**MR, "sequence": "T2"}, ARBITRARY, "a.u.",
    note="Roughly registered only.",
)  # fmt: skip
_VESSELS = Task(
    "vessels-fundus", "vessels to fundus", "drive", ("vessels",), ("photo",), VESSELS, PHOTO, GREY, "of 255",
    mask="view",
)  # fmt: skip
_MASKED = Task(
    "heads-ct-mr-brain", "CT with brain mask to T1 with brain mask", "heads", ("ct_shown", "brain_picture"),
    ("t1", "brain_picture"), GREY_CT, MR, ARBITRARY, "a.u.", mask="body_mask",
    note="Measured on the image, not on the mask beside it.",
)  # fmt: skip
_HOLES = Task(
    "heads-holes", "T1 with a hole to T1", "heads", ("t1_empty", "hole"), ("t1",), MR, T1, ARBITRARY, "a.u.",
    mask="body_mask", region="hole_mask", note="Measured in the holes alone.",
)  # fmt: skip

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        _MR_CT, _CT_MR,
        replace(_MR_CT, name="mr-ct-unpaired", kind="unpaired", pairs="mr-ct"),
        replace(_CT_MR, name="ct-mr-mixed", kind="mixed", pairs="ct-mr"),
        Task("pet-mr", "FDG PET to T1", "aanlib-pet", ("pet",), ("t1",), GREY_PET, T1, ARBITRARY, "a.u.",
             note="PET as color index, not activity."),
        Task("mr-spect", "MR to SPECT", "aanlib-spect", ("mr",), ("spect",), MR, SPECT, GREY, "color index",
             note="Registered less tightly; color index, not activity."),
        Task("ct-t2", "CT to T2", "patients-18", ("ct",), ("t2",), GREY_CT, {**MR, "sequence": "T2"}, ARBITRARY,
             "a.u.", note="Roughly registered only; narrow CT window."),
        _T2_T1, replace(_T2_T1, name="t1-t2-unpaired", kind="unpaired", pairs="t1-t2"),
        Task("meat-mr-ct", "T2 to CT", "meat", ("t2",), ("ct",), {**MR, "sequence": "T2"}, CT, HU, "HU",
             note="One piece of pork: real HU, but not a head."),
        Task("brainweb-mr-pet", "T1 to FDG PET", "brainweb", ("t1",), ("pet",), T1, GREY_PET, (0.0, 8.0), "a.u."),
        _VESSELS, replace(_VESSELS, name="vessels-fundus-unpaired", kind="unpaired", pairs="vessels-fundus"),
        replace(_VESSELS, name="vessels-fundus-64", source=("vessels64",), target=("photo64",), mask="view64"),
        replace(
            _VESSELS, name="landmarks-fundus", title="vessels, disc and cup to fundus",
            source=("vessels", "disc", "cup"),
            note="Disc and cup are circles about the brightest spot of the photograph, drawn by rule.",
        ),
        _HEAD_MR_CT, _heads("heads-ct-mr", "CT to T1", "ct", "t1"),
        _heads("heads-mr-pet", "T1 to FDG PET", "t1", "pet"),
        _heads("heads-pet-mr", "FDG PET to T1", "pet", "t1"), _heads("heads-ct-pet", "CT to FDG PET", "ct", "pet"),
        _heads("heads-pet-ct", "FDG PET to CT", "pet", "ct"),
        replace(_HEAD_MR_CT, name="heads-mr-ct-unpaired", kind="unpaired", pairs="heads-mr-ct"),
        replace(_HEAD_MR_CT, name="heads-4mr-pet", title="T1, T2, PD, FLAIR to FDG PET", target=("pet",),
                source=("t1", "t2", "pd", "flair"), source_side=MR, target_side=PET, limits=SUV, unit="SUV",
                weight="weight"),
        replace(_HEAD_MR_CT, name="heads-ute-ct", title="two UTE echoes to CT", source=("ute_short", "ute_long"),
                source_side=MR),
        replace(_HEAD_MR_CT, name="heads-few-mr-ct", most=3, kind="paired", pairs="heads-mr-ct",
                note="The first 3 heads of 13: every atlas is registered anew to every head."),
        _MASKED, replace(_MASKED, name="heads-ct-mr-brain-unpaired", kind="unpaired", pairs=_MASKED.name),
        _heads("heads-motion", "T1 with motion to T1", "t1_moved", "t1"),
        _heads("heads-resolution", "T1 of half the resolution to T1", "t1_low", "t1"),
        _heads("heads-dose", "FDG PET of a tenth of the dose to full dose", "pet_low", "pet"),
        _HOLES, replace(_HOLES, name="heads-inpainting", kind="unconditional", source=(), pairs=_HOLES.name),
        _generation("small-mr", "T1 slices", ("small_t1",), T1, ARBITRARY),
        _generation("small-ct", "CT slices", ("small_ct",), CT, (-1000.0, 1500.0)),
        _generation("small-pet", "FDG PET slices", ("small_pet",), PET, (0.0, 10.0)),
        _generation("small-pet-classes", "FDG PET slices of three heights", ("third_pet",), PET, (0.0, 10.0),
                    mask="third_all", note="Classes are lower, middle and upper brain; the first is measured."),
        _generation("small-mr-brain", "T1 slices with their brain mask", ("small_t1", "small_brain"), MR, ARBITRARY),
        Task("small-photographs", "fundus photographs", "photographs", (), ("photo",), {}, PHOTO, GREY, "",
             "unconditional", mask=""),
    )
}  # fmt: skip
