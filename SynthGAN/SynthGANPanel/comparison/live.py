"""What runs by itself while volumes are compared: long steps, blinking, the patch around the mouse, the profile line.

The comparison that the scene stores decides what runs, so the panel, the Python console and a loaded scene start and
end it alike. Without Qt there is no event loop; the work is then done at once.
"""

import slicer
import vtk

from SynthGANPanel.comparison import checkerboard, compare, profile, reveal
from SynthGANPanel.comparison.formerState import CROSSHAIR
from SynthGANPanel.comparison.modes import CompareMode
from SynthGANPanel.i18n import _
from SynthGANPanel.scene import temporaryNodes, views
from SynthGANPanel.task import Task
from SynthGANPanel.timer import Timer

SOON_MILLISECONDS = 40
LATER_MILLISECONDS = 400
"""A line is followed soon; a checkerboard is drawn anew once its windows have come to rest."""


_live = None


def ofApplication():
    """The instance for the application's scene, shared by the panel and the Python console."""
    global _live
    if _live is None:
        _live = LiveComparison(slicer.mrmlScene)
    return _live


class LiveComparison:
    """
    :ivar choices: how to compare (`compare.Choices`) when what is compared has to be computed anew
    :ivar blinkMilliseconds: how long one volume is seen
    :ivar patchPixels: side of the patch around the mouse
    """

    def __init__(self, scene):
        self._scene = scene
        self.choices = compare.Choices()
        self.blinkMilliseconds = 700
        self.patchPixels = 200
        self._followed = None
        self._observations = []
        self._reveal = None
        self._blink = Timer(self.blinkMilliseconds, self.tick, isRepeated=True)
        self._soon = Timer(SOON_MILLISECONDS, self._sampleLine)
        self._later = Timer(LATER_MILLISECONDS, self._renew)
        self._left = Timer(0, self._clearUp)
        self._task = None

    @property
    def isWorking(self):
        """Whether something is still being computed."""
        return self._task is not None and self._task.running

    @property
    def isBlinking(self):
        """Whether the volumes change by themselves."""
        return self._blink.isRunning

    def show(self, sourceNode, resultNode, referenceNode=None, choices=None):
        """`compare.show`, brought to life."""
        self.choices = choices or compare.Choices()
        self._cancelTask()
        shown = compare.show(sourceNode, resultNode, referenceNode, self.choices)
        self.follow()
        return shown

    def begin(self, sourceNode, resultNode, referenceNode, choices, progress=None, failed=None, done=None):
        """Like `show`, but step by step while the application stays alive; what was under way is given up.

        :param progress: called with the fraction computed and a line of text
        :param failed: called with the SynthesisError; without it the error is raised
        :param done: called once the views have changed
        """
        self.choices = choices

        def arrived():
            self.follow()
            if done is not None:
                done()

        self._start(compare.steps(sourceNode, resultNode, referenceNode, choices), progress, failed, arrived)

    def end(self):
        """Back to what was there before."""
        self._cancelTask()
        compare.restore(self._scene)
        self.follow()

    def follow(self):
        """Begin what the shown comparison needs and end the rest. Call it as often as you like."""
        comparison = compare.current(self._scene)
        if comparison is None:
            self._release()
            if compare.isLeft(self._scene):
                self._left.start()  # not at once: the layout is just about to change
            return
        if comparison == self._followed:
            self._blink.setInterval(self.blinkMilliseconds)
            return
        self._release()
        self._followed = comparison
        layout = views.layoutNode(self._scene)
        self._observe(layout, vtk.vtkCommand.ModifiedEvent, lambda caller, event: self.follow())
        if comparison.crosshair:
            crosshair = views.findOrMake(self._scene, *CROSSHAIR)
            self._observe(crosshair, crosshair.CursorPositionModifiedEvent, self._onCursor)
        if comparison.mode is CompareMode.BLINK:
            self._blink.setInterval(self.blinkMilliseconds)
            self._blink.start()
        elif comparison.mode is CompareMode.REVEAL:
            self._reveal = reveal.start(int(self.patchPixels))
        elif comparison.mode is CompareMode.PROFILE and comparison.line is not None:
            line = comparison.line
            for event in (line.PointModifiedEvent, line.PointPositionDefinedEvent, line.PointRemovedEvent):
                self._observe(line, event, lambda caller, event: self._soon.start())
        elif comparison.mode is CompareMode.CHECKERBOARD:
            over = compare.overlaid(comparison.mode, comparison.against, comparison.source, comparison.reference)
            for volume in filter(None, (over, comparison.result)):
                if volume.GetDisplayNode() is not None:
                    event = vtk.vtkCommand.ModifiedEvent
                    self._observe(volume.GetDisplayNode(), event, lambda caller, event: self._later.start())

    def stop(self):
        """End everything that runs by itself; the views stay as they are."""
        self._cancelTask()
        self._release()

    def tick(self):
        """Show the other volume, when blinking."""
        comparison = compare.current(self._scene)
        if comparison is None or comparison.mode is not CompareMode.BLINK:
            self.follow()
            return
        compare.setFade(self._scene, 0.0 if compare.fade(self._scene) > 0.5 else 1.0)

    def setPatch(self, pixels):
        """Another size of the patch around the mouse."""
        if pixels != self.patchPixels:
            self.patchPixels = pixels
            if self._reveal is not None:
                self._reveal.cleanup()
                self._reveal = reveal.start(int(pixels))

    def _clearUp(self):
        """The user chose another layout: layers and links return, what was made goes."""
        if compare.isLeft(self._scene):
            self.end()

    def _release(self):
        self._followed = None
        for timer in (self._blink, self._soon, self._later, self._left):
            timer.stop()
        for caller, tag in self._observations:
            caller.RemoveObserver(tag)
        self._observations = []
        if self._reveal is not None:
            self._reveal.cleanup()
            self._reveal = None

    def _observe(self, node, event, function):
        self._observations.append((node, node.AddObserver(event, function)))

    def _onCursor(self, crosshair, event):
        position = [0.0, 0.0, 0.0]
        if compare.isShown(self._scene) and crosshair.GetCursorPositionRAS(position):
            crosshair.SetCrosshairRAS(*position)

    def _sampleLine(self):
        comparison = compare.current(self._scene)
        if comparison and comparison.mode is CompareMode.PROFILE and comparison.line and comparison.result:
            profile.update(comparison.line, comparison.source, comparison.result, comparison.reference)

    def _renew(self):
        """Draw the checkerboard anew, into the node that is shown."""
        comparison = compare.current(self._scene)
        if comparison is None or comparison.mode is not CompareMode.CHECKERBOARD:
            return
        over = compare.overlaid(comparison.mode, comparison.against, comparison.source, comparison.reference)
        if over is None or comparison.result is None or not temporaryNodes.nodes(self._scene, checkerboard.KIND):
            return
        self._start(checkerboard.steps(over, comparison.result, self.choices.cellMm))

    def _start(self, steps, progress=None, failed=None, done=None):
        """Give up what is computed and compute something else; what takes but a moment is done on return."""

        def ended(task):
            if task.state == "failed" and failed is None:
                raise task.error
            if task.state == "failed":
                failed(task.error)
            elif task.state == "done" and done is not None:
                done()

        self._cancelTask()
        task = self._task = Computation(steps, progress, ended)
        task.start()
        while not task.poll() and not task.hasEventLoop:
            pass  # without an event loop everything is done at once

    def _cancelTask(self):
        if self._task is not None:
            self._task.cancel()


class Computation(Task):
    """Steps that compute what a comparison shows; until the last one the scene is as it was."""

    def __init__(self, steps, progressCallback=None, completedCallback=None):
        super().__init__(progressCallback, completedCallback)
        self.CANCELLED = _("The comparison was cancelled.")
        self._given = steps

    def _work(self):
        return self._given
