"""The demo as its user runs it: what it leaves, what it prints, and what it says when something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from PIL import Image

from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.tissues import HEAD_LABELS
from Testing.Headless.scene import load_scene, open_scene
from Tools.Demo import demo
from Tools.Demo.nodes import DIFFERENCE_WINDOW_HU


@pytest.fixture(autouse=True)
def own_scene(headless: Any) -> Any:
    """The demo opens and closes a scene of its own; afterwards the tests' scene is the application's again."""
    yield
    slicer.mrmlScene = headless.scene


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, head: dict[str, Any]) -> dict[str, Path]:
    """A source whose numbers are a CT's, for the model that returns its input, and a reference 50 HU below it."""
    folder = tmp_path_factory.mktemp("volumes")
    paths = {"source": folder / "my t1.nii.gz", "reference": folder / "ct.nii.gz"}
    values = np.round(head["ct"].array)
    write_volume(Volume(values, head["ct"].affine, "1"), paths["source"])
    write_volume(Volume(np.maximum(values - 50.0, -1024.0), head["ct"].affine, "HU"), paths["reference"])
    return paths


def test_a_file_with_a_reference(
    files: dict[str, Path], identity_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input", files["source"], "--reference", files["reference"], "--model", identity_model]
    code = demo.main([str(item) for item in (*arguments, "--device", "cpu", "--output", tmp_path / "out")])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["my_t1_synthetic_CT_identity-mr-ct.nrrd", "scene.mrb", "side_by_side.png"]

    source, result = read_volume(files["source"]), read_volume(tmp_path / "out" / names[0])
    assert result.grid.same_as(source.grid)
    np.testing.assert_array_equal(result.array, source.array)

    row = next(line.split() for line in printed.out.splitlines() if line.startswith("soft tissue"))
    assert float(row[3]) == pytest.approx(50.0, abs=0.1)  # MAE: the reference is 50 HU lower everywhere
    assert float(row[4]) == pytest.approx(50.0, abs=0.1)  # mean error, with its sign

    picture = np.asarray(Image.open(tmp_path / "out" / "side_by_side.png"))
    assert picture.shape[1] > picture.shape[0] > 900  # four columns, three rows
    assert picture.std() > 20
    warm = picture[..., 0].astype(int) - picture[..., 2] > 40  # a difference above zero is drawn in red
    assert warm[:, -300:].mean() > 0.1

    opened = open_scene()
    load_scene(opened, tmp_path / "out" / "scene.mrb")
    shown = {
        node.GetLayoutName(): node.GetBackgroundVolumeID()
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", opened.scene)
    }
    volumes = {
        node.GetName(): node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", opened.scene)
    }
    assert shown["Red"] == volumes["my t1"]
    assert shown["Yellow"] == volumes["my t1 synthetic CT (identity-mr-ct)"]
    difference = opened.scene.GetNodeByID(volumes["Difference (synthetic minus truth)"]).GetDisplayNode()
    assert (difference.GetWindow(), difference.GetLevel()) == (2 * DIFFERENCE_WINDOW_HU, 0.0)
    opened.close()


def test_a_file_without_a_reference_claims_no_error(
    files: dict[str, Path], identity_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input", files["source"], "--model", identity_model, "--device", "cpu", "--output", tmp_path]
    assert demo.main([str(item) for item in arguments]) == 0
    printed = capsys.readouterr().out
    assert "was not measured" in printed
    assert "MAE" not in printed


def test_a_segmented_head_is_simulated_with_its_truth(
    identity_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {code: label for label, code in HEAD_LABELS.items()}
    codes = draw_head(2, spacing=4.0)
    labels = np.vectorize(lambda code: numbers.get(code, 507))(codes.array).astype(np.uint16)  # 507: soft tissue
    write_volume(Volume(labels, codes.affine, "label"), tmp_path / "someone.nii.gz")
    arguments = ["--anatomy", tmp_path / "someone.nii.gz", "--contrast", "T2", "--model", identity_model]
    assert demo.main([str(item) for item in (*arguments, "--device", "cpu", "--output", tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "someone_T2_synthetic_CT_identity-mr-ct.nrrd").is_file()
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.split()[3:]]
    assert {"body", "air", "soft", "bone"} <= set(rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "nowhere.nii.gz", "--model", "tissue-mr-ct"], "nowhere.nii.gz"),
        (["--model", "pelvis-mr-ct"], "pelvis-mr-ct"),
        (["--reference", "ct.nii.gz", "--model", "tissue-mr-ct"], "reference"),
        (["--anatomy", "a.nii.gz", "--input", "b.nii.gz", "--model", "tissue-mr-ct"], "anatomy"),
    ],
)
def test_a_mistake_is_told_in_a_sentence_and_nothing_is_written(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([*arguments, "--output", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def test_results_in_a_users_folder_are_not_replaced_unasked(
    files: dict[str, Path], identity_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scene.mrb").write_text("mine")
    arguments = [str(item) for item in ("--input", files["source"], "--model", identity_model, "--output", tmp_path)]
    assert demo.main(arguments) == 2
    assert "scene.mrb' exists already" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    assert demo.main([*arguments, "--device", "cpu", "--force"]) == 0
    assert (tmp_path / "scene.mrb").stat().st_size > 1000


def test_an_interrupted_run_leaves_nothing(
    files: dict[str, Path],
    identity_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from Testing.Headless import scene

    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scene, "save_scene", interrupted)
    arguments = ["--input", files["source"], "--model", identity_model, "--device", "cpu", "--output", tmp_path / "out"]
    assert demo.main([str(item) for item in arguments]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_the_header_says_is_heeded(
    files: dict[str, Path],
    identity_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A PET, which the header names, is refused as in the shell, although the scene's node would not tell."""
    volume = read_volume(files["source"])
    pet = volume.with_array(volume.array, meta={"modality": "PT"})
    monkeypatch.setattr(demo, "read_volume", lambda *_arguments, **_options: pet)
    arguments = ["--input", files["source"], "--model", identity_model, "--output", tmp_path / "out"]
    assert demo.main([str(item) for item in arguments]) == 3
    assert "The volume is PT" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
