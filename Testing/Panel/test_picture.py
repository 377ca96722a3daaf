"""Pictures of the panel: that it is drawn, that nothing is cut off, and the one in the documentation.

With the environment variable SYNTHGAN_WRITE_PICTURES set, the picture of the panel replaces
`Resources/Screenshots/panel.png`.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtGui

SCREENSHOT = Path(__file__).resolve().parents[2] / "Resources" / "Screenshots" / "panel.png"
WIDTH = 420


@pytest.fixture
def widget(panel, head, app):
    """The panel, ready to be applied."""
    head.SetName("MRHead")
    panel.ui.inputSelector.choose("MRHead")
    widget = app.moduleManager().module("SynthGAN").widgetRepresentation()
    widget.resize(WIDTH, 200)
    app.processEvents()
    widget.resize(WIDTH, widget.sizeHint().height())
    app.processEvents()
    return widget


def test_panel_is_drawn(widget, tmp_path):
    target = SCREENSHOT if os.environ.get("SYNTHGAN_WRITE_PICTURES") else tmp_path / "panel.png"
    assert widget.grab().save(str(target))
    image = QtGui.QImage(str(target)).convertToFormat(QtGui.QImage.Format.Format_Grayscale8)
    pixels = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())[:, :WIDTH]
    assert pixels.shape[1] == WIDTH
    assert (pixels < 100).mean() > 0.01, "no text was drawn"
    assert pixels.max() > 200


def test_picture_in_the_documentation_is_of_the_panel():
    image = QtGui.QImage(str(SCREENSHOT))
    assert image.width() == WIDTH
    assert image.height() > WIDTH


@pytest.mark.parametrize("width", [360, WIDTH, 700])
def test_nothing_is_cut_off(widget, panel, app, width):
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.ui.detailsCollapsibleButton.collapsed = False
    widget.resize(width, 1200)
    app.processEvents()
    for name, child in vars(panel.ui).items():
        if child.isVisible():
            assert child.width >= child.minimumSizeHint().width(), f"{name} is cut off"
            assert child.mapTo(widget, child.rect.topRight()).x() <= width, f"{name} reaches beyond the panel"
