"""A result as a derived DICOM series: one file a slice, in a folder that appears complete or not at all."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import slicer

from SynthGANPanel import environment
from SynthGANPanel.export import dicomSource
from SynthGANPanel.export import record as exportRecord
from SynthGANPanel.export.run import ExportRun
from SynthGANPanel.failure import SynthesisError, fromLibrary
from SynthGANPanel.i18n import _

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from SynthGANLib.image.grid import Array
    from SynthGANLib.io.dicom.export import Layout
    from SynthGANLib.io.dicom.export_kinds import Description
    from SynthGANLib.io.dicom.export_pixels import Extent, Stored
    from SynthGANPanel.export.dicomSource import SourceSeries
    from SynthGANPanel.export.record import Place
    from SynthGANPanel.task import Steps

Outcome = TypeVar("Outcome")
PATIENT_FIELDS = ("name", "id", "study")
READING, MEASURING = 0.15, 0.15
"""Parts of the progress before the first slice is written."""


class DicomExport(ExportRun):
    """The export of one result; see :class:`task.Task` for how it is run.

    :param node: a volume that SynthGAN made
    :param folder: folder to make; it may exist if it is empty
    :param sourceNode: the volume it was made from; the one that the result names if None
    :param newStudy: whether to make a new study even if the source has one
    :param patient: for a new study: "name", "id" and "study" (its description), each of them optional
    :param burnIn: whether to draw the word SYNTHETIC into the images
    :param lookup: function from an instance UID to the path of its file; Slicer's DICOM database if None
    :param newUid: function that returns a new UID at every call; random ones if None
    :param now: time of writing (a datetime); the present if None
    :param progressCallback: as of a task, like completedCallback
    """

    def __init__(
        self,
        node: slicer.vtkMRMLNode,
        folder: str | Path,
        sourceNode: slicer.vtkMRMLVolumeNode | None = None,
        newStudy: bool = False,
        patient: dict[str, str] | None = None,
        burnIn: bool = False,
        lookup: dicomSource.Lookup | None = None,
        newUid: Callable[[], str] | None = None,
        now: datetime.datetime | None = None,
        progressCallback: Callable[[float, str], Any] | None = None,
        completedCallback: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(Path(folder), progressCallback, completedCallback)
        self._node = node
        self._sourceNode = sourceNode
        self._newStudy = newStudy
        self._patient = {name: value for name, value in (patient or {}).items() if value}
        self._burnIn = burnIn
        self._lookup = lookup
        self._newUid = newUid or randomUid
        self._now = now
        self._part = exportRecord.temporaryBeside(self.path)

    def _begin(self) -> None:
        exportRecord.checkResult(self._node)
        if importlib.util.find_spec("pydicom") is None:  # Slicer brings it, the slicer-core wheel does not
            raise SynthesisError(
                _("DICOM is written with the package pydicom, which this Python does not have."),
                _("Install it, or export as NRRD."),
                "package",
            )
        export, _pixels = _library()
        self._kind = exportRecord.kindOf(self._node)
        if self._kind.modality not in export.SOP_CLASSES:
            raise SynthesisError(
                _("Results of the kind {modality} cannot be exported as DICOM.").format(modality=self._kind.modality),
                _("Export '{name}' as NRRD instead.").format(name=self._node.GetName()),
            )
        self._place = exportRecord.placeOf(self._node)
        exportRecord.checkRightAngles(self._node, self._place, _("a DICOM series"))
        self._array = slicer.util.arrayFromVolume(self._node)  # (z, y, x[, c])
        if self._array.ndim == 4:
            self._array = self._array[..., :3]
        self._shape = self._array.shape[:3]
        self._masks = _fitting("text_mask", *self._shape[1:]) if self._burnIn else None
        self._fromDicom = not self._newStudy and self._hasDicomSource()
        checkPatient(self._patient, self._fromDicom)
        checkFolder(self.path)

    def _hasDicomSource(self) -> bool:
        if self._sourceNode is None and exportRecord.hasNoSource(self._node):
            return False
        source = self._sourceNode or exportRecord.sourceOf(self._node)
        if source is None:
            raise SynthesisError(
                _("The volume that '{name}' was made from is not in the scene.").format(name=self._node.GetName()),
                _("Load it again, or export as a new study."),
            )
        self._sourceNode = source
        return dicomSource.isFromDicom(source)

    def _work(self) -> Steps:
        export, _pixels = _library()
        series = None
        if self._fromDicom and self._sourceNode is not None:
            lookup = self._lookup or dicomSource.databaseLookup()
            series = yield from _scaled(dicomSource.readSource(self._sourceNode, lookup), 0.0, READING)
        own = exportRecord.ownPlaceOf(self._node)
        layout = export.Layout(self._place, own, self._shape, series, self._liesOn(series, own))
        changed = self._node.GetImageData().GetMTime()
        extent = yield from _scaled(_measure(self._array), READING, MEASURING)
        stored = _fitting("stored_for", self._kind.modality, extent, self._node.GetName())
        self._note(layout, stored)
        shared = export.series(
            self._describe(extent),
            stored,
            layout,
            self._newUid,
            self._now or datetime.datetime.now(),  # noqa: DTZ005
        )
        self._part.mkdir(parents=False)
        hashes = yield from _scaled(
            self._writeImages(shared, layout, stored, extent), READING + MEASURING, 1 - READING - MEASURING
        )
        if self._node.GetImageData() is None or self._node.GetImageData().GetMTime() != changed:
            raise SynthesisError(
                _("'{name}' was changed while it was being exported.").format(name=self._node.GetName()),
                _("Export it again."),
            )
        self._finish(shared, stored, hashes)
        return self.path

    def _liesOn(self, series: SourceSeries | None, own: Place) -> bool:
        """Whether the result lies on its source, and the source where its DICOM files place it."""
        if series is None or self._sourceNode is None:
            return False
        source = exportRecord.ownPlaceOf(self._sourceNode)
        shape = self._sourceNode.GetImageData().GetDimensions()[::-1]
        return own.shares(source) and series.liesOn(source.affine, shape)

    def _writeImages(
        self, shared: Dataset, layout: Layout, stored: Stored, extent: Extent
    ) -> Generator[float, None, Any]:
        """Write the slices in the order of the slice normal, so that number and place rise together."""
        export, pixelRules = _library()
        step = -1 if np.linalg.det(layout.place.affine[:3, :3]) < 0 else 1
        order = range(self._shape[0])[::step]
        darkest, brightest = _ends(stored, extent)
        hashes = {}
        for number, index in enumerate(order, start=1):
            pixels = stored.encode(self._array[index])
            if self._masks is not None:
                pixelRules.burn_in(pixels, self._masks, darkest, brightest)
            content = export.write(export.image(shared, layout, index, number, self._newUid), pixels)
            name = f"{number:04d}.dcm"
            (self._part / name).write_bytes(content)
            hashes[name] = hashlib.sha256(content).hexdigest()
            yield number / self._shape[0]
        return hashes

    def _finish(self, shared: Dataset, stored: Stored, hashes: dict[str, str]) -> None:
        """Rename the record, then the folder; both or neither."""
        record = exportRecord.recordOf(self._node, self._place, self._kind, self.notes)
        record["folder"], record["sha256"] = self.path.name, hashes
        record["stored"] = {"slope": stored.slope, "intercept": stored.intercept, "type": str(stored.dtype)}
        record["dicom"] = {
            name: str(shared[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
        }
        exportRecord.writeRecord(self._part / "record", record)
        checkFolder(self.path)  # another program may have written there in the meantime
        beside = exportRecord.recordPath(self.path)
        os.rename(self._part / "record", beside)
        placed = False
        try:
            if self.path.exists():
                self.path.rmdir()  # empty, else this fails; Windows renames onto nothing
            os.rename(self._part, self.path)
            placed = True
        finally:
            if not placed:
                beside.unlink(missing_ok=True)

    def _describe(self, extent: Extent) -> Description:
        export, _pixels = _library()
        import SynthGANLib

        record = exportRecord.attributesOf(self._node)
        model, version = str(record["ModelId"]), str(record.get("ModelVersion", ""))
        software = f"SynthGAN {SynthGANLib.__version__}"
        sentences = [
            f"Synthetic {self._kind.modality} image computed by {software} with the model {model} {version} "
            f"(SHA-256 of its weights: {record.get('WeightsSHA256', 'none')}).",
            *self.notes,
            "Not acquired by a scanner. For research only.",
        ]
        return export.Description(
            self._kind.modality,
            self._kind.unit,
            model,
            version,
            software,
            " ".join(sentences),
            _window(self._node, extent) if self._kind.modality != "RGB" else None,
            self._burnIn,
            self._shape[0],
            self._patient,
        )

    def _note(self, layout: Layout, stored: Stored) -> None:
        if stored.note:
            self.notes.append(stored.note)
        if layout.place.moved:
            self.notes.append(_("World coordinates are exported: the volume is under a transform."))
        if layout.source is not None and not layout.same_frame:
            self.notes.append(_("The images do not lie where those of the source do: new frame of reference."))
        if layout.source is None:
            self.notes.append(_("New study and frame of reference."))
        if self._burnIn:
            self.notes.append(_("The word {text} is drawn into the images.").format(text=_library()[1].TEXT))

    def _cleanUp(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)


def _library() -> Any:
    """The library's modules of attributes and of pixels."""
    environment.useLibrary()
    from SynthGANLib.io.dicom import export, export_pixels

    return export, export_pixels


