"""A small Slicer application on PySide6: enough of the documented behavior to click the panel through.

The scene, its nodes and `slicer.util` are Slicer's own (the slicer-core wheel). What the application adds to them is
imitated here, and only as far as Slicer documents it: widgets whose Qt properties are Python attributes, string
signals, `.ui` files, node selectors bound to the scene, the parameter node wrapper, module and widget life.
Nothing here makes the panel's work easier than a real Slicer does: an attribute that Qt does not have is an error.

`start()` puts `qt`, `ctk` and the missing parts of `slicer` into `sys.modules`, once per process.
"""

import sys

_application = None


def start():
    """The application, made at the first call."""
    global _application
    if _application is None:
        _application = _start()
    return _application


def _start():
    import PySide6
    import slicer

    if sys.version_info < (3, 12) and PySide6.__version_info__[:2] == (6, 12):
        # Its wheels count on immortal True, False and None; older Pythons crash after some hundred signals.
        raise RuntimeError("PySide6 6.12 crashes on Python 3.11: install PySide6-Essentials<6.12.")

    from . import ctkModule, mrmlWidgets, packaging, parameterNodeWrapper, qtModule, scriptedModule, translation

    sys.modules["qt"] = qtModule
    sys.modules["ctk"] = ctkModule
    for name, module in (
        ("i18n", translation),
        ("packaging", packaging),
        ("parameterNodeWrapper", parameterNodeWrapper),
        ("ScriptedLoadableModule", scriptedModule),
    ):
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
    for widget in (mrmlWidgets.qMRMLWidget, mrmlWidgets.qMRMLNodeComboBox):
        setattr(slicer, widget.__name__, widget)
    from .application import Application

    return Application()
