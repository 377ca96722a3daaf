"""Model folders that hold atlases: written, run, and refused where they are broken or hostile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from atlas_cases import SPACING, error, pair
from model_folders import edit_json, replace_file

from SynthGANLib.classical import registry
from SynthGANLib.classical.atlas import Atlas, atlas_ct, atlases_of, tensors_of
from SynthGANLib.classical.registration import Registrar
from SynthGANLib.cli.main import main
from SynthGANLib.errors import CancelledError, InputError, ModelError, UnfitInputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.inference.progress import Progress
from SynthGANLib.model.card import METHODS_WITH_TENSORS, MethodSpec
from SynthGANLib.model.model import Model
from SynthGANLib.phantom.anatomy import body_of
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr
from SynthGANLib.training.fit_classical import Case, fit

WEIGHTS = "weights.safetensors"


def test_every_method_with_tensors_is_checked() -> None:
    assert set(registry.TENSOR_CHECKS) == METHODS_WITH_TENSORS
    assert set(registry.METHODS) >= METHODS_WITH_TENSORS
    for name in METHODS_WITH_TENSORS:
        assert set(registry.accepted_arguments(name, tensors=None)) == {"tensors"}
    assert registry.accepted_arguments("tissue", tensors=None, warn=None) == {}


def test_atlases_survive_their_storage() -> None:
    atlas, _ = pair(3)
    found = atlases_of(tensors_of([atlas]))[0]
    assert found.mr.grid.same_as(atlas.mr.grid, tolerance=1e-12)
    assert np.abs(found.ct.array - atlas.ct.array).max() <= 0.5
    assert np.corrcoef(found.mr.array.ravel(), atlas.mr.array.ravel())[0, 1] > 0.999999
    with pytest.raises(InputError, match="different grids"):
        Atlas(atlas.mr, Volume(atlas.ct.array[1:], atlas.ct.affine))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two coarse atlases."""
    cases = []
    for seed in (1, 2):
        atlas, body = pair(seed)
        cases.append(Case(atlas.mr, atlas.ct, body))
    folder = tmp_path_factory.mktemp("atlases") / "two"
    fit("atlas", cases, folder, deformable="demons")
    return folder


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    Model.load(stored).save(tmp_path / "atlas")
    return tmp_path / "atlas"


def test_folder_is_saved_loaded_and_saved_again(stored: Path, folder: Path) -> None:
    first, second = Model.load(stored), Model.load(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "model.json", WEIGHTS]
    assert set(first.tensors) == {f"atlas_{part}_{n}" for part in ("mr", "ct", "affine") for n in (0, 1)}
    for name, array in first.tensors.items():
        np.testing.assert_array_equal(array, second.tensors[name])
        assert not array.flags.writeable
    assert first.card.weights_sha256 == second.card.weights_sha256 != ""
    assert first.network is None
    second.verify()