def _fitting(name: Any, *arguments: Any) -> Any:
    """What a function of the library's module of pixels returns.

    :raises SynthesisError: for what it refuses
    """
    pixels = _library()[1]
    from SynthGANLib.errors import InputError

    try:
        return getattr(pixels, name)(*arguments)
    except InputError as error:
        raise fromLibrary(error) from error


def exportDicom(node: slicer.vtkMRMLNode, folder: str | Path, **choices: Any) -> Path:
    """Export and wait for it.

    :param choices: those of :class:`DicomExport`
    :return: the folder
    :raises SynthesisError: one sentence about what is wrong; nothing was written
    """
    run = DicomExport(node, folder, **choices)
    run.start()
    return run.wait()


def addToDatabase(folder: Path) -> None:
    """Import a folder into Slicer's DICOM database, as copies.

    :raises SynthesisError: if there is no database or it refuses; the folder stays
    """
    obstacle = databaseObstacle()
    if obstacle:
        raise SynthesisError(obstacle, _("The exported files are in '{folder}'.").format(folder=folder))
    from DICOMLib import DICOMUtils

    try:
        done = DICOMUtils.importDicom(str(folder), slicer.dicomDatabase, copyFiles=True)
    except (RuntimeError, OSError, ValueError) as error:  # what ctkDICOMIndexer and the disk raise
        raise _notImported(folder) from error
    if not done:
        raise _notImported(folder)


