"""Between nodes and volumes: places, units, colors, masks, and what a result carries."""

import dataclasses
import json

import numpy as np
import pytest
import slicer
from panelCases import addVolume, waitUntil

from SynthGANLib.image.volume import Volume
from SynthGANLib.io.volumes import read_volume
from SynthGANPanel import selftest
from SynthGANPanel.runs import raster, request
from SynthGANPanel.scene import masks, nodes

TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64", ">i2"]


def colorCard():
    """A card like a bundled one, but from and to colors."""
    card = request.findCard("tissue-mr-ct")
    source = dataclasses.replace(card.source, modality="OP", unit="RGB", channels=3)
    target = dataclasses.replace(card.target, modality="FA", unit="RGB", channels=3, range=(0, 255), background=0.0)
    return dataclasses.replace(card, source=source, target=target)


@pytest.mark.parametrize("dtype", DTYPES)
def test_raster_is_read_as_it_was_written(tmp_path, dtype):
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    affine = np.eye(4)
    affine[:3] = np.c_[TURN * (0.7, 1.1, 3.0), (10.0, -20.25, 1 / 3)]
    raster.write(Volume(array, affine), tmp_path / "vólume.nrrd")
    back = read_volume(tmp_path / "vólume.nrrd")
    np.testing.assert_array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, affine, rtol=0, atol=1e-12)


def test_raster_keeps_colors_and_broken_values(tmp_path):
    colors = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    raster.write(Volume(colors, np.eye(4), "RGB"), tmp_path / "colors.nrrd")
    np.testing.assert_array_equal(read_volume(tmp_path / "colors.nrrd").array, colors)
    broken = np.array([[[np.nan, np.inf, -1.5]]], np.float32)
    raster.write(Volume(broken, np.eye(4)), tmp_path / "broken.nrrd")
    np.testing.assert_array_equal(read_volume(tmp_path / "broken.nrrd").array, broken)


def test_volume_lies_where_the_node_lies(head):
    volume = nodes.volumeFromNode(head)
    for ijk in ((0, 0, 0), (7, 6, 5), (1, 2, 3)):
        ras = nodes.ijkToRAS(head) @ (*ijk, 1)
        np.testing.assert_allclose(volume.affine @ (*ijk, 1), ras * (-1, -1, 1, 1))
    assert np.shares_memory(volume.array, slicer.util.arrayFromVolume(head))


def codedEntry(*code):
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*code)
    return entry


def test_units_are_told_from_coded_entries(head):
    assert nodes.unitOf(head) is None
    head.SetVoxelValueQuantity(codedEntry("110852", "DCM", "MR signal intensity"))
    assert nodes.unitOf(head) == "1"
    head.SetVoxelValueUnits(codedEntry("[hnsf'U]", "UCUM", "Hounsfield unit"))
    assert nodes.unitOf(head) == "HU"
    head.SetVoxelValueUnits(codedEntry("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight"))
    assert nodes.unitOf(head) == "SUVbw"


def addColors(components):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "fundus")
    array = np.random.default_rng(3).integers(0, 256, (1, 5, 6, components), np.uint8)
    slicer.util.updateVolumeFromArray(node, array)
    return node, array


def test_transparency_of_colors_is_left_out(scene):
    node, array = addColors(4)
    assert nodes.unitOf(node) == "RGB"
    np.testing.assert_array_equal(nodes.volumeFromNode(node).array, array[..., :3])


def test_colors_go_both_ways(panel, worker, monkeypatch):
    node, array = addColors(3)
    card = colorCard()
    monkeypatch.setattr(request, "findCard", lambda model: card)
    worker("good")
    wrong = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "grey")
    with pytest.raises(RuntimeError, match="which is a color"):
        panel.logic.synthesize(node, model="tissue-mr-ct", outputVolume=wrong)
    result = panel.logic.synthesize(node, model="tissue-mr-ct")
    assert result.IsA("vtkMRMLVectorVolumeNode")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), 255 - array)
    assert result.GetVoxelValueUnits() is None


