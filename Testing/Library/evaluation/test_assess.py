"""A whole assessment and the worker's job "measure": right numbers in every row, refusals in words."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import SynthGANLib
from SynthGANLib.errors import CancelledError, InputError
from SynthGANLib.evaluation.assessment import assess, settle_units
from SynthGANLib.evaluation.metrics import evaluate, region_errors
from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import write_volume
from SynthGANLib.jobs.run import run_job
from SynthGANLib.phantom.anatomy import body_of
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr

Images = dict[str, Volume]


@pytest.fixture(scope="module")
def images() -> Images:
    """A head: MR, real CT, a synthetic CT that is 20 HU too bright with noise, and its body."""
    labels = draw_head(3, spacing=5.0)
    ct = simulate_ct(labels, 3)
    noise = np.random.default_rng(0).normal(20, 30, ct.shape)
    fake = ct.with_array(np.rint(ct.array + noise).astype(np.float32))
    ct = ct.with_array(np.rint(ct.array).astype(np.float32))
    body = Volume(body_of(labels.array).astype(np.uint8), ct.affine, "label")
    return {"source": simulate_mr(labels, "T1", 3), "reference": ct, "result": fake, "mask": body}


@pytest.fixture(scope="module")
def files(images: Images, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("měření")
    paths = {name: folder / f"{name}.nrrd" for name in images}
    for name, path in paths.items():
        write_volume(images[name], path)
    return {name: str(path) for name, path in paths.items()}


def ended(job: dict[str, Any], **options: Any) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Exit code, last event, and all events of a job."""
    events: list[dict[str, Any]] = []
    code = run_job({"job": "measure", **job}, events.append, **options)
    return code, events[-1], events


def test_rows_hold_what_the_metrics_say(images: Images) -> None:
    found = assess(images["result"], images["reference"], source=images["source"], mask=images["mask"])
    inside = images["mask"].array > 0
    names = ["MAE", "ME", "PSNR", "SSIM", "MS-SSIM", "PCC"]
    expected = evaluate(images["result"], images["reference"], inside, "synthrad2025", names)
    rows = {row.name: row for row in found.rows if row.accuracy and row.region == "all"}
    assert set(names) <= set(rows)
    assert "NMSE" not in rows
    for name, metric in expected.items():
        assert rows[name].value == metric.value, name
        assert (rows[name].unit, rows[name].protocol, rows[name].mask) == (metric.unit, "synthrad2025", "given")
    assert rows["ME"].value == pytest.approx(20, abs=1)
    assert rows["Upper limit of agreement"].value == pytest.approx(20 + 1.96 * 30, rel=0.03)
    assert rows["SSIM"].how.startswith("range -1024 to 3071, -1024 outside the mask")
    assert (found.compared, found.excluded, found.interpolation) == (int(inside.sum()), 0, "none")
    assert not any(row.accuracy for row in found.rows[-4:])


def test_tissues_are_those_of_the_reference(images: Images) -> None:
    found = assess(images["result"], images["reference"], mask=images["mask"])
    hu, inside = images["reference"].array, images["mask"].array > 0
    bone = inside & (hu > 200)
    expected = region_errors(images["result"], images["reference"], {"bone": bone})["bone"]
    rows = {row.name: row for row in found.rows if row.region == "bone"}
    assert {name: row.value for name, row in rows.items()} == {name: each.value for name, each in expected.items()}
    assert rows["MAE"].voxels == bone.sum()


def test_without_a_reference_nothing_claims_accuracy(images: Images) -> None:
    found = assess(images["result"], source=images["source"])
    assert [row.accuracy for row in found.rows] == [False] * 4
    assert (found.protocol, found.interpolation, found.agreement, found.mask) == ("", "", None, "body of the result")
    assert list(found.images.percent) == ["result"]
    assert found.source is not None
    bare = assess(images["result"])
    assert len(bare.rows) == 1
    assert bare.source is None


def test_the_body_of_the_reference_is_the_mask_unless_one_is_given(images: Images) -> None:
    found = assess(images["result"], images["reference"])
    assert found.mask == "body of the reference"
    assert found.compared == pytest.approx(np.count_nonzero(images["mask"].array), rel=0.05)
    flat = images["reference"].with_array(np.full(images["reference"].shape, 40.0, np.float32))
    everywhere = assess(images["result"], flat)
    assert everywhere.mask == "whole volume"
    assert "No body was found in the reference, so the whole volume was measured." in everywhere.remarks
    assert any("holds no air" in remark for remark in everywhere.remarks)


