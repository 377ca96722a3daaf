"""Each bundled model on a simulated head, through the scene: bone is bone, air is air, and no plain guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer

from SynthGANLib.evaluation.metrics import ct_regions, evaluate
from SynthGANLib.image.volume import Volume
from SynthGANPanel.scene.nodes import volumeFromNode
from Testing.Headless.scene import add_volume
from Testing.Mrml.scene_cases import bundled_models

MODELS = bundled_models()


@pytest.fixture(scope="module")
def outcomes(headless: Any, logic: Any, head: dict[str, Any]) -> Any:
    """The source node, and the result node of each model by its id."""
    source = add_volume(headless.scene, head["mr"], "Phantom T1")
    results = {model: logic.synthesize(source, model=model, device="cpu") for model in MODELS}
    yield source, results
    for node in (*results.values(), source):
        headless.scene.RemoveNode(node)


def errors(image: Volume, head: dict[str, Any]) -> dict[str, float]:
    """Mean absolute error in HU in the body and in its bone."""
    bone = ct_regions(head["ct"], head["body"])["bone"]
    return {
        name: evaluate(image, head["ct"], region)["MAE"].value
        for name, region in (("body", head["body"]), ("bone", bone))
    }


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice coefficient of two masks."""
    return float(2.0 * (a & b).sum() / (a.sum() + b.sum()))


def test_both_are_there() -> None:
    assert {"tissue-mr-ct", "head-mr-ct"} <= set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_geometry_and_unit(outcomes: Any, model: str) -> None:
    source, results = outcomes
    assert slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(source, results[model]) == ""
    np.testing.assert_array_equal(volumeFromNode(results[model]).affine, volumeFromNode(source).affine)
    assert volumeFromNode(results[model]).unit == "HU"


@pytest.mark.parametrize("model", MODELS)
def test_values_are_those_of_a_ct(outcomes: Any, model: str) -> None:
    values = slicer.util.arrayFromVolume(outcomes[1][model])
    assert np.isfinite(values).all()
    assert values.min() >= -1024.0
    assert values.max() <= 3071.0
    assert values.max() > 700.0  # there is bone
    assert (values[:2, :2, :2] <= -900.0).all()  # the corner is air


@pytest.mark.parametrize("model", MODELS)
def test_it_beats_soft_tissue_everywhere(outcomes: Any, head: dict[str, Any], model: str) -> None:
    """The error in the body and in bone is below that of saying 40 HU everywhere, which needs no image."""
    guess = head["ct"].with_array(np.full(head["ct"].shape, 40.0, np.float32))
    ours, plain = errors(volumeFromNode(outcomes[1][model]), head), errors(guess, head)
    assert ours["body"] < plain["body"]
    assert ours["bone"] < plain["bone"]


def test_the_network_beats_the_tissue_method(outcomes: Any, head: dict[str, Any]) -> None:
    network, tissue = (errors(volumeFromNode(outcomes[1][model]), head) for model in ("head-mr-ct", "tissue-mr-ct"))
    assert network["body"] < tissue["body"]
    assert network["bone"] < tissue["bone"]


def test_the_network_halves_the_error_of_a_guess(outcomes: Any, head: dict[str, Any]) -> None:
    """Below half of saying 40 HU everywhere, in bone far below, and the skull where it is."""
    guess = head["ct"].with_array(np.full(head["ct"].shape, 40.0, np.float32))
    network, plain = errors(volumeFromNode(outcomes[1]["head-mr-ct"]), head), errors(guess, head)
    assert network["body"] < 0.5 * plain["body"]
    assert network["bone"] < 0.4 * plain["bone"]
    made = slicer.util.arrayFromVolume(outcomes[1]["head-mr-ct"])
    assert overlap(made > 200.0, head["ct"].array > 200.0) > 0.75


@pytest.mark.parametrize("model", MODELS)
def test_the_result_follows_the_head(outcomes: Any, head: dict[str, Any], model: str) -> None:
    """The skull lies best on the true one as it is: any turn or shift of the result would lie worse."""
    made = slicer.util.arrayFromVolume(outcomes[1][model]) > 200.0
    true = head["ct"].array > 200.0
    as_it_is = overlap(made, true)
    for axis in (0, 1):  # a head is nearly its own mirror image from left to right
        assert overlap(np.flip(made, axis), true) < as_it_is
    for axis in (0, 1, 2):
        for step in (-1, 1):
            assert overlap(np.roll(made, step, axis), true) < as_it_is
