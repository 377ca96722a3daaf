"""Every direction through the panel by clicks: a user's own model, the real child process, the result's look."""

from pathlib import Path

import numpy as np
import pytest
import slicer
from panelCases import addVolume, waitUntil

from SynthGANLib.model.card import MethodSpec, SourceSpec, SpatialSpec, TargetSpec
from SynthGANPanel.comparison import compare
from SynthGANPanel.scene import nodes, views

LIBRARY_TESTS = str(Path(__file__).resolve().parents[1] / "Library" / "helpers")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GREY, INVERTED_GREY = "vtkMRMLColorTableNodeGrey", "vtkMRMLColorTableNodeInvertedGrey"

SOURCES = {
    "MR": SourceSpec("MR", "1", ("T1",)),
    "CT": SourceSpec("CT", "HU"),
    "PET": SourceSpec("PT", "SUVbw"),
    "vessels": SourceSpec("SEG", "label"),
    "nothing": SourceSpec("NOISE", "1"),
}
TARGETS = {
    "MR": TargetSpec("MR", "1", 0.0, (0.0, 1000.0)),
    "CT": TargetSpec("CT", "HU", -1024.0, (-1024.0, 2000.0)),
    "bones": TargetSpec("CT", "HU", -1024.0, (-1024.0, 2000.0), display="CT-Bone"),
    "PET": TargetSpec("PT", "SUVbw", 0.0, (0.0, 20.0)),
    "fundus": TargetSpec("OP", "RGB", 0.0, (0.0, 255.0), channels=3),
}
SCALES = {
    "MR": {"kind": "window", "low": 0.0, "high": 1000.0},
    "CT": {"kind": "window", "low": -1024.0, "high": 2000.0},
    "PT": {"kind": "suv", "maximum": 20.0},
    "SEG": {"kind": "labels"},
    "NOISE": {"kind": "zscore"},
    "OP": {"kind": "rgb"},
}
UNIT_CODES = {"MR": ("110852", "1"), "CT": ("112031", "[hnsf'U]"), "PT": ("126400", "{SUVbw}g/ml"), "OP": ("", "")}
"""Coded quantity and unit by DICOM PS3.16 and UCUM, by the target's modality; none for colors."""

DIRECTIONS = [
    ("MR", "CT"), ("MR", "PET"), ("CT", "MR"), ("CT", "PET"), ("PET", "bones"), ("PET", "MR"), ("vessels", "fundus"),
    ("PET", "PET"),
]  # fmt: skip
"""The last is a restoration: a PET of a low dose becomes one of a full dose."""

VOLUME = SpatialSpec(3, (16, 16, 16), (64, 64, 64), multiple=2, spacing=(1.5, 1.5, 1.5))
PICTURE = SpatialSpec(2, (1, 8, 8), (1, 64, 64), axis="axial", multiple=2)
GENERATED = SpatialSpec(2, (1, 8, 8), (1, 40, 48), axis="axial")


@pytest.fixture
def shelve(userData, monkeypatch):
    """`shelve("MR", "CT")` puts a small model with random weights into the user's folder; returns it."""
    pytest.importorskip("torch", reason="needs PyTorch")
    monkeypatch.syspath_prepend(LIBRARY_TESTS)
    from model_folders import network_card, tiny_model

    from SynthGANLib.model.catalogue import user_folder

    def save(source, target):
        before, after = SOURCES[source], TARGETS[target]
        method, spatial = MethodSpec("network", "UNet", {"dims": 3, "widths": [4, 8]}), VOLUME
        if source == "nothing":
            decoder = {"shape": [3, 16, 16], "code": 8, "widths": [16]}
            arguments = {"generator": {"name": "MlpGenerator", "arguments": decoder}, "code": 8}
            method, spatial = MethodSpec("network", "Sampler", arguments), GENERATED
        elif target == "fundus":
            method = MethodSpec("network", "UNet", {"dims": 2, "out_channels": 3, "widths": [4, 8]})
            spatial = PICTURE
        model = tiny_model(
            network_card(
                id=f"{source}-{target}".lower(), title=f"{source} to {target}", source=before, target=after,
                method=method, spatial=spatial, mask="none" if after.unit == "RGB" else "body",
                normalisers={"source": SCALES[before.modality], "target": SCALES[after.modality]},
            )
        )  # fmt: skip
        user_folder().mkdir(parents=True, exist_ok=True)
        model.save(user_folder() / model.card.id)
        return model

    return save


