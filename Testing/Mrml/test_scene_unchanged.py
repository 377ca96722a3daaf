"""A run that fails or is cancelled leaves the scene as it was, node by node; and it says why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from SynthGANLib.image.volume import Volume
from SynthGANPanel.failure import SynthesisError
from Testing.Headless.scene import add_volume
from Testing.Mrml.scene_cases import state_of


def is_one_sentence(text: str) -> bool:
    """Ends with a full stop, has no line break, names no Python class or traceback."""
    return text.endswith(".") and "\n" not in text and not re.search(r"Traceback|Error\b", text)


def fail(scene: Any, logic: Any, kind: str, *arguments: Any, **choices: Any) -> SynthesisError:
    """Run it, which must fail with `kind` and leave the scene alone; the error."""
    before = state_of(scene)
    with pytest.raises(SynthesisError) as caught:
        logic.synthesize(*arguments, device=choices.pop("device", "cpu"), **choices)
    assert caught.value.kind == kind, caught.value
    assert state_of(scene) == before
    assert is_one_sentence(caught.value.cause), caught.value.cause
    assert caught.value.nextStep, caught.value.cause
    return caught.value


def test_no_input(scene: Any, logic: Any) -> None:
    fail(scene, logic, "input", None)


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"inputVolume": "in"}, "'inputVolume' must be a node of the scene, not 'in'."),
        ({"inputVolume": np.zeros((3, 3, 3))}, "'inputVolume' must be a node of the scene, not ndarray."),
        ({"mask": "in"}, "'mask' must be a node of the scene, not 'in'."),
        ({"outputVolume": "out"}, "'outputVolume' must be a node of the scene, not 'out'."),
        ({"roi": "R"}, "'roi' must be a node of the scene, not 'R'."),
        ({"memoryLimitGb": "2"}, "The memory limit must be a number of GB, not '2'."),
        ({"memoryLimitGb": float("nan")}, "The memory limit must be a number of GB, not nan."),
        ({"memoryLimitGb": -1}, "The memory limit must be a number of GB, not -1."),
        ({"seed": "a"}, "The seed must be a whole number, not 'a'."),
        ({"device": 0}, "The device must be the name of one, not 0."),
    ],
)
def test_what_the_console_may_be_given(
    scene: Any, logic: Any, oblique: Volume, choices: dict[str, Any], told: str
) -> None:
    source = choices.pop("inputVolume", None)
    source = add_volume(scene, oblique, "in") if source is None else source
    assert fail(scene, logic, "input", source, model="tissue-mr-ct", **choices).cause == told


def test_a_sequence_given_by_its_name(scene: Any, logic: Any) -> None:
    before = state_of(scene)
    with pytest.raises(SynthesisError, match="must be a node of the scene, not 'in'"):
        logic.synthesizeSequence("in")
    assert state_of(scene) == before


def test_a_region_that_is_none(scene: Any, logic: Any, oblique: Volume) -> None:
    table = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "table")
    error = fail(scene, logic, "input", add_volume(scene, oblique, "in"), model="tissue-mr-ct", roi=table)
    assert error.cause == "'table' is not a region of interest (markups ROI)."


def test_volumes_that_are_not_in_the_scene(scene: Any, logic: Any, oblique: Volume) -> None:
    source, gone = (add_volume(scene, oblique, name) for name in ("in", "gone"))
    scene.RemoveNode(gone)
    assert fail(scene, logic, "input", gone, model="tissue-mr-ct").cause == "'gone' is not in the scene."
    error = fail(scene, logic, "input", source, model="tissue-mr-ct", outputVolume=gone)
    assert error.cause == "'gone' is not in the scene."


def test_an_empty_volume(scene: Any, logic: Any) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing yet")
    assert "nothing yet" in str(fail(scene, logic, "input", node))


def test_a_volume_without_anything_in_it(scene: Any, logic: Any) -> None:
    source = add_volume(scene, Volume(np.full((20, 20, 20), 7.0, np.float32), np.eye(4)), "constant")
    fail(scene, logic, "unfit", source, model="tissue-mr-ct")


def test_numbers_that_are_none(scene: Any, logic: Any, identity_model: str) -> None:
    array = np.full((20, 20, 20), np.nan, np.float32)
    array[0, 0, :2] = (1.0, 2.0)
    source = add_volume(scene, Volume(array, np.eye(4)), "mostly NaN")
    fail(scene, logic, "input", source, model=identity_model)


def test_a_model_that_is_not_there(scene: Any, logic: Any, oblique: Volume) -> None:
    error = fail(scene, logic, "model", add_volume(scene, oblique, "in"), model="pelvis-mr-ct")
    assert "pelvis-mr-ct" in error.cause


def test_a_model_that_was_tampered_with(
    scene: Any, logic: Any, oblique: Volume, identity_model: str, tmp_path: Path
) -> None:
    folder = tmp_path / "identity-mr-ct"
    folder.mkdir()
    for file in Path(identity_model).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    vector = bytearray((folder / "vector.safetensors").read_bytes())
    vector[-1] ^= 0x40
    (folder / "vector.safetensors").write_bytes(vector)
    fail(scene, logic, "model", add_volume(scene, oblique, "in"), model=str(folder))


def test_a_device_that_is_not_there(scene: Any, logic: Any, identity_model: str, oblique: Volume) -> None:
    source = add_volume(scene, oblique, "in")
    error = fail(scene, logic, "input", source, model=identity_model, device="cuda:77")
    assert "cuda:77" in error.cause


def test_an_output_that_is_the_input(scene: Any, logic: Any, identity_model: str, oblique: Volume) -> None:
    source = add_volume(scene, oblique, "in")
    fail(scene, logic, "input", source, model=identity_model, outputVolume=source)


def test_cancelled_under_way(scene: Any, logic: Any, identity_model: str, oblique: Volume) -> None:
    source = add_volume(scene, oblique, "in")
    chosen = add_volume(scene, Volume(np.ones((3, 3, 3), np.float32), np.eye(4)), "my result")
    before = state_of(scene)
    run = logic.synthesize(source, model=identity_model, device="cpu", outputVolume=chosen, wait=False)
    assert run.running
    run.cancel()
    with pytest.raises(SynthesisError) as caught:
        run.wait()
    assert caught.value.kind == "cancelled"
    assert run.state == "cancelled"
    assert run.resultNode is None
    assert state_of(scene) == before


def test_a_worker_that_is_killed(scene: Any, logic: Any, identity_model: str, oblique: Volume) -> None:
    source = add_volume(scene, oblique, "in")
    before = state_of(scene)
    run = logic.synthesize(source, model=identity_model, device="cpu", wait=False)
    while run._process is None:  # the volume is being written
        run.poll(0.05)
    run._process._process.kill()
    with pytest.raises(SynthesisError) as caught:
        run.wait()
    assert run.state == "failed"
    assert is_one_sentence(caught.value.cause), caught.value.cause
    assert state_of(scene) == before


def test_the_input_removed_under_way(scene: Any, logic: Any, identity_model: str, oblique: Volume) -> None:
    source = add_volume(scene, oblique, "in")
    run = logic.synthesize(source, model=identity_model, device="cpu", wait=False)
    scene.RemoveNode(source)
    before = state_of(scene)
    with pytest.raises(SynthesisError) as caught:
        run.wait()
    assert caught.value.kind == "cancelled"
    assert state_of(scene) == before
