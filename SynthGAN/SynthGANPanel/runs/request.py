"""A synthesis request: nodes and choices are checked, written to files for the child process, and the result stored."""

from __future__ import annotations

import math
import numbers
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from SynthGANPanel import environment
from SynthGANPanel.failure import SynthesisError, fromLibrary
from SynthGANPanel.i18n import _
from SynthGANPanel.runs import modelManager
from SynthGANPanel.scene import inputChecks, masks, nodes, regions

if TYPE_CHECKING:
    from SynthGANLib.image.grid import Array, Grid
    from SynthGANLib.image.volume import Volume
    from SynthGANLib.model.card import Card
    from SynthGANPanel.runs.childRun import Prepared
    from SynthGANPanel.runs.workerProcess import Event
    from SynthGANPanel.scene.regions import Voxels


class Request:
    """One synthesis's choices and nodes.

    :ivar inputNode: volume to synthesize from; None for a model that needs no input
    :ivar model: id, `id@version` or path of a model
    :ivar maskNode: volume (not zero where the body is) or segmentation; None lets the body be found
    :ivar maskSegment: id of the segment of a segmentation; "" takes all of them
    :ivar roiNode: markups ROI; only the input's voxels inside are synthesized. None takes the whole input
    :ivar device: "auto", "cpu", "cuda", "cuda:1" or "mps"
    :ivar memoryLimitGb: 0 is as much as is free
    :ivar outputNode: volume to write the result to; None makes a new one
    :ivar acceptUnfit: use an input whose stated modality differs from the model's
    :ivar seed: seed of a model that needs no input
    :ivar card: the model's card, after `check`
    """

    def __init__(
        self,
        inputNode: slicer.vtkMRMLVolumeNode | None,
        model: str,
        maskNode: slicer.vtkMRMLNode | None = None,
        maskSegment: str = "",
        roiNode: slicer.vtkMRMLMarkupsROINode | None = None,
        device: str = "auto",
        memoryLimitGb: float = 0.0,
        outputNode: slicer.vtkMRMLVolumeNode | None = None,
        acceptUnfit: bool = False,
        seed: int = 0,
    ) -> None:
        self.inputNode = inputNode
        self.model = str(model)  # a path, too
        self.maskNode = maskNode
        self.maskSegment = maskSegment
        self.roiNode = roiNode
        self.device = device
        self.memoryLimitGb = memoryLimitGb
        self.outputNode = outputNode
        self.acceptUnfit = bool(acceptUnfit)
        self.seed = seed
        self.card: Card
        self._grid: Grid  # of the input when it was written
        self._voxels: Voxels  # slices (z, y, x) of the input that are synthesized

    def check(self) -> None:
        """Refuse what cannot be synthesized before anything is written.

        :raises SynthesisError: one sentence about what is wrong with an input, the model or the installation
        """
        self._checkArguments()
        if self.inputNode is not None:
            nodes.checkInScene(self.placedNode)
            nodes.checkInput(self.inputNode)
        nodes.checkInScene(self.outputNode)
        environment.useLibrary()
        environment.checkPackages(_("SynthGAN needs {names}, which Slicer does not have yet."))
        self.card = findCard(self.model)
        if self.inputNode is None and not needsNoInput(self.card):
            nodes.checkInput(None)  # raises an error that names the choice
        nodes.checkOutput(self.outputNode, self.inputNode, self.maskNode, colors=self.card.target.channels > 1)

    def prepare(self, folder: Path) -> Prepared:
        """The job for the worker, and the volumes it reads as pairs (library volume, path); nothing is written yet.

        :raises SynthesisError: if a mask or region cannot be used
        """
        from SynthGANLib.errors import SynthGANError

        source, mask = folder / "input.nrrd", None
        try:
            volumes = [(self._sourceVolume(), source)]
            if self.maskNode is not None and self.placedNode is not None:
                mask = folder / "mask.nrrd"
                volumes.append((masks.maskFromNode(self.maskNode, self.placedNode, self.maskSegment), mask))
        except SynthGANError as error:
            raise fromLibrary(error) from error
        job = {
            "job": "synthesize",
            "input": str(source),
            **inputChecks.labels(self.placedNode),
            "output": str(folder / "output.nrrd"),
            "model": self.model,
            "mask": str(mask) if mask else None,
            "device": self.device,
            "memory": round(self.memoryLimitGb * 2**30) or None,
            "models": [],
            "force": False,
            "accept_unfit": self.acceptUnfit,
        }
        return job, volumes

    @property
    def placedNode(self) -> slicer.vtkMRMLVolumeNode | None:
        """The node whose place in the scene the input has."""
        return self.inputNode

    @property
    def label(self) -> str:
        """What is made from what, one line for a list."""
        name = self.inputNode.GetName() if self.inputNode is not None else _("seed {seed}").format(seed=self.seed)
        return _("{input}: {model}").format(input=name, model=self.model)

    def lostNodes(self) -> str:
        """Why the synthesis is to be cancelled (a node was removed), "" otherwise."""
        if self.inputNode is not None and self.inputNode.GetScene() is None:
            return _("The synthesis was cancelled because the input volume was removed.")
        if self.outputNode is not None and self.outputNode.GetScene() is None:
            return _("The synthesis was cancelled because the output volume was removed.")
        return ""

    @property
    def grid(self) -> Grid:
        """The library's grid that the result must have: the input's, or the chosen part of it."""
        from SynthGANLib.image.grid import Grid

        shape = tuple(part.stop - part.start for part in self._voxels)
        return Grid(shape, regions.shifted(self._grid.affine, self._voxels))

    def store(self, array: Array, done: Event) -> slicer.vtkMRMLVolumeNode:
        """Put the verified result into the scene.

        :param array: (z, y, x[, 3]) on `grid`
        :param done: the worker's closing event
        :return: the node
        :raises SynthesisError: if the input was changed meanwhile
        """
        if self.inputNode is not None:
            present = nodes.volumeFromNode(self.inputNode).grid
            if present.shape != self._grid.shape or not np.array_equal(present.affine, self._grid.affine):
                raise SynthesisError(
                    _("The input volume was moved or cut while the synthesis was running."), _("Start it again.")
                )
        record = nodes.provenance(self.inputNode, self.card, done, self._choices())
        ijkToRAS = nodes.RAS_TO_LPS @ self.grid.affine  # the same matrix turns LPS into RAS
        return nodes.storeResult(self.inputNode, self.outputNode, array, self.card, record, ijkToRAS)

    def _checkArguments(self) -> None:
        """Refuse arguments of the wrong type, which only scripts can pass."""
        given = {
            "inputVolume": self.inputNode, "mask": self.maskNode, "roi": self.roiNode, "outputVolume": self.outputNode
        }  # fmt: skip
        for parameter, node in given.items():
            nodes.checkIsNode(node, parameter)
        if self.roiNode is not None and not self.roiNode.IsA("vtkMRMLMarkupsROINode"):
            raise SynthesisError(
                _("'{name}' is not a region of interest (markups ROI).").format(name=self.roiNode.GetName()),
                _("Choose one, or none for the whole input."),
            )
        if not isinstance(self.device, str):
            raise SynthesisError(
                _("The device must be the name of one, not {value!r}.").format(value=self.device),
                _("Choose auto, cpu, cuda, cuda:0 or mps."),
            )
        limit = self.memoryLimitGb
        if not (isinstance(limit, numbers.Real) and 0 <= limit < math.inf):
            raise SynthesisError(
                _("The memory limit must be a number of GB, not {value!r}.").format(value=limit),
                _("Choose 0 for as much as is free."),
            )
        if not (isinstance(self.seed, numbers.Integral) and self.seed >= 0):
            raise SynthesisError(
                _("The seed must be a whole number, not {value!r}.").format(value=self.seed), _("Choose 0 or more.")
            )

    def _sourceVolume(self) -> Volume:
        """What the worker reads: the input, the part of it inside the region, or an image of noise."""
        if self.inputNode is None:
            volume = noiseVolume(self.card, self.seed)
            self._grid, self._voxels = volume.grid, tuple(slice(0, extent) for extent in volume.shape)
            return volume
        volume = nodes.volumeFromNode(self.inputNode)
        self._grid, self._voxels = volume.grid, regions.wholeVolume(self.inputNode)
        if self.roiNode is None:
            return volume
        from SynthGANLib.image.volume import Volume

        self._voxels = regions.voxelsInRoi(self.roiNode, self.inputNode, self.placedNode)
        return Volume(volume.array[self._voxels], self.grid.affine, volume.unit, volume.meta)

    def _choices(self) -> dict[str, str]:
        """What was chosen beside input and model, for the result's attributes."""
        segment = dict(masks.segments(self.maskNode)).get(self.maskSegment, "")
        mask = self.maskNode.GetName() if self.maskNode is not None else "none"
        choices = {"Mask": f"{mask} ({segment})" if segment else mask}
        if self.card.research_only:  # the panel asks before Apply; a script is not asked
            choices["TermsAccepted"] = modelManager.termsAcceptedOn(self.card) or "not asked"
        if self.roiNode is not None:
            choices["Region"] = self.roiNode.GetName()
        if self.inputNode is None:
            choices["Seed"] = str(self.seed)
        if self.acceptUnfit:
            choices["AcceptedUnfitInput"] = "yes"
        return choices


