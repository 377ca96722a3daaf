"""Segments as masks and regions of interest on the real scene: whole voxels, at their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer


def oblique() -> np.ndarray:
    """IJK to RAS of turned voxels of 0.9 x 1.1 x 2.5 mm."""
    turn = np.eye(4)
    turn[:3, :3] = [[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]
    turn[:3, 3] = (12.0, -34.0, 56.0)
    return turn @ np.diag([0.9, 1.1, 2.5, 1.0])


@pytest.fixture
def volume(scene: Any) -> Any:
    from SynthGANPanel.selftest import addVolume

    return addVolume(np.arange(10 * 12 * 14, dtype=np.int16).reshape(10, 12, 14), oblique(), "head")


@pytest.fixture
def segmentation(scene: Any, volume: Any) -> Any:
    """Two segments that overlap in part, on the volume's grid but each stored in its own small extent."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "parts")
    for name, box in (("brain", np.s_[2:6, 3:8, 4:9]), ("skull", np.s_[5:9, 6:11, 1:6])):
        image = slicer.vtkOrientedImageData()
        z, y, x = box
        image.SetExtent(x.start, x.stop - 1, y.start, y.stop - 1, z.start, z.stop - 1)
        image.AllocateScalars(3, 1)  # unsigned char
        image.GetPointData().GetScalars().Fill(1)
        matrix = slicer.util.vtkMatrixFromArray(oblique())
        image.SetGeometryFromImageToWorldMatrix(matrix)
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation("Binary labelmap", image)
        node.GetSegmentation().AddSegment(segment, name)
    return node


def on_grid(mask: Any, volume: Any) -> np.ndarray:
    """The mask's voxels on the grid of the volume node (nearest)."""
    from SynthGANLib.image.resampling import resample_to
    from SynthGANPanel.scene import nodes

    reference = nodes.volumeFromNode(volume)
    return resample_to(mask, reference.grid, fill=0, interpolation="nearest").array


def expected(*boxes: Any) -> np.ndarray:
    array = np.zeros((10, 12, 14), dtype=bool)
    for box in boxes:
        array[box] = True
    return array


BRAIN, SKULL = np.s_[2:6, 3:8, 4:9], np.s_[5:9, 6:11, 1:6]


@pytest.mark.parametrize(("segment", "boxes"), [("brain", [BRAIN]), ("skull", [SKULL]), ("", [BRAIN, SKULL])])
def test_segment_covers_exactly_its_voxels(segmentation: Any, volume: Any, segment: str, boxes: list[Any]) -> None:
    from SynthGANPanel.scene import masks

    before = segmentation.GetMTime()
    found = masks.maskFromNode(segmentation, volume, segment)
    np.testing.assert_array_equal(on_grid(found, volume) != 0, expected(*boxes))
    assert segmentation.GetMTime() == before


def test_segment_under_another_transform_moves_with_it(scene: Any, segmentation: Any, volume: Any) -> None:
    from SynthGANPanel.scene import masks

    shift = np.eye(4)
    shift[:3, 3] = oblique()[:3, 0] * 2  # two voxels along i
    couch = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "couch")
    couch.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    segmentation.SetAndObserveTransformNodeID(couch.GetID())
    found = masks.maskFromNode(segmentation, volume, "brain")
    np.testing.assert_array_equal(on_grid(found, volume) != 0, expected(np.s_[2:6, 3:8, 6:11]))


def test_segments_are_listed_and_faults_named(scene: Any, segmentation: Any, volume: Any) -> None:
    from SynthGANPanel.failure import SynthesisError
    from SynthGANPanel.scene import masks

    assert masks.segments(segmentation) == [("brain", "brain"), ("skull", "skull")]
    assert masks.segments(volume) == []
    with pytest.raises(SynthesisError, match="no longer has the chosen segment"):
        masks.maskFromNode(segmentation, volume, "liver")
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "nothing")
    with pytest.raises(SynthesisError, match="'nothing' holds no voxels"):
        masks.maskFromNode(empty, volume)


