"""A measurement from nodes to nodes: the real child process, the real scene."""

from __future__ import annotations

import csv
import json
import math
from typing import Any

import numpy as np
import pytest
import slicer
import vtk

from SynthGANLib.evaluation.assessment import assess
from SynthGANLib.image.volume import Volume
from Testing.Mrml.scene_cases import nodes_of, state_of


def add(volume: Volume, name: str, array: Any = None) -> Any:
    from SynthGANPanel import selftest
    from SynthGANPanel.scene import nodes

    array = volume.array if array is None else array
    node = selftest.addVolume(np.ascontiguousarray(array), nodes.RAS_TO_LPS @ volume.affine, name)
    if volume.unit == "HU":
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(*nodes.QUANTITIES["HU"][1])
        node.SetVoxelValueUnits(entry)
    return node


def moved(node: Any, degrees: float) -> Any:
    """A new linear transform above a node; the voxels are placed so that the world sees no difference."""
    from SynthGANPanel.scene import nodes

    turn = vtk.vtkTransform()
    turn.RotateX(degrees)
    turn.Translate(7, -3, 2)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(turn.GetMatrix())
    back = np.linalg.inv(slicer.util.arrayFromVTKMatrix(turn.GetMatrix()))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(back @ nodes.ijkToRAS(node)))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


@pytest.fixture
def images(scene: Any, head: dict[str, Any]) -> dict[str, Any]:
    """Nodes of a head: `source`, `result` (the real CT, 15 HU too bright, with noise), `reference`."""
    ct = head["ct"]
    noise = np.random.default_rng(0).normal(15, 30, ct.shape)
    found = {
        "source": add(head["mr"], "head"),
        "result": add(ct, "head synthetic CT", np.rint(ct.array + noise).astype(np.float32)),
        "reference": add(ct, "head CT", np.rint(ct.array).astype(np.int16)),
    }
    for name, value in (("InputNodeID", found["source"].GetID()), ("InputName", "head"), ("ModelId", "some-model")):
        found["result"].SetAttribute("SynthGAN." + name, value)
    return found


@pytest.fixture
def measure() -> Any:
    from SynthGANPanel.quality import measurement

    return measurement.measure


def rows(table: Any) -> dict[tuple[str, str], dict[str, Any]]:
    from SynthGANPanel.quality import table as qualityTable

    return {(row["Metric"], row["Tissue"]): row for row in qualityTable.rowsOf(table)}


def made(result: Any) -> list[Any]:
    from SynthGANPanel.quality import nodes as qualityNodes

    return qualityNodes.allOf(result)


def children(hierarchy: Any, item: int) -> list[str]:
    ids = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, ids, False)
    return [hierarchy.GetItemName(ids.GetId(index)) for index in range(ids.GetNumberOfIds())]


def test_table_and_plots_hold_the_librarys_numbers(images: dict[str, Any], measure: Any, headless: Any) -> None:
    from SynthGANPanel.quality import plots as qualityPlots
    from SynthGANPanel.quality import table as qualityTable
    from SynthGANPanel.scene import nodes

    hierarchy = headless.subject_hierarchy
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(images["result"]), study)
    heard: list[float] = []
    table = measure(
        images["result"],
        referenceNode=images["reference"],
        progressCallback=lambda fraction, text: heard.append(fraction),
    )
    expected = assess(
        nodes.volumeFromNode(images["result"]),
        nodes.volumeFromNode(images["reference"]),
        source=nodes.volumeFromNode(images["source"]),
    )
    found = rows(table)
    for row in expected.rows:
        value = found[row.name, row.region]["Value"]
        assert value == pytest.approx(row.value, rel=1e-5), row.name
        assert (found[row.name, row.region]["Kind"] == "accuracy") == row.accuracy
    assert {row.region for row in expected.rows} == {"all", "air", "soft tissue", "bone"}
    assert found["MAE", "bone"]["Protocol"] == "synthrad2025"
    assert found["MAE", "all"]["Mask"] == "body of the reference"
    assert found["Voxels outside the reference", "all"]["Voxels"] == 0
    assert heard == sorted(heard)
    assert heard[-1] == 1.0

    charts = dict(qualityPlots.charts(images["result"]))
    assert list(charts) == list(qualityPlots.CHARTS)
    names = [charts["histogram"].GetNthPlotSeriesNode(index).GetName() for index in range(2)]
    assert names == ["Result: head synthetic CT", "Reference: head CT"]
    assert charts["histogram"].GetXAxisTitle() == "HU"
    histogram = charts["histogram"].GetNthPlotSeriesNode(0).GetTableNode()
    assert slicer.util.arrayFromTableColumn(histogram, "result %").sum() == pytest.approx(100, abs=0.01)
    points = charts["bland-altman"].GetNthPlotSeriesNode(0).GetTableNode()
    assert points.GetNumberOfRows() == 5000
    mean = charts["bland-altman"].GetNthPlotSeriesNode(1)
    assert slicer.util.arrayFromTableColumn(mean.GetTableNode(), "mean").tolist() == [expected.agreement.mean] * 2

    assert children(hierarchy, study) == ["head synthetic CT", "head synthetic CT quality"]
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(table))
    assert len(children(hierarchy, folder)) == len(made(images["result"]))
    attribute = {name: table.GetAttribute("SynthGAN." + name) for name in ("ReferenceNodeID", "ModelId", "MaskUsed")}
    assert attribute == {
        "ReferenceNodeID": images["reference"].GetID(),
        "ModelId": "some-model",
        "MaskUsed": "body of the reference",
    }
    text = qualityTable.summary(table)
    assert "| bone |" in text
    assert "head CT by the protocol synthrad2025" in text