def imageOf(source):
    """Voxels (z, y, x) as such images have them: a bright body in dark noise, or branching lines."""
    shape = (18, 32, 34)
    noise = np.random.default_rng(5).normal(0, 1, shape)
    axes = np.meshgrid(*[np.linspace(-1.3, 1.3, extent) for extent in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    if source == "vessels":
        _z, y, x = np.indices(shape)
        return ((np.abs(y - x) < 2) | (np.abs(y - 2 * x + 9) < 2)).astype(np.uint8)
    if source == "MR":
        return (np.where(inside, 500, 10) + 5 * noise).clip(0).astype(np.int16)
    if source == "CT":
        return (np.where(inside, 40, -1000) + 10 * noise).astype(np.int16)
    return (np.where(inside, 2.5, 0.1) + 0.03 * noise).clip(0).astype(np.float32)


def addSource(source):
    """The volume node of a direction's source, whose values say what they are as far as such volumes do."""
    node = addVolume(imageOf(source), source)
    quantity = nodes.QUANTITIES.get({"CT": "HU", "PET": "SUVbw"}.get(source, source))
    if quantity is not None:
        for code, setter in zip(quantity, (node.SetVoxelValueQuantity, node.SetVoxelValueUnits), strict=True):
            entry = slicer.vtkCodedEntry()
            entry.SetValueSchemeMeaning(*code)
            setter(entry)
    return node


def applied(panel, model):
    """Choose a model, accept its terms, press Apply, wait; returns the result."""
    selector = panel.ui.modelSelector
    selector.currentIndex = [selector.itemData(index) for index in range(selector.count)].index(model.card.id)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.statusLabel.text == "Accept the terms of the model first."
    panel.ui.acceptTermsCheckBox.click()
    panel.ui.deviceSelector.currentText = "Processor (CPU)"
    assert panel.ui.applyButton.enabled, panel.ui.statusLabel.text
    panel.ui.applyButton.click()
    waitUntil(lambda: panel.ui.applyButton.text == "Apply")
    assert panel.ui.statusLabel.text.startswith("Created "), panel.ui.statusLabel.text
    result = panel.result()
    assert result.GetAttribute("SynthGAN.ModelId") == model.card.id
    return result


def codes(node):
    """Code values of a node's quantity and unit, "" for none."""
    entries = (node.GetVoxelValueQuantity(), node.GetVoxelValueUnits())
    return tuple(entry.GetCodeValue() or "" if entry is not None else "" for entry in entries)


def look(node):
    """Window, level, color table, and whether the window is automatic."""
    display = node.GetDisplayNode()
    return display.GetWindow(), display.GetLevel(), display.GetColorNodeID(), bool(display.GetAutoWindowLevel())


def checkLook(result, target):
    """The window and colors that the panel's table has for the target; an automatic window where it has none."""
    preset = "CT_BONE" if target == "bones" else nodes.DEFAULT_PRESET.get(TARGETS[target].unit)
    window, level, colors, automatic = look(result)
    if preset is None:
        assert automatic
    else:
        assert (window, level, automatic) == (*nodes.PRESETS[preset][:2], False)
    assert colors == {"PET": INVERTED_GREY, "fundus": None}.get(target, GREY)


def checkVoxels(result, model, source):
    """Bit by bit what the library makes of the same volume."""
    from SynthGANLib.inference.pipeline import synthesize

    voxels, wanted = slicer.util.arrayFromVolume(result), synthesize(source, model, device="cpu")
    assert wanted.unit == model.card.target.unit
    assert np.ptp(voxels) > 0.05 * np.ptp(model.card.target.range)
    whole = wanted.unit in ("HU", "RGB")  # kept as whole numbers, HU as floats for the sake of measuring
    np.testing.assert_array_equal(voxels, np.rint(wanted.array) if whole else wanted.array)
    assert voxels.dtype == (np.uint8 if wanted.unit == "RGB" else np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target"), DIRECTIONS, ids=[f"{a} to {b}" for a, b in DIRECTIONS])
def test_direction_by_clicks(shelve, panel, source, target):
    from SynthGANLib.image.volume import Volume

    model = shelve(source, target)
    panel.reloadModels()
    node = addSource(source)
    before = slicer.util.arrayFromVolume(node).copy()
    panel.ui.inputSelector.choose(source)
    result = applied(panel, model)

    card = model.card
    colors = target == "fundus"
    assert result.GetClassName() == ("vtkMRMLVectorVolumeNode" if colors else "vtkMRMLScalarVolumeNode")
    assert result.GetName() == f"{source} synthetic {card.target.modality} ({card.id})"
    np.testing.assert_array_equal(nodes.ijkToRAS(result), nodes.ijkToRAS(node))
    assert slicer.util.arrayFromVolume(result).shape == (*before.shape, 3)[: 4 if colors else 3]
    assert codes(result) == UNIT_CODES[card.target.modality]
    assert nodes.unitOf(result) == card.target.unit
    checkLook(result, target)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), before)
    stated = card.source.unit if source != "vessels" else "1"  # a drawing of vessels does not say what it is
    checkVoxels(result, model, Volume(before, LPS @ nodes.ijkToRAS(node), stated))


@pytest.mark.slow
def test_vessel_tree_as_a_label_map(shelve, panel):
    """As a segmentation gives it; offered to models that take drawings, and to no other."""
    model = shelve("vessels", "fundus")
    panel.reloadModels()
    tree = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "tree")
    slicer.util.updateVolumeFromArray(tree, imageOf("vessels"))
    assert "tree" not in panel.ui.inputSelector.items()
    panel.parameters.modelId = model.card.id
    panel.ui.inputSelector.choose("tree")
    result = applied(panel, model)
    assert slicer.util.arrayFromVolume(result).shape == (*imageOf("vessels").shape, 3)
    panel.parameters.modelId = "tissue-mr-ct"
    assert "tree" not in panel.ui.inputSelector.items()
    assert panel.parameters.inputVolume is None


