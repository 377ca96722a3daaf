"""Qt's timer, for logic that has to work without Qt too: then a single shot happens at once, a repeated one never."""


class Timer:
    """Calls a function after a time, once or again and again, from `start` to `stop`."""

    def __init__(self, milliseconds, function, isRepeated=False):
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
    def hasEventLoop(self):
        """Whether time passes by itself."""
        return self._timer is not None

    @property
    def isRunning(self):
        """Whether the function will be called."""
        return self._timer is not None and self._timer.active

    def setInterval(self, milliseconds):
        """Another time, from the next call on."""
        if self._timer is not None and self._timer.interval != int(milliseconds):
            self._timer.setInterval(int(milliseconds))

    def start(self):
        """Begin, or begin anew."""
        if self._timer is not None:
            self._timer.start()
        elif not self._isRepeated:
            self._function()

    def stop(self):
        """Call no more."""
        if self._timer is not None:
            self._timer.stop()
