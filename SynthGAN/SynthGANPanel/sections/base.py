"""One part of the panel: its own `.ui` file, its own choices, and what the rest of the panel lets it see."""

import slicer


class Section:
    """Base of the panel's sections; a subclass names its `.ui` file and fills in the hooks.

    A section owns the widgets of its file and nothing else. It reads what it needs from the panel, writes choices
    to the parameter node only, and calls the logic for everything that touches the scene.

    :cvar uiFile: name in Resources/UI, without ".ui"; its top widget is a qMRMLWidget without margins that forwards
        mrmlSceneChanged to its node selectors. Widgets' names are unique in the whole panel.
    :ivar panel: the module's widget. `panel.logic`, `panel.parameters` (the parameter node, None while a scene
        closes), `panel.models` (catalogue entries by id), `panel.running`, `panel.source()`, `panel.result()`,
        `panel.reference()` (nodes or None), `panel.model()` (the chosen catalogue entry or None),
        `panel.obstacle()` (why Apply is not possible, "" if it is), `panel.refresh()` (everything shows the present
        state), `panel.tell(text)` (status line) and `panel.fail(error)` (a SynthesisError: status line and details)
    :ivar ui: the widgets by name, after `build`
    """

    uiFile = ""

    def __init__(self, panel):
        self.panel = panel
        self.ui = None
        self._guiTag = None

    def build(self, layout):
        """Load the file and add its widgets to the panel's layout."""
        widget = slicer.util.loadUI(self.panel.resourcePath(f"UI/{self.uiFile}.ui"))
        layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.setup()

    def bind(self, parameters):
        """Bind the widgets to the parameter node by their `SlicerParameterName`."""
        self._guiTag = parameters.connectGui(self.ui)

    def unbind(self, parameters):
        """The parameter node is about to go."""
        if self._guiTag is not None:
            parameters.disconnectGui(self._guiTag)
            self._guiTag = None

    def setup(self):
        """Hook: connect the widgets' signals, once."""

    def obstacle(self):
        """Hook: one sentence why Apply is not possible with the present choices, "" if it is."""
        return ""

    def update(self):
        """Hook: show the present state; called after every change of choices, runs, results and layout."""

    def sceneCloses(self):
        """Hook: the scene is about to be closed; the parameter node goes after this."""

    def sceneClosed(self):
        """Hook: the scene was closed while the module is open; the parameter node is a new one."""

    def ended(self, run):
        """Hook: a synthesis has ended in whatever way (`run.error` is None if it succeeded)."""

    def cleanup(self):
        """Hook: the panel or the scene is closed; remove observers, stop timers. May be called more than once."""