@pytest.mark.slow
def test_generator_by_clicks_without_an_input(shelve, panel):
    from SynthGANPanel.runs import request

    model = shelve("nothing", "fundus")
    panel.reloadModels()
    panel.parameters.inputVolume = addSource("MR")  # of another model, before this one was chosen
    view = views.compositeNode(slicer.mrmlScene, "Red")
    panel.ui.seedSpinBox.value = 11
    result = applied(panel, model)
    assert view.GetBackgroundVolumeID() == result.GetID(), "shown by itself"
    assert not compare.isShown(slicer.mrmlScene)
    assert "made without an input" in panel.ui.compareStatusLabel.text
    assert not panel.ui.estimateLabel.visible
    assert nodes.sourceOf(result) is None
    assert not panel.ui.inputSelector.visible
    assert result.GetClassName() == "vtkMRMLVectorVolumeNode"
    assert result.GetName() == "synthetic OP (nothing-fundus)"
    assert slicer.util.arrayFromVolume(result).shape == (*model.card.spatial.tile_max, 3)
    middle = nodes.ijkToRAS(result) @ [(48 - 1) / 2, (40 - 1) / 2, 0.0, 1.0]
    np.testing.assert_array_equal(middle, [0.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(np.abs(nodes.ijkToRAS(result)[:3, :3]), np.eye(3))
    assert codes(result) == UNIT_CODES["OP"]
    assert result.GetAttribute("SynthGAN.Seed") == "11"
    checkLook(result, "fundus")
    checkVoxels(result, model, request.noiseVolume(model.card, 11))


def test_targets_look_different():
    """A CT is not mistaken for a PET by its colors, nor bones for soft tissue by their window."""
    assert (nodes.DEFAULT_PRESET["HU"], nodes.DEFAULT_PRESET["SUVbw"]) == ("CT_ABDOMEN", "PET_SUV")
    looks = [nodes.PRESETS[name] for name in ("CT_ABDOMEN", "CT_BONE", "PET_SUV")]
    assert len({look[:2] for look in looks}) == 3
    assert nodes.PRESETS["RGB"][:2] == (255.0, 127.5)  # any other would change the colors of a photograph
    assert [colors for _window, _level, colors in looks] == [GREY, GREY, INVERTED_GREY]
