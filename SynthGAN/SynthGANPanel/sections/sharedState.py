"""What the sections of the panel share: choices, the nodes they lead to, the status line."""

import slicer

from SynthGANPanel.runs import request, synthesis


class SharedState:
    """Mixed into the module's widget, which has `logic`, `sections`, `models`, `parent` and `_parameterNode`."""

    @property
    def parameters(self):
        """The parameter node, None while there is none."""
        return self._parameterNode

    @property
    def entered(self):
        """Whether the user has this module open."""
        return self.parent.isEntered

    @property
    def running(self):
        """Whether a synthesis is under way."""
        return self._runSection.run is not None

    def section(self, uiFile):
        """The section whose widgets stand in that `.ui` file."""
        return next(section for section in self.sections if section.uiFile == uiFile)

    @property
    def _runSection(self):
        return self.section("Run")

    def devices(self):
        """What the last check of the devices found, None if there was none."""
        return self.section("Setup").outcome

    def checkDevices(self) -> None:
        """Check the devices, in the background."""
        self.section("Setup").startCheck()

    def source(self):
        """The input volume, None if none is chosen or the model takes none."""
        return self._parameterNode.inputVolume if self._parameterNode and not self.needsNoInput() else None

    def needsNoInput(self):
        """Whether the chosen model makes images from nothing but a seed."""
        entry = self.model()
        return request.needsNoInput(entry.card if entry else None)

    def result(self):
        """The chosen model's newest result for the chosen input, else any model's newest for it; None without one.

        So the model's selector leads back to what it made before. Of a model that needs no input its newest.
        """
        if self.needsNoInput():
            return synthesis.latestGenerated(slicer.mrmlScene, self._parameterNode.modelId)
        source, modelId = self.source(), self._parameterNode.modelId if self._parameterNode else None
        return synthesis.latestResult(source, modelId) or synthesis.latestResult(source)

    def reference(self):
        """The real image to compare the result with, None if none is chosen."""
        return self._parameterNode.referenceVolume if self._parameterNode else None

    def model(self):
        """The catalogue's entry of the chosen model, None if it is not installed."""
        return self.models.get(self._parameterNode.modelId) if self._parameterNode else None

    def obstacle(self):
        """Why Apply is not possible with the present choices, "" if it is."""
        return next(filter(None, (section.obstacle() for section in self.sections)), "")

    def tell(self, text) -> None:
        """Show a line of text beside the Apply button."""
        self._runSection.tell(text)

    def fail(self, error) -> None:
        """Show a SynthesisError: cause and next step, and the details if there are any."""
        self._runSection.fail(error)

    def ended(self, run) -> None:
        """A synthesis has ended."""
        for section in self.sections:
            section.ended(run)
        self.refresh()

    def refresh(self, caller=None, event=None) -> None:
        """Let every section show the present state."""
        if self._parameterNode:
            for section in self.sections:
                section.update()
