"""4D: every frame of a sequence synthesized, all or nothing, shown in the same browser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer

from Testing.Mrml.scene_cases import nodes_of

FRAMES = 3


def affine() -> np.ndarray:
    return np.array([[0.0, 0, 2, 5], [1.5, 0, 0, -7], [0, 1.2, 0, 9], [0, 0, 0, 1]])


@pytest.fixture
def sequence(scene: Any) -> Any:
    """(browser, volume that shows the present frame) of three different frames."""
    from SynthGANPanel.selftest import addVolume

    node = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "dynamic")
    node.SetIndexName("time")
    node.SetIndexUnit("s")
    for frame in range(FRAMES):
        volume = addVolume(frame * 1000 + np.arange(8 * 9 * 10, dtype=np.int16).reshape(8, 9, 10), affine(), "frame")
        node.SetDataNodeAtValue(volume, str(frame * 2.5))
        scene.RemoveNode(volume)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(node.GetID())
    proxy = addVolume(np.zeros((8, 9, 10), np.int16), affine(), "dynamic")
    proxy.CopyContent(node.GetNthDataNode(0))
    browser.AddProxyNode(proxy, node, False)
    return browser, proxy


def test_every_frame_is_synthesized(scene: Any, logic: Any, sequence: Any, identity_model: str) -> None:
    from SynthGANPanel.runs import sequences

    browser, proxy = sequence
    heard: list[float] = []
    shown = logic.synthesizeSequence(
        proxy, model=identity_model, device="cpu", progressCallback=lambda fraction, text: heard.append(fraction)
    )
    assert heard == sorted(heard)
    found_browser, result = sequences.sequenceOf(shown)
    assert found_browser is browser
    assert result.GetNumberOfDataNodes() == FRAMES
    assert (result.GetIndexName(), result.GetIndexUnit()) == ("time", "s")
    source = browser.GetMasterSequenceNode()
    for index in range(FRAMES):
        assert result.GetNthIndexValue(index) == source.GetNthIndexValue(index)
        made, given = result.GetNthDataNode(index), source.GetNthDataNode(index)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(made), slicer.util.arrayFromVolume(given))
        assert made.GetAttribute("SynthGAN.ModelId") == "identity-mr-ct"
        assert made.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    assert shown.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    assert shown.GetAttribute("SynthGAN.InputNodeID") == proxy.GetID()
    assert logic.latestResult(proxy) is shown


def test_a_frame_that_fails_leaves_nothing(scene: Any, logic: Any, sequence: Any, identity_model: str) -> None:
    from SynthGANPanel.failure import SynthesisError

    browser, proxy = sequence
    last = browser.GetMasterSequenceNode().GetNthDataNode(FRAMES - 1)
    slicer.util.updateVolumeFromArray(last, np.full((8, 9, 10), 7, np.int16))
    before = {node.GetID() for node in nodes_of(scene)}
    with pytest.raises(SynthesisError, match="Every voxel of the volume is 7"):
        logic.synthesizeSequence(proxy, model=identity_model, device="cpu")
    assert {node.GetID() for node in nodes_of(scene)} == before


def test_a_volume_without_a_sequence_is_told(scene: Any, logic: Any, identity_model: str) -> None:
    from SynthGANPanel.failure import SynthesisError
    from SynthGANPanel.selftest import addVolume

    volume = addVolume(np.zeros((3, 3, 3), np.int16), np.eye(4), "still")
    with pytest.raises(SynthesisError, match="'still' is not a frame of a sequence"):
        logic.synthesizeSequence(volume, model=identity_model)


def test_studies(scene: Any, identity_model: str, logic: Any) -> None:
    """The volumes of one study are sorted into those the model can take and the others, with the reason."""
    from SynthGANPanel.runs import request, studies
    from SynthGANPanel.selftest import addVolume

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "visit 1")
    ramp = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    names = {"t1": ramp, "flat": ramp * 0, "t2": ramp[::-1].copy()}
    made = {name: addVolume(array, np.eye(4), name) for name, array in names.items()}
    elsewhere = addVolume(ramp, np.eye(4), "elsewhere")
    for node in made.values():
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    result = logic.synthesize(made["t1"], model=identity_model, device="cpu")
    assert studies.studyOf(made["t1"])[1] == "visit 1"
    taken, others = studies.fitting(made["t1"], request.findCard(identity_model))
    assert set(taken) == {made["t1"], made["t2"]}
    assert not {result, elsewhere} & set(taken)
    assert [name for name, _reason in others] == ["flat"]
    assert "nothing to synthesize" in others[0][1]
