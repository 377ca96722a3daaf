"""What `SynthGANTest` tests, in a real Slicer as well as in the project's own test suite.

The checks run the real child process with the bundled model `tissue-mr-ct`. Where Slicer lacks PyTorch there is no
synthesis, and what is checked instead is the refusal: in words, before anything was changed.
"""

import functools
import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk

from SynthGANPanel import environment
from SynthGANPanel.comparison import compare
from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.quality import table as qualityTable
from SynthGANPanel.runs import deviceCheck, request, sequences
from SynthGANPanel.scene import inputChecks, nodes, regions

MODEL = "tissue-mr-ct"
SPACING_MM = 4.0
ROTATION_DEGREES = (20.0, -10.0, 35.0)


def bundledModelsWork(test, logic):
    """The bundled models are listed, none is refused, and each has a description."""
    entries = {entry.id: entry for entry in logic.models()}
    test.assertIn(MODEL, entries)
    test.assertIsNone(entries[MODEL].error)
    test.assertEqual((entries[MODEL].source, entries[MODEL].target), ("MR", "CT"))


def parametersAreKept(test, logic, device):
    """What is chosen is stored in the scene: a second look at the parameter node finds it again."""
    volume = addCube("input")
    parameters = logic.getParameterNode()
    test.assertIn(parameters.inputVolume, (None, volume))  # an open panel has chosen the only volume there is
    test.assertTrue(parameters.sideBySide)
    parameters.inputVolume, parameters.modelId = volume, MODEL
    parameters.device, parameters.memoryLimitGb, parameters.sideBySide = device, 2.5, False
    again = logic.getParameterNode()
    test.assertIs(again.inputVolume, volume)
    test.assertEqual((again.modelId, again.device, again.memoryLimitGb), (MODEL, device, 2.5))
    test.assertFalse(again.sideBySide)


def resultLiesOnInput(test, logic):
    """Grid, parent transform, unit, window, name and provenance of a result, and that its values are a head's."""
    head = addHead()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "table")
    head.SetAndObserveTransformNodeID(transform.GetID())
    if refusedForLackOfPackages(test, logic, head):
        return
    heard = []
    result = logic.synthesize(head, model=MODEL, progressCallback=lambda fraction, text: heard.append(fraction))
    test.assertEqual(result.GetName(), "head synthetic CT (tissue-mr-ct)")
    np.testing.assert_array_equal(nodes.ijkToRAS(result), nodes.ijkToRAS(head))
    test.assertEqual(result.GetImageData().GetDimensions(), head.GetImageData().GetDimensions())
    test.assertEqual(result.GetTransformNodeID(), transform.GetID())
    test.assertEqual(result.GetVoxelValueUnits().GetCodeValue(), "[hnsf'U]")
    test.assertEqual(result.GetVoxelValueQuantity().GetCodeValue(), "112031")
    test.assertFalse(result.GetDisplayNode().GetAutoWindowLevel())
    test.assertEqual(result.GetAttribute("SynthGAN.ModelId"), MODEL)
    test.assertEqual(result.GetAttribute("SynthGAN.InputNodeID"), head.GetID())
    test.assertEqual(heard, sorted(heard))
    test.assertEqual(heard[-1], 1.0)
    test.assertIs(logic.latestResult(head), result)
    source, synthetic = slicer.util.arrayFromVolume(head), slicer.util.arrayFromVolume(result)
    outside, brain = source < 0.02 * source.max(), source > 0.5 * source.max()
    test.assertLess(np.median(synthetic[outside]), -900)
    test.assertTrue(-150 < np.median(synthetic[brain]) < 150)
    test.assertGreater(synthetic.max(), 300)


def chosenOutputIsFilled(test, logic):
    """A chosen output keeps its name and gets the result; the input itself is refused as output."""
    head = addHead()
    before = slicer.util.arrayFromVolume(head).copy()
    if refusedForLackOfPackages(test, logic, head):
        return
    with test.assertRaises(SynthesisError) as refusal:
        logic.synthesize(head, model=MODEL, outputVolume=head)
    test.assertIn("'head'", str(refusal.exception))
    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mine")
    test.assertIs(logic.synthesize(head, model=MODEL, outputVolume=output), output)
    test.assertEqual(output.GetName(), "mine")
    test.assertEqual(output.GetImageData().GetDimensions(), head.GetImageData().GetDimensions())
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(head), before)


