"""`qt` as PythonQt offers it: Qt properties are attributes, signals connect by their C++ signature.

Each class derives from PySide6's. A property hides the getter of its name, exactly as in PythonQt: `label.text` is a
string and `label.text()` an error; setters (`setText`) and slots stay methods.
"""

import re

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import QFile, QSettings, Qt
from PySide6.QtGui import QColor, QIcon

# Names of properties that stay functions: virtual ones, which Qt calls through the Python class, and a static one.
FUNCTIONS = {"sizeHint", "minimumSizeHint"}
FUNCTIONS_BY_CLASS = {"QProgressBar": {"text"}, "QTimer": {"singleShot"}}
_SIGNATURE = re.compile(r"(\w+)\((.*)\)")


def _property(name):
    return property(
        lambda self: QtCore.QObject.property(self, name),
        lambda self, value: QtCore.QObject.setProperty(self, name, value),
    )


def _signal(owner, signature):
    """The bound signal of `clicked(bool)`; an unknown one is an error, as it is in PythonQt's log."""
    match = _SIGNATURE.fullmatch(signature.replace(" ", ""))
    if match is None:
        raise ValueError(f"'{signature}' is no signal signature")
    known = {
        bytes(method.methodSignature().data()).decode()
        for method in (owner.metaObject().method(i) for i in range(owner.metaObject().methodCount()))
        if method.methodType() == QtCore.QMetaMethod.MethodType.Signal
    }
    if match.group(0) not in known:
        raise ValueError(f"{type(owner).__name__} has no signal {signature}; it has {sorted(known)}")
    return getattr(type(owner).__mro__[1], match.group(1)).__get__(owner)


class PythonQtObject:
    """What PythonQt adds to every wrapped object."""

    def connect(self, signature, receiver):
        _signal(self, signature).connect(receiver)
        return True

    def disconnect(self, signature, receiver):
        _signal(self, signature).disconnect(receiver)
        return True

    @property
    def name(self):
        return self.objectName

    @name.setter
    def name(self, value):
        self.objectName = value

    def className(self):
        return type(self).__name__


def wrapped(base):
    """The PySide6 class as PythonQt would show it."""
    hidden = FUNCTIONS | FUNCTIONS_BY_CLASS.get(base.__name__, set())
    meta = base.staticMetaObject
    names = {meta.property(index).name() for index in range(meta.propertyCount())} - hidden
    # The PySide6 class comes second in the order of resolution; `_signal` relies on that.
    members = {**vars(PythonQtObject), **{name: _property(name) for name in names}}
    members = {key: value for key, value in members.items() if key not in ("__dict__", "__weakref__")}
    members["__setattr__"] = _checkedSetattr(base)
    return type(base.__name__, (base,), members)


def _checkedSetattr(base):
    def setAttribute(self, name, value):
        if isinstance(value, QtCore.QObject) and QtCore.QObject.objectName(value) == name:
            return  # PySide6's .ui loader makes children attributes of the top widget; PythonQt's does not
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        base.__setattr__(self, name, value)

    return setAttribute


QWidget = wrapped(QtWidgets.QWidget)
QLabel = wrapped(QtWidgets.QLabel)
QPushButton = wrapped(QtWidgets.QPushButton)
QToolButton = wrapped(QtWidgets.QToolButton)
QCheckBox = wrapped(QtWidgets.QCheckBox)
QComboBox = wrapped(QtWidgets.QComboBox)
QLineEdit = wrapped(QtWidgets.QLineEdit)
QSlider = wrapped(QtWidgets.QSlider)
QSpinBox = wrapped(QtWidgets.QSpinBox)
QDoubleSpinBox = wrapped(QtWidgets.QDoubleSpinBox)
QTextEdit = wrapped(QtWidgets.QTextEdit)
QTextBrowser = wrapped(QtWidgets.QTextBrowser)
QPlainTextEdit = wrapped(QtWidgets.QPlainTextEdit)
QProgressBar = wrapped(QtWidgets.QProgressBar)
QFrame = wrapped(QtWidgets.QFrame)
QTimer = wrapped(QtCore.QTimer)
QVBoxLayout = QtWidgets.QVBoxLayout
QHBoxLayout = QtWidgets.QHBoxLayout
QFormLayout = QtWidgets.QFormLayout
QApplication = QtWidgets.QApplication
QMessageBox = QtWidgets.QMessageBox
QFileDialog = QtWidgets.QFileDialog
QDesktopServices = QtGui.QDesktopServices
QUrl = QtCore.QUrl
QPixmap = QtGui.QPixmap


class QUiLoader(QtUiTools.QUiLoader):
    """Loads `.ui` files with the classes of this module, and connects what they connect by name."""

    def load(self, file):
        from .uiFile import load

        return load(self, file)

    def createWidget(self, className, parent=None, name=""):
        from . import ctkModule, mrmlWidgets

        for module in (ctkModule, mrmlWidgets):
            if className in module.__all__:
                widget = getattr(module, className)(parent)
                break
        else:
            widget = globals()[className](parent)
        widget.setObjectName(name)
        return widget


__all__ = [
    "QApplication",
    "QCheckBox",
    "QColor",
    "QComboBox",
    "QDesktopServices",
    "QDoubleSpinBox",
    "QFile",
    "QFileDialog",
    "QFormLayout",
    "QFrame",
    "QHBoxLayout",
    "QIcon",
    "QLabel",
    "QLineEdit",
    "QMessageBox",
    "QPixmap",
    "QPlainTextEdit",
    "QProgressBar",
    "QPushButton",
    "QSettings",
    "QSlider",
    "QSpinBox",
    "QTextBrowser",
    "QTextEdit",
    "QTimer",
    "QToolButton",
    "QUiLoader",
    "QUrl",
    "QVBoxLayout",
    "QWidget",
    "Qt",
]