def test_the_page_tells_the_size_of_the_tensors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the folder and on the command line alike; in no single precision, for their types differ."""
    page = (folder / "README.md").read_text(encoding="utf-8")
    size = (folder / WEIGHTS).stat().st_size
    assert f"| Tensors | {size / 2**20:.1f} MiB |" in page or f"| Tensors | {size / 2**10:.0f} KiB |" in page
    assert "stored in" not in page
    assert main(["info", str(folder)]) == 0
    assert capsys.readouterr().out == page


@pytest.mark.slow
def test_the_whole_way_of_a_head(stored: Path) -> None:
    """An unseen head in another orientation: better than soft tissue everywhere, on exactly its own grid."""
    head = draw_head(9, SPACING)
    mr, ct, body = simulate_mr(head, "T1", 9), simulate_ct(head, 9), body_of(head.array)
    flip = np.array(mr.affine)
    flip[:3, 3] += flip[:3, 0] * (mr.shape[2] - 1)
    flip[:3, 0] *= -1
    source = Volume(mr.array[:, :, ::-1], flip, mr.unit, mr.meta)
    told: list[Progress] = []
    result = synthesize(source, Model.load(stored), mask=body[:, :, ::-1], progress=told.append, device="cpu")
    assert result.shape == source.shape
    np.testing.assert_array_equal(result.affine, source.affine)
    assert result.unit == "HU"
    assert error(result.array[:, :, ::-1], ct, body) < error(np.full(ct.shape, 40.0), ct, body)
    assert (result.array[:, :, ::-1][~body] == -1000).all()
    assert len({round(step.fraction, 3) for step in told if step.stage == "predict"}) > 4


def test_a_failed_registration_is_a_warning_of_the_result(stored: Path, monkeypatch) -> None:
    def fails(self: Registrar, moving: Any, start: Any) -> Any:
        raise RuntimeError("no samples")

    monkeypatch.setattr(Registrar, "_affine", fails)
    atlas, body = pair(5, 8.0)
    for quick in ("_rigid", "_demons"):
        monkeypatch.setattr(Registrar, quick, lambda self, moving, start: start)
    result = synthesize(atlas.mr, Model.load(stored), mask=body, device="cpu")
    assert sum("affine registration failed" in sentence for sentence in result.meta["warnings"]) == 2


def test_cancelled_run_leaves_by_the_usual_door(stored: Path) -> None:
    atlas, body = pair(5, 8.0)
    told: list[Progress] = []
    with pytest.raises(CancelledError):
        synthesize(
            atlas.mr,
            Model.load(stored),
            mask=body,
            progress=told.append,
            cancel=lambda: bool(told) and told[-1].fraction > 0.4,
            device="cpu",
        )


def test_images_without_contrast_are_refused(stored: Path) -> None:
    atlas, body = pair(5, 8.0)
    tensors = Model.load(stored).tensors
    with pytest.raises(UnfitInputError, match="contrast"):
        atlas_ct(atlas.mr.with_array(np.where(body, 5.0, 0.0)), body, tensors=tensors)
    with pytest.raises(UnfitInputError, match="empty"):
        atlas_ct(atlas.mr, np.zeros_like(body), tensors=tensors)


Arrays = dict[str, np.ndarray]


def change(edit: Callable[[Arrays], object]) -> Callable[[Path], None]:
    """Other tensors, with the card made to agree: hashes are not the only guard."""

    def apply(folder: Path) -> None:
        arrays = {name: array.copy() for name, array in safetensors.numpy.load_file(folder / WEIGHTS).items()}
        edit(arrays)
        replace_file(folder, WEIGHTS, safetensors.numpy.save(arrays))

    return apply


def put(name: str, value: Any) -> Callable[[Path], None]:
    return change(lambda arrays: arrays.__setitem__(name, value))


def header(folder: Path) -> None:
    """Claims that an image is a hundred times as large as its bytes."""
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    content = json.loads(data[8 : 8 + length])
    content["atlas_mr_0"]["shape"][0] *= 100
    text = json.dumps(content).encode()
    replace_file(folder, WEIGHTS, len(text).to_bytes(8, "little") + text + data[8 + length :])


def flip(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-9] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))


SINGULAR = np.zeros((4, 4))
SHEARED = np.array([[8, 4, 0, 0], [0, 8, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1.0]])
HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights missing": (lambda f: (f / WEIGHTS).unlink(), "missing"),
    "weights not listed": (lambda f: edit_json(f, lambda c: c["files"].pop(WEIGHTS)), "does not list"),
    "one bit changed": (flip, "SHA-256"),
    "header lies about the size": (header, "invalid shape"),
    "cut off": (lambda f: replace_file(f, WEIGHTS, (f / WEIGHTS).read_bytes()[:-40]), "truncated"),
    "bytes after the end": (lambda f: replace_file(f, WEIGHTS, (f / WEIGHTS).read_bytes() + b"x"), "after its last"),
    "a pickle": (lambda f: replace_file(f, WEIGHTS, b"\x80\x04N."), "pickle"),
    "no atlas at all": (change(lambda arrays: arrays.clear()), "1 to 64 atlases"),
    "another name": (put("evil", np.zeros(3, np.float32)), "'evil'"),
    "a gap in the numbers": (
        change(lambda a: [a.__setitem__(n.replace("1", "5"), a.pop(n)) for n in list(a) if n.endswith("1")]),
        "without a gap",
    ),
    "leading zero": (change(lambda a: a.__setitem__("atlas_mr_01", a.pop("atlas_mr_1"))), "atlas_mr_01"),
    "CT missing": (change(lambda a: a.pop("atlas_ct_1")), "lacks 'atlas_ct_1'"),
    "CT of another shape": (put("atlas_ct_0", np.zeros((9, 9, 9), np.int16)), "atlas_ct_0"),
    "MR of two dimensions": (put("atlas_mr_0", np.zeros((9, 9), np.int16)), "atlas_mr_0"),
    "MR of few voxels": (put("atlas_mr_0", np.zeros((2, 9, 9), np.int16)), "atlas_mr_0"),
    "MR as int64": (change(lambda a: a.__setitem__("atlas_mr_0", a["atlas_mr_0"].astype(np.int64))), "int64"),
    "empty MR at the end": (change(lambda a: a.update({n: a[n][:0] for n in a if n != "atlas_affine_0"})), "atlas_"),
    "constant MR": (change(lambda a: a["atlas_mr_0"].fill(7)), "constant"),
    "NaN in a CT": (
        change(lambda a: a.__setitem__("atlas_ct_0", np.full(a["atlas_ct_0"].shape, np.nan, np.float32))),
        "NaN",
    ),
    "affine in float32": (put("atlas_affine_0", np.eye(4, dtype=np.float32)), "atlas_affine_0"),
    "affine of another shape": (put("atlas_affine_0", np.eye(3)), "atlas_affine_0"),
    "singular affine": (put("atlas_affine_0", SINGULAR), "placement"),
    "sheared affine": (put("atlas_affine_0", SHEARED), "sheared"),
    "voxels of a kilometre": (put("atlas_affine_0", np.diag([1e6, 1e6, 1e6, 1.0])), "huge"),
    "infinite affine": (put("atlas_affine_0", np.diag([np.inf, 1, 1, 1])), "infinite"),
    "argument of that name": (
        lambda f: edit_json(f, lambda c: c["method"]["arguments"].update(tensors=1)),
        "do not fit",
    ),
    "unknown argument": (lambda f: edit_json(f, lambda c: c["method"]["arguments"].update(evil=1)), "evil"),
    "tensors for a method without": (
        lambda f: edit_json(f, lambda c: c["method"].update(name="tissue", arguments={})),
        "without weights and vector",
    ),
    "a vector": (
        lambda f: [replace_file(f, "vector.safetensors", safetensors.numpy.save({"input": np.zeros(1, np.float32)}))],
        "without vector",
    ),
}


@pytest.mark.parametrize(("damage", "word"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_folder_is_refused_in_a_sentence(folder: Path, damage: Callable[[Path], Any], word: str) -> None:
    damage(folder)
    with pytest.raises(ModelError) as caught:
        Model.load(folder)
    sentence = str(caught.value)
    assert word in sentence
    assert str(folder) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert caught.value.next_step


def test_types_numpy_does_not_have_are_refused(folder: Path) -> None:
    replace_file(folder, WEIGHTS, safetensors.torch.save({"atlas_mr_0": torch.zeros(8, 8, 8, dtype=torch.bfloat16)}))
    with pytest.raises(ModelError, match="BF16"):
        Model.load(folder)


def test_build_takes_what_fits_and_nothing_else(stored: Path) -> None:
    model = Model.load(stored)
    bare = replace(model.card, files={})
    with pytest.raises(ModelError, match="1 to 64 atlases"):
        Model.build(bare)
    with pytest.raises(ModelError, match="takes no tensors"):
        Model.build(replace(bare, method=MethodSpec("classical", "tissue")), tensors=model.tensors)
    broken = {**model.tensors, "atlas_ct_0": np.full(model.tensors["atlas_ct_0"].shape, np.nan, np.float32)}
    with pytest.raises(ModelError, match="NaN"):
        Model.build(bare, tensors=broken)
    mine = {name: array.copy() for name, array in model.tensors.items()}
    built = Model.build(bare, tensors=mine)
    mine["atlas_mr_0"][:] = 0
    assert built.tensors["atlas_mr_0"].any()


def test_wrong_choices_are_told(stored: Path, tmp_path: Path) -> None:
    atlas, body = pair(5, 8.0)
    tensors = Model.load(stored).tensors
    for arguments, word in (({"fusion": "vote"}, "vote"), ({"deformable": "magic"}, "magic")):
        with pytest.raises(ModelError, match=word):
            atlas_ct(atlas.mr, body, tensors=tensors, **arguments)
        with pytest.raises(ModelError, match=word):
            fit("atlas", [Case(atlas.mr, atlas.ct, body)], tmp_path / "m", **arguments)
    assert not list(tmp_path.iterdir())


def test_size_limit_tells_a_spacing_that_fits(tmp_path: Path) -> None:
    atlas, body = pair(5, 8.0)
    case = Case(atlas.mr, atlas.ct, body)
    with pytest.raises(InputError, match=r"0\.1 MiB are allowed") as caught:
        fit("atlas", [case, case], tmp_path / "m", spacing=4.0, limit_bytes=100_000)
    wanted = float(caught.value.next_step.split(" mm")[0].split()[-1])
    assert 4.0 < wanted < 20.0
    report = fit("atlas", [case, case], tmp_path / "m", spacing=wanted, limit_bytes=100_000)
    assert (tmp_path / "m" / WEIGHTS).stat().st_size < 102_000
    assert "MiB" in report.facts["size"]


def test_tissue_recipe_writes_the_method(tmp_path: Path) -> None:
    report = fit("tissue", [], tmp_path / "tissue", id="my-tissue")
    assert Model.load(tmp_path / "tissue").card.id == "my-tissue"
    assert report.model.tensors == {}
