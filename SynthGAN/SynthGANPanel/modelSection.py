"""Which model: the list of the catalogue and the card of the chosen one."""

from SynthGANPanel import modelView, synthesis
from SynthGANPanel.section import Section


class ModelSection(Section):
    """Model list and card."""

    uiFile = "Model"

    def __init__(self, panel):
        Section.__init__(self, panel)
        self._shown = None

    def setup(self):
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelSelected)

    def bind(self, parameters):
        if not parameters.modelId:
            parameters.modelId = modelView.defaultModel(self.panel.models, synthesis.DEFAULT_MODEL)
        Section.bind(self, parameters)

    def obstacle(self):
        return modelView.obstacle(self.panel.models, self.panel.parameters.modelId)

    def update(self):
        modelView.fill(self.ui.modelSelector, self.panel.models, self.panel.parameters.modelId)
        self.ui.modelSelector.enabled = not self.panel.running
        entry = self.panel.model()
        if entry is not self._shown:  # else a reader would lose the place
            self._shown = entry
            self.ui.modelCardBrowser.setMarkdown(modelView.cardMarkdown(entry))

    def onModelSelected(self, index):
        """The models differ from machine to machine, so this selector is not bound but kept equal by hand."""
        modelId = self.ui.modelSelector.itemData(index)
        if self.panel.parameters and modelId:
            self.panel.parameters.modelId = modelId