def test_a_reference_under_a_transform_lies_where_the_world_sees_it(images: dict[str, Any], measure: Any) -> None:
    plain = rows(measure(images["result"], referenceNode=images["reference"]))["MAE", "all"]["Value"]
    moved(images["reference"], 20.0)
    table = measure(images["result"], referenceNode=images["reference"])
    assert rows(table)["MAE", "all"]["Value"] == pytest.approx(plain, rel=1e-3)
    moved(images["result"], -35.0)  # the source, which stays, does too
    again = rows(measure(images["result"], referenceNode=images["reference"]))
    assert again["MAE", "all"]["Value"] == pytest.approx(plain, rel=1e-3)
    assert again["Outline shared with the source", "all"]["Value"] > 0.95


def test_a_second_measurement_replaces_the_first_and_nothing_else(
    images: dict[str, Any], measure: Any, scene: Any
) -> None:
    from SynthGANPanel.quality import nodes as qualityNodes

    table = measure(images["result"], referenceNode=images["reference"])
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "mine")
    copy.Copy(table)
    copy.SetName("mine")
    kept = copy.GetTable().GetNumberOfRows()
    chart = qualityNodes.find(images["result"], "bland-altman")
    copied = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "mine too")
    copied.Copy(chart)
    copied.SetName("mine too")
    series = next(node for node in made(images["result"]) if node.IsA("vtkMRMLPlotSeriesNode"))
    series.SetColor(0.1, 0.2, 0.3)
    count = scene.GetNumberOfNodes()
    images["reference"].SetName("other CT")
    assert measure(images["result"], referenceNode=images["reference"]) is table
    assert scene.GetNumberOfNodes() == count
    assert table.GetAttribute("SynthGAN.ReferenceName") == "other CT"
    assert series.GetColor() == (0.1, 0.2, 0.3)
    # Without a reference what compared with it goes, and only that.
    assert measure(images["result"]) is table
    assert not any(row["Kind"] == "accuracy" for row in rows(table).values())
    names = [node.GetName() for node in made(images["result"])]
    assert not any("Bland" in name or "other CT" in name for name in names)
    measure(images["result"], referenceNode=images["reference"])
    assert qualityNodes.find(images["result"], "bland-altman").GetName() == "head synthetic CT Bland-Altman"
    assert copy.GetTable().GetNumberOfRows() == kept
    assert copy.GetScene() is copied.GetScene() is scene


def test_a_mask_is_named_and_respected(images: dict[str, Any], measure: Any, head: dict[str, Any]) -> None:
    inside = np.zeros(head["ct"].shape, np.uint8)
    inside[:, 20:40, 20:40] = 1
    volume = Volume(inside, head["ct"].affine, "label")
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    scalar = add(volume, "scalar")
    mask.SetAndObserveImageData(scalar.GetImageData())
    mask.CopyOrientation(scalar)
    table = measure(images["result"], referenceNode=images["reference"], maskNode=mask)
    assert rows(table)["MAE", "all"]["Mask"] == "brain"
    assert rows(table)["MAE", "all"]["Voxels"] == inside.sum()
    assert table.GetAttribute("SynthGAN.MaskNodeID") == mask.GetID()


