"""`slicer.parameterNodeWrapper`: typed access to a parameter node and binding to widgets, as documented.

Types here: str, bool, int, float, Enum (kept by name), node classes, unions of node classes with None, and
Annotated[..., WithinRange]. Values live in the vtkMRMLScriptedModuleNode alone, so they are saved with the scene.
"""

import enum
import types
import typing

import slicer
import vtk
from PySide6 import QtWidgets

PROPERTY = "SlicerParameterName"


class WithinRange:
    """Refuses numbers outside [minimum, maximum]."""

    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} and {self.maximum}")


class _Parameter:
    """One parameter: its type, default and validators; reads and writes the node's text or reference."""

    def __init__(self, name, annotation, default):
        self.name = name
        self.validators = [each for each in getattr(annotation, "__metadata__", ()) if hasattr(each, "validate")]
        kind = typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation
        isUnion = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
        self.kinds = typing.get_args(kind) if isUnion else (kind,)
        self.isNode = any(isinstance(k, type) and issubclass(k, slicer.vtkMRMLNode) for k in self.kinds)
        self.default = self._firstValue() if default is None else default

    @property
    def kind(self):
        return self.kinds[0]

    def nodeTypes(self):
        return tuple(k().GetClassName() for k in self.kinds if k is not type(None))

    def read(self, node):
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if issubclass(self.kind, enum.Enum):
            return self.kind[text]
        return text == "True" if self.kind is bool else self.kind(text)

    def write(self, node, value):
        if self.isNode:
            if value is None:
                node.SetNodeReferenceID(self.name, None)
            elif isinstance(value, self.kinds):
                node.SetNodeReferenceID(self.name, value.GetID())
            else:
                raise TypeError(f"{self.name}: {value.GetClassName()} is none of {self.nodeTypes()}")
            return
        allowed = (int, float) if self.kind is float else self.kind
        if not isinstance(value, allowed):
            raise TypeError(f"{self.name}: {value!r} is no {self.kind.__name__}")
        for validator in self.validators:
            validator.validate(value)
        node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))

    def isIn(self, node):
        return self.isNode or node.HasParameter(self.name)

    def _firstValue(self):
        if self.isNode:
            return None
        return next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else self.kind()


def parameterNodeWrapper(classtype):
    """Class decorator; see the module."""
    hints = typing.get_type_hints(classtype, include_extras=True)
    parameters = {name: _Parameter(name, hint, getattr(classtype, name, None)) for name, hint in hints.items()}

    def initialize(self, parameterNode):
        self.parameterNode = parameterNode
        self._connections = {}
        self._writingGui = False
        for parameter in parameters.values():
            if not parameter.isIn(parameterNode):
                parameter.write(parameterNode, parameter.default)

    classtype.__init__ = initialize
    classtype.allParameters = parameters
    for name, parameter in parameters.items():
        setattr(classtype, name, _accessor(parameter))
    for function in (connectGui, disconnectGui, AddObserver, RemoveObserver):
        setattr(classtype, function.__name__, function)
    return classtype


def _accessor(parameter):
    return property(
        lambda self: parameter.read(self.parameterNode),
        lambda self, value: parameter.write(self.parameterNode, value),
    )


def AddObserver(self, event, callback, priority=0.0):
    return self.parameterNode.AddObserver(event, callback, priority)


def RemoveObserver(self, tag):
    self.parameterNode.RemoveObserver(tag)


def connectGui(self, gui):
    """Bind every widget that has the dynamic property; returns the tag for `disconnectGui`."""
    bound = []
    for widget in vars(gui).values():
        name = widget.property(PROPERTY) if isinstance(widget, QtWidgets.QWidget) else None
        if name:
            bound.append(_Connection(self, name, widget))

    def update(caller=None, event=None):
        if self._writingGui:
            return
        self._writingGui = True
        try:
            for connection in bound:
                connection.toWidget()
        finally:
            self._writingGui = False

    update()
    tag = self.AddObserver(vtk.vtkCommand.ModifiedEvent, update)
    self._connections[tag] = bound
    for connection in bound:
        connection.start()
    return tag


def disconnectGui(self, tag):
    """Undo `connectGui`."""
    if tag in self._connections:
        self.RemoveObserver(tag)
        for connection in self._connections.pop(tag):
            connection.stop()


class _Connection:
    """One widget bound to one parameter, both ways."""

    def __init__(self, wrapper, name, widget):
        if name not in wrapper.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        self.wrapper, self.name, self.widget = wrapper, name, widget
        self.parameter = wrapper.allParameters[name]
        self.signal, self.read, self.write = self._adapter(type(widget).__name__)

    def _adapter(self, widgetName):
        widget, kind = self.widget, self.parameter.kind
        if widgetName == "qMRMLNodeComboBox" and self.parameter.isNode:
            widget.nodeTypes = self.parameter.nodeTypes()
            return widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode
        if widgetName == "QCheckBox" and kind is bool:
            return widget.toggled, lambda: widget.checked, widget.setChecked
        if widgetName in ("QDoubleSpinBox", "ctkSliderWidget") and kind is float:
            for bounds in self.parameter.validators:
                widget.minimum, widget.maximum = bounds.minimum, bounds.maximum
            return widget.valueChanged, lambda: widget.value, widget.setValue
        if widgetName == "QSpinBox" and kind is int:
            for bounds in self.parameter.validators:
                widget.setRange(bounds.minimum, bounds.maximum)
            return widget.valueChanged, lambda: widget.value, widget.setValue
        if widgetName == "QLineEdit" and kind is str:
            return widget.textChanged, lambda: widget.text, widget.setText
        if widgetName == "QComboBox" and issubclass(kind, enum.Enum):
            members = list(kind)
            widget.clear()
            widget.addItems([getattr(kind, "label", lambda each: each.name)(each) for each in members])
            return (
                widget.currentIndexChanged,
                lambda: members[widget.currentIndex],
                lambda value: widget.setCurrentIndex(members.index(value)),
            )
        raise RuntimeError(f"Unable to create GUI connector from '{self.name}' to widget type '{widgetName}'.")

    def toWidget(self):
        value = getattr(self.wrapper, self.name)
        if self.read() != value:
            self.write(value)

    def start(self):
        self.signal.connect(self._changed)

    def stop(self):
        self.signal.disconnect(self._changed)

    def _changed(self, *_):
        if not self.wrapper._writingGui:
            setattr(self.wrapper, self.name, self.read())