def noiseVolume(card: Card, seed: int) -> Volume:
    """An image of independent standard normal values for a model that makes images from nothing.

    Of the model's own largest extents, at most 256 voxels a side; 1 mm voxels with the middle at the origin.
    """
    environment.useLibrary()
    from SynthGANLib.image.volume import Volume

    shape = tuple(min(extent, 256) for extent in card.spatial.tile_max)
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = [-(extent - 1) / 2 for extent in reversed(shape)]
    return Volume(array, affine, "1", {"modality": inputChecks.NOISE})


def findCard(model: str) -> Card:
    """Read the card of a model given by id, `id@version` or path.

    :raises SynthesisError: if there is none or it is refused
    """
    environment.useLibrary()
    from SynthGANLib.errors import SynthGANError
    from SynthGANLib.model.catalogue import Catalogue, read_entry

    try:
        entry = read_entry(Catalogue().find(model))
    except SynthGANError as error:
        raise fromLibrary(error) from error
    if entry.card is None:
        raise SynthesisError(entry.error or "", _("Get the model again, or remove the folder."), "model")
    return entry.card


def fromConsole(choices: dict[str, Any]) -> dict[str, Any]:
    """The choices of a console call by the names of :class:`Request`."""
    names = {"mask": "maskNode", "roi": "roiNode", "outputVolume": "outputNode"}
    return {names.get(name, name): value for name, value in choices.items()}


def needsNoInput(card: Card | None) -> bool:
    """Whether a model makes images from nothing but a seed."""
    return card is not None and card.source.modality == inputChecks.NOISE
