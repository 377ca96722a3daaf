"""`slicer.app`, the module manager, and a module's life from being found to being closed."""

import importlib
import shutil
import sys
import tempfile
import types
from pathlib import Path

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.Headless.scene import open_scene

from .qtModule import QVBoxLayout

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "SynthGAN" / "SynthGAN.py"


class Application:
    """One Slicer without windows. `slicer.app` is this object; Qt's own application lives in `qt`."""

    majorVersion, minorVersion, applicationVersion = 5, 12, "5.12.4"
    applicationName = "Slicer"

    def __init__(self):
        self.qt = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
        self.qt.setStyle("Fusion")
        _useAFont()
        self._settingsPath = tempfile.mkdtemp(prefix="SlicerSettings-")
        self.qt.setOrganizationName("NA-MIC")
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        QtCore.QSettings.setPath(
            QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, self._settingsPath
        )
        self.temporaryPath = tempfile.mkdtemp(prefix="Slicer-Lékař ")
        self._headless = open_scene()
        self._layoutLogic = slicer.vtkMRMLLayoutLogic()
        self._layoutLogic.SetMRMLScene(slicer.mrmlScene)
        self._modules = ModuleManager()
        self._atStart = []
        self.settings = SettingsDialog()
        slicer.app = self
        slicer.modules = types.SimpleNamespace()
        slicer.qSlicerScriptedLoadableModule = Module
        slicer.qSlicerScriptedLoadableModuleWidget = ModuleWidget

    def connect(self, signature, receiver):
        """The one signal that modules ask for."""
        if signature != "startupCompleted()":
            raise ValueError(f"the application has no signal {signature} here")
        self._atStart.append(receiver)
        return True

    def startUp(self):
        """What the application does once its modules are loaded."""
        for receiver in self._atStart:
            receiver()

    def commandOptions(self):
        return types.SimpleNamespace(noMainWindow=False)

    def settingsDialog(self):
        return self.settings

    def applicationLogic(self):
        return self._headless.application_logic

    def moduleManager(self):
        return self._modules

    def layoutManager(self):
        return None

    def coreIOManager(self):
        return types.SimpleNamespace(saveNodes=_saveScene)

    def testingEnabled(self):
        return True

    def topLevelWidgets(self):
        return self.qt.topLevelWidgets()

    def processEvents(self):
        self.qt.processEvents()

    def close(self):
        """Quit: modules are unloaded, the temporary folder emptied."""
        self._modules.unloadAll()
        shutil.rmtree(self.temporaryPath)
        shutil.rmtree(self._settingsPath)


class SettingsDialog(QtWidgets.QDialog):
    """Pages by their titles."""

    def __init__(self):
        super().__init__()
        self.pages = {}

    def addPanel(self, title, page):
        self.pages[title] = page


class ModuleManager:
    """Modules by name."""

    def __init__(self):
        self._modules = {}

    def module(self, name):
        return self._modules.get(name)

    def load(self, path=MODULE):
        """Find and register a scripted module, as adding its folder to the module paths does."""
        module = Module(path)
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        return module

    def unloadAll(self):
        for module in self._modules.values():
            module.close()
        self._modules.clear()


class Module:
    """A scripted module: its description and, once asked for, its one widget."""

    def __init__(self, path):
        self.path, self.name = str(path), Path(path).stem
        self.icon = None
        folder = str(Path(path).parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        self.python = getattr(importlib.import_module(self.name), self.name)(self)
        self._widget = None

    def widgetRepresentation(self):
        if self._widget is None:
            self._widget = ModuleWidget(self)
        return self._widget

    def close(self):
        if self._widget is not None:
            self._widget.self().cleanup()
            self._widget.release()
            self._widget = None


class ModuleWidget(slicer.qMRMLWidget):
    """The C++ side of a module's panel: holds the Python widget and tells it what happens."""

    def __init__(self, module):
        super().__init__()
        self._module = module
        self._entered = False
        QVBoxLayout(self).setContentsMargins(0, 0, 0, 0)
        self.setMRMLScene(slicer.mrmlScene)
        self._build()

    def _build(self):
        python = sys.modules[self._module.name]
        self._self = getattr(python, self._module.name + "Widget")(self)
        setattr(slicer.modules, self._module.name + "Widget", self._self)
        self._self.setup()

    def self(self):
        return self._self

    @property
    def isEntered(self):
        return self._entered

    def enter(self):
        """The user opens the module."""
        self._entered = True
        self._self.enter()

    def exit(self):
        """The user opens another module."""
        self._entered = False
        self._self.exit()

    def release(self):
        """The widget is destroyed: its selectors follow the scene no more."""
        for selector in self.findChildren(slicer.qMRMLNodeComboBox):
            selector.setMRMLScene(None)
        self.close()

    def reload(self):
        """The last step of `slicer.util.reloadScriptedModule`."""
        self._build()


def _saveScene(kind, properties, messages):
    """As far as modules ask for it: the scene as a bundle."""
    if kind != "SceneFile" or not properties["fileName"].endswith(".mrb"):
        raise ValueError(f"nothing but a scene as .mrb is saved here, not {kind} {properties}")
    return slicer.mrmlScene.WriteToMRB(properties["fileName"])


def _useAFont():
    """Qt's offscreen platform finds no fonts by itself on a machine without any; matplotlib brings DejaVu."""
    if QtGui.QFontDatabase.families():
        return
    try:
        import matplotlib
    except ImportError:
        return
    for file in (Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVuSans*.ttf"):
        QtGui.QFontDatabase.addApplicationFont(str(file))
