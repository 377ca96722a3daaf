"""What the exports share: they write beside the target, and rename when everything is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _
from SynthGANPanel.task import Task


class ExportRun(Task):
    """Base of the exports. A subclass writes to a temporary place in `_work` and renames it at the very end; what is
    left there is removed by `_cleanUp`. The `outcome` is the path.

    :ivar notes: sentences about what the export changed; complete once `state` is "done"
    :ivar path: where the export lies once `state` is "done"
    """

    def __init__(self, path: Path, *callbacks: Any) -> None:
        """The callbacks are those of :class:`task.Task`."""
        super().__init__(*callbacks)
        self.CANCELLED = _("The export was cancelled; nothing was written.")
        self.path = path
        self.notes: list[str] = []

    def _asError(self, error: BaseException) -> SynthesisError:
        if isinstance(error, OSError):
            return SynthesisError(
                _("'{path}' could not be written ({reason}).").format(path=self.path, reason=error.strerror or error),
                _("Free some space or choose another folder; nothing was left behind."),
            )
        return super()._asError(error)
