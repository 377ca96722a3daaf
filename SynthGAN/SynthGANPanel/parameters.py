"""Every choice made in the panel, typed, and stored in the scene."""

import enum
from typing import Annotated, Optional, Union

from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLVectorVolumeNode,
)

from SynthGANPanel.framework import WithinRange, parameterNodeWrapper
from SynthGANPanel.i18n import _

# Older Slicers, which are to say that they are too old, have a Python that cannot evaluate `A | B`.
ImageNode = Optional[Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode]]  # noqa: UP007, UP045
MaskNode = Optional[Union[vtkMRMLLabelMapVolumeNode, vtkMRMLSegmentationNode]]  # noqa: UP007, UP045


class Device(enum.Enum):
    """Where the synthesis is computed; the value is the library's name."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self):
        """What the panel shows."""
        return {
            Device.AUTO: _("Automatic"),
            Device.CPU: _("Processor (CPU)"),
            Device.CUDA: _("NVIDIA GPU (CUDA)"),
            Device.MPS: _("Apple GPU (Metal)"),
        }[self]


@parameterNodeWrapper
class SynthGANParameterNode:
    """
    Every choice made in the panel.

    inputVolume - The volume to synthesize from.
    maskVolume - Optional: where the body is (not zero); found in the input if none is given.
    maskSegment - Id of the segment of a segmentation that is the body; "" for all of them.
    roi - Optional: the region that is synthesized; the whole input if none is given.
    acceptUnfit - Use an input that says to be of another modality than the model's.
    seed - Draws the image of a model that needs no input.
    modelId - Id of the model in the catalogue.
    outputVolume - The volume the result is written to; a new one if none is chosen.
    sideBySide - Show input and result side by side when done.
    device - Where to compute.
    memoryLimitGb - Memory the synthesis may take, in GB; 0 is as much as is free.
    referenceVolume - Optional: a real image of the target modality, to compare and measure the result with.
    qualityMask - Optional: where the result is measured; the body if none is given.
    """

    inputVolume: ImageNode
    maskVolume: MaskNode
    maskSegment: str
    roi: vtkMRMLMarkupsROINode
    acceptUnfit: bool = False
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    modelId: str
    outputVolume: ImageNode
    sideBySide: bool = True
    device: Device = Device.AUTO
    memoryLimitGb: Annotated[float, WithinRange(0, 1024)] = 0.0
    referenceVolume: ImageNode
    qualityMask: MaskNode
