"""What is chosen for a synthesis besides input and output: one dataclass for jobs, batches, shell and panel."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from SynthGANLib.decoding import Count, Filled, Match, Whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from SynthGANLib.errors import Cancel
    from SynthGANLib.image.volume import Volume
    from SynthGANLib.inference.progress import Progress
    from SynthGANLib.model.model import Model

Device = Annotated[str, Match(r"auto|cpu|mps|cuda(:\d{1,2})?", "auto, cpu, cuda, cuda:0 or mps")]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a synthesis is made with.

    Attributes:
        model: id, ``id@version`` or folder; ``models``: further folders to look into first.
        mask: label volume on the grid of the input, or None; non-zero is body.
        device: "auto", "cpu", "cuda", "cuda:0", "mps".
        memory: bytes the synthesis may take, or None for what is free.
        series, frame: which DICOM series, which frame of a 4D file.
        input_unit, input_modality, input_sequence: override what the file says or fails to say.
        accept_unfit: use an input whose stated modality is not the model's; a warning says so.
    """

    model: Filled
    models: tuple[str, ...] = ()
    mask: str | None = None
    device: Device = "auto"
    memory: Count | None = None
    series: str | None = None
    frame: Whole | None = None
    input_unit: str | None = None
    input_modality: str | None = None
    input_sequence: str | None = None
    accept_unfit: bool = False

    def read(self, source: Path) -> Volume:
        """The volume of a file or DICOM folder as chosen; raises what `io.volumes.read_volume` raises."""
        from SynthGANLib.io.volumes import read_volume

        volume = read_volume(source, series=self.series, frame=self.frame, unit=self.input_unit)
        stated = {"modality": self.input_modality, "sequence": self.input_sequence}
        known = {name: value for name, value in stated.items() if value is not None}
        return dataclasses.replace(volume, meta={**volume.meta, **known}) if known else volume

    def read_mask(self) -> Volume | None:
        """The label volume of the body, or None where none was chosen."""
        from SynthGANLib.io.volumes import read_volume

        return read_volume(self.mask, unit="label") if self.mask else None

    def synthesize(
        self,
        volume: Volume,
        model: Model,
        mask: Volume | None,
        *,
        progress: Callable[[Progress], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Volume:
        """The synthetic volume; see :func:`SynthGANLib.inference.pipeline.synthesize`."""
        from SynthGANLib.inference.pipeline import synthesize

        return synthesize(
            volume,
            model,
            mask=mask,
            device=self.device,
            memory=self.memory,
            progress=progress,
            cancel=cancel,
            accept_unfit=self.accept_unfit,
        )