def roi(scene: Any, volume: Any, low: Any, high: Any) -> Any:
    """A region from voxel border to voxel border (i, j, k), turned like the voxels."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "part")
    matrix = oblique()
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    placed = np.eye(4)
    placed[:3, :3] = matrix[:3, :3] / spacing
    middle = (np.asarray(low) + np.asarray(high) - 1) / 2
    placed[:3, 3] = (matrix @ [*middle, 1.0])[:3]
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(placed))
    node.SetSize(*((np.asarray(high) - np.asarray(low)) * spacing))
    return node


def test_region_takes_whole_voxels(scene: Any, volume: Any) -> None:
    from SynthGANPanel.scene import regions

    assert regions.voxelsInRoi(roi(scene, volume, (2, 3, 4), (9, 7, 8)), volume) == np.s_[4:8, 3:7, 2:9]
    beyond = roi(scene, volume, (-5, 3, 4), (9, 70, 8))
    assert regions.voxelsInRoi(beyond, volume) == np.s_[4:8, 3:12, 0:9]


def test_region_that_fits_takes_the_whole_volume(scene: Any, volume: Any) -> None:
    from SynthGANPanel.scene import regions

    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "all")
    regions.fitRoi(node, volume)
    assert regions.voxelsInRoi(node, volume) == regions.wholeVolume(volume)


def test_region_beside_the_volume_is_refused(scene: Any, volume: Any) -> None:
    from SynthGANPanel.failure import SynthesisError
    from SynthGANPanel.scene import regions

    with pytest.raises(SynthesisError, match="'part' lies outside the input volume 'head'"):
        regions.voxelsInRoi(roi(scene, volume, (200, 3, 4), (220, 7, 8)), volume)


def test_region_s_result_lies_on_the_input_s_voxels(scene: Any, logic: Any, volume: Any, identity_model: str) -> None:
    """Through the real worker: the result has the region's voxels of the input, at their place."""
    from SynthGANPanel.scene import nodes

    part = roi(scene, volume, (2, 3, 1), (12, 11, 9))
    result = logic.synthesize(volume, model=identity_model, roi=part, device="cpu")
    source = slicer.util.arrayFromVolume(volume)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), source[1:9, 3:11, 2:12])
    corner = nodes.ijkToRAS(volume) @ [2, 3, 1, 1]
    np.testing.assert_allclose(nodes.ijkToRAS(result)[:, 3], corner, atol=1e-9)
    np.testing.assert_array_equal(nodes.ijkToRAS(result)[:3, :3], nodes.ijkToRAS(volume)[:3, :3])
    assert result.GetAttribute("SynthGAN.Region") == "part"


def test_model_of_another_modality_is_refused_and_accepted_on_demand(
    scene: Any, logic: Any, volume: Any, identity_model: str
) -> None:
    from SynthGANPanel.failure import SynthesisError
    from SynthGANPanel.scene import nodes

    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*nodes.QUANTITIES["HU"][0])
    volume.SetVoxelValueQuantity(entry)
    with pytest.raises(SynthesisError, match="The volume is CT, and the model 'identity-mr-ct' takes MR"):
        logic.synthesize(volume, model=identity_model, device="cpu")
    result = logic.synthesize(volume, model=identity_model, device="cpu", acceptUnfit=True)
    assert "The volume is CT" in result.GetAttribute("SynthGAN.Warnings")
    assert result.GetAttribute("SynthGAN.AcceptedUnfitInput") == "yes"


def test_hierarchy_says_the_modality(scene: Any, volume: Any) -> None:
    from SynthGANPanel.scene import inputChecks

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    assert inputChecks.modalityOf(volume) == ""
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(volume), "DICOM.Modality", "PT")
    assert inputChecks.modalityOf(volume) == "PT"