def test_result_carries_its_story(panel, head, worker):
    worker("good")
    result = panel.logic.synthesize(head, model="tissue-mr-ct")
    attributes = {name: result.GetAttribute("SynthGAN." + name) for name in (
        "ModelId", "ModelVersion", "WeightsSHA256", "Device", "InputName", "InputNodeID", "Mask", "Seed", "Intent"
    )}  # fmt: skip
    card = request.findCard("tissue-mr-ct")
    assert attributes == {
        "ModelId": card.id, "ModelVersion": card.version, "WeightsSHA256": "ab" * 32, "Device": "cpu",
        "InputName": "head", "InputNodeID": head.GetID(), "Mask": "none", "Seed": "none", "Intent": "research only",
    }  # fmt: skip
    assert json.loads(result.GetAttribute("SynthGAN.Versions")) == {"torch": "2.13.0"}
    assert json.loads(result.GetAttribute("SynthGAN.Warnings")) == ["The volume states no unit."]
    assert result.GetAttribute("SynthGAN.Date").endswith("+00:00")


@pytest.mark.parametrize(
    ("preset", "shown"),
    [
        ("", (350.0, 40.0, "vtkMRMLColorTableNodeGrey")),
        ("CT_BONE", (1000.0, 400.0, "vtkMRMLColorTableNodeGrey")),
        ("CT-Brain", (100.0, 50.0, "vtkMRMLColorTableNodeGrey")),
    ],
)
def test_result_is_shown_as_ct(panel, head, worker, monkeypatch, preset, shown):
    card = request.findCard("tissue-mr-ct")
    card = dataclasses.replace(card, target=dataclasses.replace(card.target, display=preset))
    monkeypatch.setattr(request, "findCard", lambda model: card)
    worker("good")
    display = panel.logic.synthesize(head, model="tissue-mr-ct").GetDisplayNode()
    assert not display.GetAutoWindowLevel()
    assert (display.GetWindow(), display.GetLevel(), display.GetColorNodeID()) == shown


def test_result_lies_beside_its_source_in_the_study(panel, head, worker):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    subject = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(subject, "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(head), study)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "couch")
    head.SetAndObserveTransformNodeID(transform.GetID())
    worker("good")
    result = panel.logic.synthesize(head, model="tissue-mr-ct")
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study
    assert result.GetTransformNodeID() == transform.GetID()


def test_mask_under_another_transform_is_brought_to_the_input(head):
    couch = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "couch")
    shift = np.eye(4)
    shift[:3, 3] = (10, 20, 30)
    couch.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    head.SetAndObserveTransformNodeID(couch.GetID())
    mask = selftest.addVolume(np.eye(3, dtype=np.uint8)[None] * 5, np.eye(4), "mask")
    volume = masks.maskFromNode(mask, head)
    assert volume.unit == "label"
    assert set(np.unique(volume.array)) == {0, 1}
    np.testing.assert_allclose(volume.affine[:3, 3], (10, 20, -30))  # LPS of RAS (-10, -20, -30)


def test_input_moved_during_the_run_is_refused(panel, head, worker):
    worker("slow")
    run = panel.logic.synthesize(head, model="tissue-mr-ct", wait=False)
    head.SetOrigin(1, 2, 3)
    waitUntil(lambda: not run.running)
    assert "was moved or cut while the synthesis was running" in str(run.error)
    assert panel.logic.latestResult(head) is None


def test_two_results_of_one_input_both_stay(panel, head, worker):
    worker("good")
    first, second = (panel.logic.synthesize(head, model="tissue-mr-ct") for _ in range(2))
    assert first is not second
    assert second.GetName() == first.GetName() + "_1"
    assert panel.logic.latestResult(head) is second


def test_single_slice_and_large_values_survive(panel, worker):
    node = addVolume(np.full((1, 4, 5), 30000, np.int16), "slice")
    worker("good")
    result = panel.logic.synthesize(node, model="tissue-mr-ct")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), np.full((1, 4, 5), 29000))
