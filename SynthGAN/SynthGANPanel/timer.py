"""Qt's timer, for logic that has to work without Qt too: then a single shot happens at once, a repeated one never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Timer:
    """Calls a function after a time, once or again and again, from `start` to `stop`."""

    def __init__(self, milliseconds: float, function: Callable[[], Any], isRepeated: bool = False) -> None:
        self._function, self._isRepeated = function, isRepeated
        self._timer = None
        try:
            import qt
        except ImportError:
            return
        self._timer = qt.QTimer()
        self._timer.setSingleShot(not isRepeated)
        self._timer.setInterval(int(milliseconds))
        self._timer.connect("timeout()", function)

    @property
    def hasEventLoop(self) -> bool:
        """Whether time passes by itself."""
        return self._timer is not None

    @property
    def isRunning(self) -> bool:
        """Whether the function will be called."""
        return self._timer is not None and self._timer.active

    def setInterval(self, milliseconds: float) -> None:
        """Another time, from the next call on."""
        if self._timer is not None and self._timer.interval != int(milliseconds):
            self._timer.setInterval(int(milliseconds))

    def start(self) -> None:
        """Begin, or begin anew."""
        if self._timer is not None:
            self._timer.start()
        elif not self._isRepeated:
            self._function()

    def stop(self) -> None:
        """Call no more."""
        if self._timer is not None:
            self._timer.stop()
