"""As much of the module's widget as the Compare section needs."""

from pathlib import Path

import slicer

ROOT = Path(__file__).resolve().parents[2]


class Panel:
    """As much of the module's widget as the section asks for."""

    def __init__(self, app):
        import qt

        from SynthGANPanel.parameters import SynthGANParameterNode
        from SynthGANPanel.sections.compareSection import CompareSection

        self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")
        self.parameters = SynthGANParameterNode(self.node)
        self.entered, self.volumes = True, (None, None)
        self.widget = slicer.qMRMLWidget()
        self.section = CompareSection(self)
        layout = qt.QVBoxLayout(self.widget)
        self.section.build(layout)
        layout.addStretch(1)
        self.ui = self.section.ui
        self.section.bind(self.parameters)
        layoutNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        self.observed = [(node, node.AddObserver("ModifiedEvent", self.refresh)) for node in (self.node, layoutNode)]
        self.widget.resize(420, 560)
        self.widget.show()
        self.refresh()

    def resourcePath(self, name):
        return str(ROOT / "SynthGAN" / "Resources" / name)

    def source(self):
        return self.volumes[0]

    def result(self):
        return self.volumes[1]

    def reference(self):
        return self.parameters.referenceVolume if self.parameters else None

    def refresh(self, caller=None, event=None):
        self.section.update()

    def choose(self, mode):
        self.ui.compareModeSelector.currentText = mode

    def close(self):
        for node, tag in self.observed:
            node.RemoveObserver(tag)
        self.section.cleanup()
        self.section.cleanup()  # may be called more than once
        self.section.unbind(self.parameters)
        for selector in self.widget.findChildren(slicer.qMRMLNodeComboBox):
            selector.setMRMLScene(None)
        self.widget.close()