def cancelChangesNothing(test, logic):
    """A cancelled run reports it, leaves the scene unchanged and no temporary folder."""
    cube = addCube("cube")
    if refusedForLackOfPackages(test, logic, cube):
        return
    before = nodeIds()
    ended = []
    run = logic.synthesize(cube, model=MODEL, wait=False, completedCallback=ended.append)
    folder = run.folder
    test.assertTrue(folder.is_dir())
    run.cancel()
    with test.assertRaises(SynthesisError) as refusal:
        run.wait()
    test.assertEqual(refusal.exception.kind, "cancelled")
    test.assertEqual((run.state, ended), ("cancelled", [run]))
    test.assertEqual(nodeIds(), before)
    test.assertFalse(folder.exists())


def failureChangesNothing(test, logic):
    """A volume without content is refused in words, and the scene stays as it was."""
    empty = addVolume(np.zeros((8, 9, 10), np.int16), np.eye(4), "empty")
    if refusedForLackOfPackages(test, logic, empty):
        return
    before = nodeIds()
    with test.assertRaises(SynthesisError) as refusal:
        logic.synthesize(empty, model=MODEL)
    test.assertEqual(refusal.exception.kind, "unfit")
    test.assertTrue(refusal.exception.cause.endswith("."))
    test.assertEqual(nodeIds(), before)
    with test.assertRaises(SynthesisError) as refusal:
        logic.synthesize(empty, model="no-such-model")
    test.assertIn("no-such-model", str(refusal.exception))


def checksTellBeforeApply(test, logic):
    """The stated modality of a volume is compared with the model's card, and a wrong modality is refused."""
    card = request.findCard(MODEL)
    head = addHead()
    test.assertNotIn("unfit", {check.level for check in inputChecks.checks(head, card)})
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*nodes.QUANTITIES["HU"][0])
    head.SetVoxelValueQuantity(entry)
    unfit = [check for check in inputChecks.checks(head, card) if check.level == "unfit"]
    test.assertEqual([check.subject for check in unfit], ["modality"])
    if refusedForLackOfPackages(test, logic, head):
        return
    with test.assertRaises(SynthesisError) as refusal:
        logic.synthesize(head, model=MODEL)
    test.assertEqual((refusal.exception.kind, refusal.exception.cause), ("unfit", unfit[0].text))


def regionLiesOnInput(test, logic):
    """A region's result has whole voxels of the input at their place."""
    head = addHead()
    if refusedForLackOfPackages(test, logic, head):
        return
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "region")
    regions.fitRoi(roi, head)
    test.assertEqual(regions.voxelsInRoi(roi, head), regions.wholeVolume(head))
    width, height, depth = roi.GetSize()
    roi.SetSize(width, height, depth / 2)
    voxels = regions.voxelsInRoi(roi, head)
    result = logic.synthesize(head, model=MODEL, roi=roi)
    shape = slicer.util.arrayFromVolume(result).shape
    test.assertEqual(shape, tuple(part.stop - part.start for part in voxels))
    test.assertLess(shape[0], slicer.util.arrayFromVolume(head).shape[0])
    np.testing.assert_allclose(nodes.ijkToRAS(result), regions.shifted(nodes.ijkToRAS(head), voxels), atol=1e-9)


def wholeSequenceIsSynthesized(test, logic):
    """Every frame of a sequence, shown in the same browser."""
    head = addHead()
    if refusedForLackOfPackages(test, logic, head):
        return
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "dynamic")
    for frame in range(2):
        sequence.SetDataNodeAtValue(head, str(frame))
    if not slicer.mrmlScene.IsNodeClassRegistered("vtkMRMLSequenceBrowserNode"):  # Slicer without its Sequences module
        test.assertEqual(sequences.sequenceOf(head), (None, None))
        return
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(head, sequence, False)
    shown = logic.synthesizeSequence(head, model=MODEL)
    found, made = sequences.sequenceOf(shown)
    test.assertEqual(found.GetID(), browser.GetID())
    test.assertEqual(made.GetNumberOfDataNodes(), 2)


def devicesCompute(test):
    """A real computation on every device agrees with the processor's."""
    if environment.missingPackages():
        return
    check = deviceCheck.DeviceCheck()
    check.start()
    check.wait()
    test.assertTrue(check.outcome["devices"][0]["ok"])
    test.assertEqual(len(deviceCheck.describe(check.outcome)), len(check.outcome["devices"]))


