"""The extension's page in the application settings: folder of models, default device, memory limit, annotation."""

import os
from pathlib import Path

import slicer

from SynthGANPanel.i18n import _
from SynthGANPanel.parameters import Device

FOLDER, DEVICE, MEMORY, ANNOTATION = (
    f"SynthGAN/{name}" for name in ("ModelFolder", "DefaultDevice", "MemoryLimitGb", "Annotation")
)
SHELF = "SYNTHGAN_MODEL_FOLDER"
"""Environment variable of the library: the folder that holds the user's models."""


def value(key, default):
    """A setting of the application, `default` where there is none or no application."""
    try:
        import qt
    except ImportError:
        return default
    found = qt.QSettings().value(key)
    return default if found in (None, "") else found


def store(key, new):
    """Keep a setting."""
    import qt

    qt.QSettings().setValue(key, new)


def modelFolder():
    """The folder that the user chose for models, "" for the platform's own."""
    return str(value(FOLDER, ""))


def defaultDevice():
    """The device of a new scene."""
    name = str(value(DEVICE, Device.AUTO.name))
    return Device[name] if name in Device.__members__ else Device.AUTO


def defaultMemoryLimitGb():
    """The memory limit of a new scene in GB; 0 is as much as is free."""
    try:
        return min(1024.0, max(0.0, float(value(MEMORY, 0.0))))
    except ValueError:  # a settings file edited by hand
        return 0.0


def annotationShown():
    """Whether views that show a synthetic volume are annotated."""
    return str(value(ANNOTATION, "true")).lower() == "true"


def startAnnotation():
    """Mark the views that show a synthetic volume, if the settings ask for it."""
    from SynthGANPanel.comparison import annotation

    annotation.start(annotationShown())


def applyModelFolder():
    """Set the user's model folder of this process and its children to the one in the settings."""
    folder = modelFolder()
    if folder:
        os.environ[SHELF] = folder
    elif os.environ.get(SHELF, "") and os.environ.get(SHELF) == applyModelFolder.last:
        del os.environ[SHELF]  # one that the user's shell had set stays
    applyModelFolder.last = folder


applyModelFolder.last = ""


def setDefaults(parameters):
    """Give a new parameter node the choices of the settings; called before anything was chosen in it."""
    parameters.device = defaultDevice()
    parameters.memoryLimitGb = defaultMemoryLimitGb()


def registerPage():
    """Add the page to the application's settings dialog, once it has started."""
    if slicer.app.commandOptions().noMainWindow:
        return
    dialog = slicer.app.settingsDialog()
    dialog.addPanel("SynthGAN", makePage(dialog))


def makePage(parent=None):
    """The page, showing the present settings; every change is kept at once."""
    import ctk
    import qt

    page = ctk.ctkSettingsPanel(parent)
    layout = qt.QFormLayout(page)
    folder = ctk.ctkDirectoryButton(page)
    folder.objectName = "modelFolderButton"
    folder.toolTip = _("Where models that you install are kept. They stay when the extension is updated.")
    folder.directory = modelFolder() or str(_defaultFolder())
    folder.connect("directoryChanged(QString)", _onFolder)
    device = qt.QComboBox(page)
    device.objectName = "defaultDeviceSelector"
    device.toolTip = _("Where a new scene computes.")
    for each in Device:
        device.addItem(each.label(), each.name)
    device.currentIndex = list(Device).index(defaultDevice())
    device.connect("currentIndexChanged(int)", lambda index: store(DEVICE, device.itemData(index)))
    memory = qt.QDoubleSpinBox(page)
    memory.objectName = "memoryLimitSpinBox"
    memory.toolTip = _("Memory that a synthesis may take in a new scene.")
    memory.specialValueText, memory.suffix = _("What is free"), _(" GB")
    memory.decimals, memory.maximum = 1, 1024.0
    memory.value = defaultMemoryLimitGb()
    memory.connect("valueChanged(double)", lambda number: store(MEMORY, number))
    annotation = qt.QCheckBox(_("Mark views that show a synthetic volume"), page)
    annotation.objectName = "annotationCheckBox"
    annotation.toolTip = _("The word SYNTHETIC in a corner of every such view.")
    annotation.checked = annotationShown()
    annotation.connect("toggled(bool)", _onAnnotation)
    layout.addRow(_("Folder of models:"), folder)
    layout.addRow(_("Compute on:"), device)
    layout.addRow(_("Memory limit:"), memory)
    layout.addRow("", annotation)
    return page


def _onAnnotation(on):
    from SynthGANPanel.comparison import annotation

    store(ANNOTATION, "true" if on else "false")
    if on:
        annotation.start()
    else:
        annotation.stop()


def _onFolder(folder):
    store(FOLDER, "" if Path(folder) == _defaultFolder() else str(folder))
    applyModelFolder()
    panel = getattr(slicer.modules, "SynthGANWidget", None)
    if panel is not None:
        panel.reloadModels()
        panel.refresh()


def _defaultFolder():
    """The library's own folder for the user's models."""
    from SynthGANPanel import environment

    environment.useLibrary()
    from SynthGANLib.model.catalogue import default_model_folder

    return default_model_folder()
