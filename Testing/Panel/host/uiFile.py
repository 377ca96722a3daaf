"""Loading `.ui` files: Qt's loader makes the widgets, the file's connections are made by name afterwards.

Qt would connect by the C++ signatures of the real widgets (`mrmlSceneChanged(vtkMRMLScene*)`), which Python classes
cannot have.
"""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools


def load(loader, file):
    """The top widget of a `.ui` file (a QFile that is open)."""
    root = ElementTree.fromstring(bytes(file.readAll().data()))
    connections = root.find("connections")
    pairs = [
        tuple(item.findtext(part) for part in ("sender", "signal", "receiver", "slot"))
        for item in (connections if connections is not None else [])
    ]
    if connections is not None:
        root.remove(connections)
    buffer = QtCore.QBuffer()
    buffer.setData(ElementTree.tostring(root, encoding="utf-8"))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    top = QtUiTools.QUiLoader.load(loader, buffer)
    for sender, signal, receiver, slot in pairs:
        getattr(_named(top, sender), signal.split("(")[0]).connect(getattr(_named(top, receiver), slot.split("(")[0]))
    return top


def _named(top, name):
    found = top if QtCore.QObject.objectName(top) == name else top.findChild(QtCore.QObject, name)
    if found is None:
        raise RuntimeError(f"The .ui file connects '{name}', which it does not contain.")
    return found
