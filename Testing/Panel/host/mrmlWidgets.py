"""The MRML widgets of the panel, bound to the real scene."""

import vtk
from PySide6 import QtCore, QtWidgets

from .qtModule import QWidget, wrapped


class qMRMLWidget(QWidget):
    """A widget that knows the scene and tells its children when it changes."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _stored(name, default):
    """A property that a `.ui` file sets by name before the scene is known."""

    def read(self):
        value = QtCore.QObject.property(self, name)
        return default if value is None else value

    def write(self, value):
        QtCore.QObject.setProperty(self, name, value)
        self._refresh()

    return property(read, write)


class qMRMLNodeComboBox(wrapped(QtWidgets.QWidget)):
    """Chooses a node of the scene by type; follows what is added, renamed and removed there."""

    currentNodeChanged = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)

    SIGNALS = ("currentNodeChanged(vtkMRMLNode*)", "nodeAddedByUser(vtkMRMLNode*)")

    nodeTypes = _stored("nodeTypes", ())
    showChildNodeTypes = _stored("showChildNodeTypes", True)
    noneEnabled = _stored("noneEnabled", False)
    noneDisplay = _stored("noneDisplay", "None")
    addEnabled = _stored("addEnabled", True)
    removeEnabled = _stored("removeEnabled", True)
    renameEnabled = _stored("renameEnabled", False)
    baseName = _stored("baseName", "")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._combo.activated.connect(self._onActivated)
        self._scene = None
        self._tags = []
        self._node = None
        self._observed = set()

    def connect(self, signature, receiver):
        """By the C++ signature, which a Python signal does not have."""
        if signature not in self.SIGNALS:
            raise ValueError(f"qMRMLNodeComboBox has no signal {signature} here; it has {self.SIGNALS}")
        getattr(self, signature.split("(")[0]).connect(receiver)
        return True

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        for caller, tag in self._tags:
            caller.RemoveObserver(tag)
        self._tags, self._observed = [], set()
        self._scene = scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
                self._observe(scene, event, self._refresh)
        self._refresh()

    def _observe(self, caller, event, function):
        self._tags.append((caller, caller.AddObserver(event, lambda caller, event: function())))

    def currentNode(self):
        return self._node

    @property
    def currentNodeID(self):
        return self._node.GetID() if self._node is not None else ""

    def setCurrentNode(self, node):
        if node is not None and node not in self._nodes():
            node = None
        if node is not self._node:
            self._node = node
            self._refresh()
            self.currentNodeChanged.emit(node)

    def addNode(self):
        """What "Create new ..." does: a node of the first type, named by `baseName`, which becomes the choice."""
        name = self._scene.GenerateUniqueName(self.baseName or "Volume")
        node = self._scene.AddNewNodeByClass(self.nodeTypes[0], name)
        self.nodeAddedByUser.emit(node)
        self.setCurrentNode(node)
        return node

    def items(self):
        """The texts a user sees in the list."""
        return [self._combo.itemText(index) for index in range(self._combo.count())]

    def choose(self, text):
        """Choose a list entry as a user does."""
        index = self.items().index(text)
        self._combo.setCurrentIndex(index)
        self._combo.activated.emit(index)

    def _nodes(self):
        if self._scene is None:
            return []
        found = []
        for index in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(index)
            matches = node.IsA if self.showChildNodeTypes else lambda name, node=node: node.GetClassName() == name
            if not node.GetHideFromEditors() and any(matches(name) for name in self.nodeTypes):
                found.append(node)
        return found

    def _refresh(self):
        if self._scene is None:
            return
        nodes = self._nodes()
        if self._node is not None and self._node not in nodes:
            self._node = None
            self._fill()
            self.currentNodeChanged.emit(None)
        else:
            self._fill()
        for node in nodes:
            if node not in self._observed:
                self._observed.add(node)
                self._observe(node, vtk.vtkCommand.ModifiedEvent, self._fill)

    def _fill(self):
        nodes = self._nodes()
        self._entries = ([(self.noneDisplay, None)] if self.noneEnabled else []) + [
            (node.GetName(), node) for node in nodes
        ]
        texts = [text for text, _node in self._entries]
        if self.addEnabled:
            texts.append("Create new " + (self.baseName or "Volume"))
        if texts != self.items():
            self._combo.clear()
            self._combo.addItems(texts)
        chosen = [index for index, (_text, node) in enumerate(self._entries) if node is self._node]
        self._combo.setCurrentIndex(chosen[0] if chosen else -1)

    def _onActivated(self, index):
        if index < len(self._entries):
            self.setCurrentNode(self._entries[index][1])
        else:
            self.addNode()


__all__ = ["qMRMLNodeComboBox", "qMRMLWidget"]