def test_the_table_is_saved_as_a_spreadsheet(images: dict[str, Any], measure: Any, tmp_path: Any) -> None:
    table = measure(images["result"])
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableStorageNode")
    path = tmp_path / "kvalita.csv"
    storage.SetFileName(str(path))
    assert storage.WriteData(table)
    with open(path, newline="", encoding="utf-8") as file:
        content = list(csv.DictReader(file))
    assert [row["Metric"] for row in content] == [metric for metric, _tissue in rows(table)]
    assert float(content[0]["Value"]) == rows(table)["Implausible values", "all"]["Value"]
    assert {row["Kind"] for row in content} == {"not a measure of accuracy", "count"}


def test_refusals_leave_the_scene_alone(images: dict[str, Any], measure: Any, scene: Any, head: dict[str, Any]) -> None:
    from SynthGANPanel.failure import SynthesisError

    result, reference = images["result"], images["reference"]
    far = add(head["ct"], "far")
    moved(far, 0.0).SetMatrixTransformToParent(
        slicer.util.vtkMatrixFromArray(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 900)
    )
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    uptake = add(head["ct"], "uptake")
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning("{SUVbw}g/ml", "UCUM", "SUV")
    uptake.SetVoxelValueUnits(entry)
    grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
    grid.SetAndObserveTransformFromParent(vtk.vtkThinPlateSplineTransform())
    bent = add(head["ct"], "bent CT")
    bent.SetAndObserveTransformNodeID(grid.GetID())
    before = state_of(scene)
    for reference, words in (
        (result, "compared with itself"),
        (labels, "'labels' is not a scalar or color volume"),
        (uptake, "The result is in HU and the reference in SUVbw"),
        (far, "covers 0.0 % of the result"),
        (bent, "not linear"),
    ):
        with pytest.raises(SynthesisError) as refusal:
            measure(result, referenceNode=reference)
        assert words in refusal.value.cause
        assert refusal.value.nextStep
        assert state_of(scene) == before
    with pytest.raises(SynthesisError, match="No result is selected"):
        measure(None)
    with pytest.raises(SynthesisError, match="protocol 'nothing'"):
        measure(result, referenceNode=images["reference"], protocol="nothing")


def test_cancel_and_changes_leave_the_scene_alone(images: dict[str, Any], measure: Any, scene: Any) -> None:
    from SynthGANPanel.failure import SynthesisError

    before = state_of(scene)
    ended: list[Any] = []
    run = measure(images["result"], wait=False, completedCallback=ended.append)
    assert run.folder.is_dir()
    run.cancel()
    with pytest.raises(SynthesisError, match="was cancelled"):
        run.wait()
    assert (run.state, ended, run.error.kind) == ("cancelled", [run], "cancelled")
    assert not run.folder.exists()
    assert state_of(scene) == before

    run = measure(images["result"], wait=False)
    slicer.util.arrayFromVolume(images["result"])[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(images["result"])
    with pytest.raises(SynthesisError, match="was changed or moved"):
        run.wait()
    assert made(images["result"]) == []

    run = measure(images["result"], referenceNode=images["reference"], wait=False)
    scene.RemoveNode(images["reference"])
    with pytest.raises(SynthesisError, match="reference was removed"):
        run.wait()
    assert made(images["result"]) == []


def test_units_and_sources_that_are_unknown_are_told(images: dict[str, Any], measure: Any) -> None:
    images["reference"].SetVoxelValueUnits(None)
    slicer.mrmlScene.RemoveNode(images["source"])
    table = measure(images["result"], referenceNode=images["reference"])
    remarks = json.loads(table.GetAttribute("SynthGAN.Remarks"))
    assert any("reference does not state its unit" in remark for remark in remarks)
    assert table.GetAttribute("SynthGAN.SourceName") == "none"
    assert ("Edges shared with the source", "all") not in rows(table)


def test_a_failed_store_takes_back_what_it_added(
    images: dict[str, Any], measure: Any, scene: Any, monkeypatch: Any
) -> None:
    from SynthGANPanel.failure import SynthesisError
    from SynthGANPanel.quality import plots as qualityPlots

    def fail(*arguments: Any) -> None:
        raise SynthesisError("The plot could not be made.")

    monkeypatch.setattr(qualityPlots, "_blandAltman", fail)
    ids = {node.GetID() for node in nodes_of(scene)}
    with pytest.raises(SynthesisError, match="plot could not"):
        measure(images["result"], referenceNode=images["reference"])
    assert {node.GetID() for node in nodes_of(scene)} == ids


def test_numbers_are_rounded_for_reading_only() -> None:
    from SynthGANPanel.quality import table as qualityTable

    assert qualityTable.rounded(33.123456789) == 33.1235
    assert qualityTable.rounded(-1023.9999999) == -1024.0
    assert qualityTable.rounded(math.inf) == math.inf
    assert math.isnan(qualityTable.rounded(math.nan))