def databaseObstacle() -> str:
    """Why nothing can be added to the DICOM database, "" if it can."""
    database = getattr(slicer, "dicomDatabase", None)
    if database is None:
        return _("This Slicer has no DICOM database.")
    if not database.isOpen:
        return _("The DICOM database is not open: open the DICOM module once.")
    return ""


def randomUid() -> str:
    """A new UID, derived from a random UUID (DICOM PS3.5, B.2)."""
    from pydicom.uid import generate_uid

    return generate_uid(prefix=None)


def checkPatient(patient: dict[str, str], fromDicom: bool) -> None:
    """Refuse entries that cannot be stored, or that would contradict the source.

    :raises SynthesisError: naming the entry
    """
    if patient and fromDicom:
        raise SynthesisError(
            _("The source was loaded from DICOM, which identifies the patient."),
            _("Leave the patient's data out, or export as a new study."),
        )
    labels = {"name": _("patient name"), "id": _("patient ID"), "study": _("study description")}
    for field, value in patient.items():
        if field not in PATIENT_FIELDS:
            raise SynthesisError(
                _("'{field}' is not a patient field; choose from {known}.").format(
                    field=field, known=", ".join(PATIENT_FIELDS)
                )
            )
        if len(value) > 64 or "\\" in value or not value.isprintable() or (field == "name" and "=" in value):
            raise SynthesisError(
                _("The {entry} '{value}' is not valid DICOM text.").format(entry=labels[field], value=value),
                _("Use at most 64 characters and no \\ or =."),
            )


def checkFolder(folder: Path) -> None:
    """Refuse a folder that holds something, or that cannot be made.

    :raises SynthesisError: naming it
    """
    if not folder.parent.is_dir():
        raise SynthesisError(
            _("There is no folder '{folder}'.").format(folder=folder.parent), _("Make it, or choose another.")
        )
    taken = folder if os.path.lexists(folder) and not _isEmptyFolder(folder) else exportRecord.recordPath(folder)
    if os.path.lexists(taken):
        raise SynthesisError(
            _("'{path}' exists and is not overwritten.").format(path=taken), _("Choose another name or folder.")
        )


def _isEmptyFolder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _measure(array: Array) -> Generator[float, None, Any]:
    extent = _library()[1].Extent()
    for number, plane in enumerate(array, start=1):
        extent.add(plane)
        yield number / len(array)
    return extent


def _scaled(generator: Generator[float, None, Outcome], start: float, share: float) -> Generator[float, None, Outcome]:
    """Pass a generator's fractions on as part of the whole; its value is this one's."""
    while True:
        try:
            fraction = next(generator)
        except StopIteration as end:
            return end.value
        yield start + share * fraction


def _ends(stored: Stored, extent: Extent) -> tuple[int, int]:
    """The smallest and the largest stored number, made different where all values are equal."""
    ends = stored.encode(np.array([extent.low, extent.high]))
    low, high = int(ends[0]), int(ends[1])
    if low == high:
        low, high = (low - 1, high) if high == np.iinfo(stored.dtype).max else (low, high + 1)
    return low, high


def _window(node: slicer.vtkMRMLNode, extent: Extent) -> tuple[float, float]:
    """Window and level as shown; the whole range where that is automatic."""
    display = node.GetDisplayNode()
    if display is not None and not display.GetAutoWindowLevel():
        return display.GetWindow(), display.GetLevel()
    return max(extent.high - extent.low, 1e-6), (extent.high + extent.low) / 2


def _notImported(folder: Path) -> SynthesisError:
    return SynthesisError(
        _("The series was exported but the DICOM database did not accept it."),
        _("Import the folder '{folder}' in the DICOM module.").format(folder=folder),
    )