def resultIsMeasuredAndExported(test, logic):
    """A result is measured against itself moved by 10 HU, and exported to files that hold its voxels."""
    head = addHead()
    if refusedForLackOfPackages(test, logic, head):
        return
    from SynthGANLib.io.volumes import read_volume

    result = logic.synthesize(head, model=MODEL)
    moved = addVolume(slicer.util.arrayFromVolume(result) + 10, nodes.ijkToRAS(result), "reference")
    moved.SetAndObserveTransformNodeID(result.GetTransformNodeID())
    rows = qualityTable.rowsOf(logic.measure(result, referenceVolume=moved))
    error = next(row["Value"] for row in rows if (row["Metric"], row["Tissue"]) == ("MAE", "all"))
    test.assertAlmostEqual(float(error), 10.0, places=3)
    with tempfile.TemporaryDirectory() as folder:
        path = logic.exportFile(result, str(Path(folder) / "ct.nrrd"))
        again = read_volume(path)
        np.testing.assert_array_equal(again.array, slicer.util.arrayFromVolume(result))
        np.testing.assert_allclose(again.affine, nodes.RAS_TO_LPS @ nodes.ijkToRAS(result), atol=1e-6)
        series = Path(logic.exportDicom(result, str(Path(folder) / "series"), newStudy=True))
        test.assertEqual(len(list(series.glob("*.dcm"))), slicer.util.arrayFromVolume(result).shape[0])


def sideBySideAndBack(test):
    """Two linked views with one plane, and everything as before after going back."""
    scene = slicer.mrmlScene
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout is None:
        test.assertFalse(compare.show(addCube("a"), addCube("b")))
        return
    first, second, other = (addCube(name) for name in ("first", "second", "other"))
    layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    views = (compare.SOURCE_VIEW, compare.RESULT_VIEW)
    for view in views:
        compare.compositeNode(scene, view).SetBackgroundVolumeID(other.GetID())
    before = [compare.viewState(scene, view) for view in views]
    test.assertTrue(compare.show(first, second))
    test.assertTrue(compare.isShown(scene))
    during = [compare.viewState(scene, view) for view in views]
    test.assertEqual([state["background"] for state in during], [first.GetID(), second.GetID()])
    test.assertTrue(all(state["linked"] for state in during))
    test.assertEqual(during[0]["group"], during[1]["group"])
    compare.restore(scene)
    test.assertFalse(compare.isShown(scene))
    test.assertEqual(layout.GetViewArrangement(), slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    after = [compare.viewState(scene, view) for view in views]
    for old, new in zip(before, after, strict=True):
        for key in ("background", "foreground", "label", "linked", "hotLinked", "group"):
            test.assertEqual(old[key], new[key])
        np.testing.assert_allclose(old["plane"], new["plane"], atol=1e-9)


def refusedForLackOfPackages(test, logic, volume):
    """Where a package is missing: check that this is said and nothing happens. True if that was the case."""
    if not environment.missingPackages():
        return False
    before = nodeIds()
    with test.assertRaises(SynthesisError) as refusal:
        logic.synthesize(volume, model=MODEL)
    test.assertEqual(refusal.exception.kind, "package")
    test.assertIn(environment.missingPackages()[0], str(refusal.exception))
    test.assertEqual(nodeIds(), before)
    return True


def addHead():
    """A simulated T1-weighted head on an oblique grid with unequal spacing."""
    array, ijkToRAS = _obliqueHead()
    return addVolume(array, ijkToRAS, "head")


@functools.lru_cache(maxsize=1)
def _obliqueHead():
    environment.useLibrary()
    from SynthGANLib.phantom.draw import draw_head
    from SynthGANLib.phantom.simulate import simulate_mr

    volume = simulate_mr(draw_head(seed=1, spacing=SPACING_MM), "T1", seed=1)
    turn = vtk.vtkTransform()
    for angle, rotate in zip(ROTATION_DEGREES, (turn.RotateX, turn.RotateY, turn.RotateZ), strict=True):
        rotate(angle)
    oblique = slicer.util.arrayFromVTKMatrix(turn.GetMatrix()) @ nodes.RAS_TO_LPS @ volume.affine
    return volume.array, oblique


def addCube(name):
    """A small volume of no particular content."""
    return addVolume(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4), name)


def addVolume(array, ijkToRAS, name):
    """A scalar volume node in the scene."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.asarray(ijkToRAS, dtype=float)))
    node.CreateDefaultDisplayNodes()
    return node


def nodeIds():
    """The ids of all nodes of the scene."""
    scene = slicer.mrmlScene
    return {scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())}