def test_a_reference_on_part_of_the_result_counts_there_only(images: Images) -> None:
    reference = images["reference"]
    affine = reference.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 12  # without its 12 lowest slices
    part = Volume(reference.array[12:], affine, "HU")
    found = assess(images["result"], part, mask=images["mask"])
    inside = images["mask"].array > 0
    assert found.compared == np.count_nonzero(inside[12:])
    assert found.excluded == 12 * inside[0].size
    assert found.interpolation == "linear"
    rows = {row.name: row for row in found.rows if row.region == "all"}
    kept = inside.copy()
    kept[:12] = False
    expected = evaluate(images["result"], reference, kept)
    assert rows["MAE"].value == pytest.approx(expected["MAE"].value, rel=1e-4)
    assert rows["MAE"].voxels == found.compared


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference": "unit 1"}, "The result is in HU and the reference in arbitrary units"),
        ({"result": "unit BQML", "reference": "unit BQML"}, "no measures for images in BQML"),
        ({"protocol": "suv"}, "'suv' is not for images in HU"),
        ({"protocol": "psnr"}, "There is no protocol 'psnr'"),
        ({"mask": "empty"}, "mask marks no voxel"),
        ({"reference": "colors"}, "has 1 channels and the reference 3"),
    ],
)
def test_what_cannot_be_measured_is_refused(images: Images, changes: dict[str, str], words: str) -> None:
    given: dict[str, Any] = dict(images)
    for name, change in changes.items():
        if change.startswith("unit "):
            given[name] = Volume(images[name].array, images[name].affine, change.removeprefix("unit "))
        elif change == "empty":
            given[name] = images[name].with_array(np.zeros(images[name].shape, np.uint8))
        elif change == "colors":
            given[name] = Volume(np.repeat(images[name].array[..., None], 3, axis=3), images[name].affine, "HU")
        else:
            given[name] = change
    with pytest.raises(InputError, match=words) as refusal:
        assess(given.pop("result"), given.pop("reference"), **given)
    assert refusal.value.next_step


def test_other_units_have_their_protocol() -> None:
    rng = np.random.default_rng(0)
    uptake = rng.gamma(2.0, 1.5, (9, 16, 16)).astype(np.float32)
    whole = Volume(np.ones(uptake.shape, np.uint8), np.eye(4), "label")
    for unit, protocol, tissue in (("SUVbw", "suv", "uptake from 2.5"), ("1", "mr", "all")):
        real = Volume(uptake, np.eye(4), unit)
        found = assess(real.with_array(uptake * 1.1), real, mask=whole)
        assert found.protocol == protocol
        assert tissue in {row.region for row in found.rows}
        assert {row.name: row.value for row in found.rows if row.region == "all"}["NMSE"] == pytest.approx(
            0.01, rel=0.01
        )
    colors = Volume(rng.integers(0, 255, (1, 20, 20, 3), np.uint8), np.eye(4), "RGB")
    same = assess(colors, colors)
    assert (same.protocol, same.mask) == ("rgb", "whole volume")
    psnr = next(row for row in same.to_json()["rows"] if row["name"] == "PSNR")
    assert float(psnr["value"]) == math.inf


def test_units_that_nothing_states_are_assumed_and_told() -> None:
    assert settle_units("HU", "1") == ("HU", [])
    assert settle_units("HU", None)[0] == settle_units(None, "HU")[0] == "HU"
    assert "The reference does not state its unit" in settle_units("HU", None)[1][0]
    assert "The result does not state its unit" in settle_units(None, "HU")[1][0]
    assert settle_units(None, None)[0] == "1"


def test_the_job_tells_the_same_numbers(images: Images, files: dict[str, str]) -> None:
    code, done, events = ended(files)
    assert (code, done["event"]) == (0, "done")
    direct = json.loads(json.dumps(assess(**images).to_json(), allow_nan=False))
    assert {name: done[name] for name in direct} == direct
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert done["versions"]["numpy"] == np.__version__


def test_the_job_says_what_is_wrong_with_it(files: dict[str, str]) -> None:
    for job, words in (
        ({}, "lacks the field 'result'"),
        ({"result": 7}, "'result' of the job must be text that is not empty, not 7"),
        ({"result": files["result"], "mask": False}, "'mask' of the job must be text that is not empty or null"),
        ({"result": files["result"], "color": "red"}, "unknown field 'color'"),
        ({"result": files["result"] + "x"}, "There is no file"),
        ({"result": files["result"], "reference": files["source"], "reference_unit": "1"}, "cannot be compared"),
    ):
        code, last, _events = ended(job)
        assert (code, last["event"], last["kind"]) == (2, "error", "input")
        assert words in last["cause"]


def test_a_cancelled_measurement_ends(files: dict[str, str], images: Images) -> None:
    asked: list[int] = []

    def cancel() -> bool:
        asked.append(1)
        return len(asked) > 3

    code, last, events = ended(files, cancel=cancel)
    assert (code, last["kind"]) == (130, "cancelled")
    assert "done" not in [event["event"] for event in events]

    def enter(stage: str, share: float) -> None:
        if stage == "tissues":
            raise CancelledError("Enough.")

    with pytest.raises(CancelledError):
        assess(**images, enter=enter)


def test_measuring_needs_no_torch(files: dict[str, str]) -> None:
    job = {"job": "measure", **files}
    script = (
        "import json, sys\nsys.modules['torch'] = None\n"  # an import of it would fail from here on
        "from SynthGANLib.jobs.run import run_job\n"
        "sys.exit(run_job(json.loads(sys.argv[1]), lambda event: None))"
    )
    root = Path(SynthGANLib.__file__).parents[1]
    subprocess.run([sys.executable, "-c", script, json.dumps(job)], cwd=root, check=True, timeout=300)
