"""What the module's logic offers for results: comparing, measuring, exporting."""

from __future__ import annotations

from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

from SynthGANPanel.comparison import compare
from SynthGANPanel.comparison import live as liveComparison
from SynthGANPanel.export import files as fileExport
from SynthGANPanel.quality import measurement


class ResultMethods:
    """Mixed into the module's logic."""

    def compare(
        self,
        sourceVolume: vtkMRMLScalarVolumeNode,
        resultVolume: vtkMRMLScalarVolumeNode,
        referenceVolume: vtkMRMLScalarVolumeNode | None = None,
        mode: str = "sideBySide",
        against: str = "source",
        **others,
    ):
        """
        Show a result beside or over its source or a reference, in linked views.
        :param mode: "sideBySide", "fade", "checkerboard", "reveal", "blink", "difference" or "profile"
        :param against: which volume the result is laid over, "source" or "reference"
        :param others: fade (0 to 1), cellMm, differenceRange, line (markups line), crosshair (bool)
        :return: False where there is no layout to change (Slicer without a main window), True otherwise
        :raises SynthesisError: where the volumes cannot be compared in this way; nothing has changed then
        """
        choices = compare.choicesFor(mode, against, **others)
        return liveComparison.ofApplication().show(sourceVolume, resultVolume, referenceVolume, choices)

    def endComparison(self):
        """Put back the layout, layers, planes, links and windows from before the comparison."""
        liveComparison.ofApplication().end()

    def measure(
        self,
        resultVolume: vtkMRMLScalarVolumeNode,
        referenceVolume: vtkMRMLScalarVolumeNode | None = None,
        mask: vtkMRMLLabelMapVolumeNode | vtkMRMLSegmentationNode | None = None,
        protocol: str = "auto",
        wait: bool = True,
        progressCallback=None,
        completedCallback=None,
        maskSegment: str = "",
    ):
        """
        Measure a result, with a reference or without, in a process of its own.
        :param referenceVolume: real image of the same modality, on any grid; without it nothing measures accuracy
        :param mask: volume (not zero where to measure) or segmentation; None takes the body
        :param protocol: "auto", "synthrad2025", "synthrad2023", "mr", "suv" or "rgb"
        :param maskSegment: id of the segment of a segmentation; all of them together if empty
        :return: the table node if `wait`, else the run
        :raises SynthesisError: with the cause and what to do; the scene is then as it was
        """
        return measurement.measure(
            resultVolume, wait, referenceNode=referenceVolume, maskNode=mask, maskSegment=maskSegment,
            protocol=protocol, progressCallback=progressCallback, completedCallback=completedCallback,
        )  # fmt: skip

    def exportDicom(
        self,
        resultVolume: vtkMRMLScalarVolumeNode,
        folder: str,
        sourceVolume: vtkMRMLScalarVolumeNode | None = None,
        newStudy: bool = False,
        patient: dict | None = None,
        burnIn: bool = False,
        lookup=None,
    ):
        """
        Export a result as a derived DICOM series, one file a slice, with its record as JSON beside the folder.
        A source that was loaded from DICOM gives patient, study and, unless moved, frame of reference.
        :param folder: folder to make; it may exist if it is empty
        :param sourceVolume: volume the result was made from; the one that the result names if None
        :param newStudy: make a new study even if the source has one
        :param patient: for a new study: "name", "id" and "study" (its description), each of them optional
        :param burnIn: draw the word SYNTHETIC into the images
        :param lookup: function from an instance UID to its file; Slicer's DICOM database if None
        :return: the folder
        :raises SynthesisError: with the cause and what to do; nothing was written
        """
        from SynthGANPanel.export import dicom as dicomExport  # most of what the module would else take to be imported

        return dicomExport.exportDicom(
            resultVolume, folder, sourceNode=sourceVolume, newStudy=newStudy, patient=patient, burnIn=burnIn,
            lookup=lookup,
        )  # fmt: skip

    def exportFile(self, resultVolume: vtkMRMLScalarVolumeNode, path: str, overwrite: bool = False):
        """
        Export a result as .nrrd or .nii.gz, voxels as they are, with its record as JSON beside it.
        :param overwrite: replace a file and a record that are there already
        :return: the path
        :raises SynthesisError: with the cause and what to do; nothing was written
        """
        return fileExport.exportFile(resultVolume, path, overwrite)
