"""Every choice made in the panel, typed, and stored in the scene."""

import enum
from typing import Annotated, Optional, Union

from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsLineNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLVectorVolumeNode,
)

from SynthGANPanel.comparison.modes import Against, CompareMode
from SynthGANPanel.framework import WithinRange, parameterNodeWrapper
from SynthGANPanel.i18n import _

# Older Slicers, which must be able to report that they are too old, have a Python that cannot evaluate `A | B`.
ImageNode = Optional[Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode]]  # noqa: UP007, UP045
InputNode = Optional[  # noqa: UP045
    Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode, vtkMRMLLabelMapVolumeNode]  # noqa: UP007
]
"""Label maps are offered to models that take drawings only."""
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


class ExportFormat(enum.Enum):
    """What a result is exported as; the value is the suffix of the file, "" for a folder."""

    DICOM = ""
    NRRD = ".nrrd"
    NIFTI = ".nii.gz"

    def label(self):
        """What the panel shows."""
        return {
            ExportFormat.DICOM: _("DICOM series"),
            ExportFormat.NRRD: _("NRRD file (.nrrd)"),
            ExportFormat.NIFTI: _("NIfTI file (.nii.gz)"),
        }[self]


@parameterNodeWrapper
class SynthGANParameterNode:
    """
    Every choice made in the panel.

    inputVolume - The volume to synthesize from.
    maskVolume - Optional: where the body is (not zero); found in the input if none is given.
    maskSegment - Id of the segment of a segmentation that is the body; "" for all of them.
    roi - Optional: the region that is synthesized; the whole input if none is given.
    acceptUnfit - Use an input whose stated modality differs from the model's.
    seed - Draws the image of a model that needs no input.
    modelId - Id of the model in the catalogue.
    outputVolume - The volume the result is written to; a new one if none is chosen.
    wholeSequence - Synthesize every frame of the sequence that the input shows.
    sideBySide - Show input and result side by side when done.
    device - Where to compute.
    memoryLimitGb - Memory the synthesis may take, in GB; 0 is as much as is free.
    referenceVolume - Optional: a real image of the target modality, to compare and measure the result with.
    exportFormat - What a result is exported as.
    exportSameStudy - DICOM: the patient, study and frame of reference of the source; else a new study.
    exportBurnIn - DICOM: draw the word SYNTHETIC into the images.
    exportToDatabase - DICOM: add the exported series to Slicer's DICOM database.
    qualityMask - Optional: where the result is measured; the body if none is given.
    compareMode - How the synthetic volume is compared with others.
    compareWith - Which volume it is laid over, in the modes that lay it over one.
    compareFade - Fade: how much of the synthetic volume is seen, in percent.
    compareCell - Checkerboard: side of a cell, in mm.
    comparePatch - Reveal: side of the patch around the mouse, in pixels.
    compareBlink - Blink: how long each volume is seen, in seconds.
    compareRange - Difference map: value at the ends of the colors, in the unit of the volume; 0 is automatic.
    compareLine - Line profile: the line; one across the middle if none is given.
    compareCrosshair - Mark the place under the mouse in all views while comparing.
    """

    inputVolume: InputNode
    maskVolume: MaskNode
    maskSegment: str
    roi: vtkMRMLMarkupsROINode
    acceptUnfit: bool = False
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    modelId: str
    outputVolume: ImageNode
    wholeSequence: bool = False
    sideBySide: bool = True
    device: Device = Device.AUTO
    memoryLimitGb: Annotated[float, WithinRange(0, 1024)] = 0.0
    referenceVolume: ImageNode
    qualityMask: MaskNode
    compareMode: CompareMode = CompareMode.SIDE_BY_SIDE
    compareWith: Against = Against.SOURCE
    compareFade: Annotated[float, WithinRange(0, 100)] = 50.0
    compareCell: Annotated[float, WithinRange(1, 100)] = 20.0
    comparePatch: Annotated[float, WithinRange(50, 800)] = 200.0
    compareBlink: Annotated[float, WithinRange(0.1, 3)] = 0.7
    compareRange: Annotated[float, WithinRange(0, 100000)] = 0.0
    compareLine: vtkMRMLMarkupsLineNode
    compareCrosshair: bool = True
    exportFormat: ExportFormat = ExportFormat.DICOM
    exportSameStudy: bool = True
    exportBurnIn: bool = False
    exportToDatabase: bool = False
