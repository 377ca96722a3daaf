"""An export in small steps, so that the application stays usable and the user can end it at any moment."""

import abc
import time

from SynthGANPanel.failure import SynthesisError
from SynthGANPanel.i18n import _

STEP_SECONDS = 0.05


class ExportRun(abc.ABC):
    """Base of the exports. A subclass writes to a temporary place in `_work` and renames it at the very end.

    Create it, `start()` it, then call `step()` until it returns True, or `wait()`.

    :ivar state: "new", "running", "done", "failed" or "cancelled"
    :ivar error: the SynthesisError once `state` is "failed" or "cancelled"
    :ivar fraction: 0 to 1
    :ivar notes: sentences about what the export changed; complete once `state` is "done"
    :ivar path: where the export lies once `state` is "done"
    """

    def __init__(self, path):
        self.path = path
        self.state = "new"
        self.error = None
        self.fraction = 0.0
        self.notes = []
        self._steps = None

    @property
    def running(self):
        """Whether the export is under way."""
        return self.state == "running"

    def start(self):
        """Check everything that can be known beforehand.

        :raises SynthesisError: one sentence about what is wrong; nothing was written
        """
        self._check()
        self._steps = self._work()
        self.state = "running"

    def step(self, seconds=STEP_SECONDS):
        """Work for about as long as given, but finish one slice at least.

        :return: True when the export has ended, in whatever way
        """
        until = time.monotonic() + seconds
        while self.running:
            self._advance()
            if time.monotonic() >= until:
                break
        return not self.running

    def cancel(self):
        """End the export; what was written of it is removed."""
        if self.running:
            self._end("cancelled", SynthesisError(_("The export was cancelled; nothing was written."), "", "cancelled"))

    def wait(self):
        """Run to the end.

        :return: the path
        :raises SynthesisError: if the export failed
        """
        while not self.step():
            pass
        if self.error is not None:
            raise self.error
        return self.path

    def _advance(self):
        try:
            self.fraction = next(self._steps)
        except StopIteration:
            self.state, self.fraction = "done", 1.0
        except SynthesisError as error:
            self._end("failed", error)
        except MemoryError as error:
            self._end(
                "failed",
                _because(
                    error,
                    SynthesisError(
                        _("There is not enough memory for the export."),
                        _("Close other volumes and try again."),
                        "memory",
                    ),
                ),
            )
        except OSError as error:
            self._end("failed", _because(error, self._diskError(error)))
        except BaseException:  # a defect or an interrupt: it goes on to the caller, but leaves nothing half-written
            self._end("failed", SynthesisError(_("The export ended unexpectedly.")))
            raise

    def _end(self, state, error):
        self._steps.close()
        self.state, self.error = state, error
        self._discard()

    def _diskError(self, error):
        return SynthesisError(
            _("'{path}' could not be written ({reason}).").format(path=self.path, reason=error.strerror or error),
            _("Free some space or choose another folder; nothing was left behind."),
        )

    def _check(self):  # noqa: B027  # a hook that may stay empty
        """Hook: refuse what cannot work."""

    @abc.abstractmethod
    def _work(self):
        """Hook: a generator that yields the fraction done."""

    def _discard(self):  # noqa: B027  # a hook that may stay empty
        """Hook: remove whatever was written."""


def _because(cause, error):
    error.__cause__ = cause
    return error
