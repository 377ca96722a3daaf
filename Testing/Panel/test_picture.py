"""Pictures of the panel: that it is drawn, that nothing is cut off, and the one in the documentation.

With the environment variable SYNTHGAN_WRITE_PICTURES set, the picture of the panel replaces
`Resources/Screenshots/panel.png`.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PySide6 import QtGui

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOT = ROOT / "Resources" / "Screenshots" / "panel.png"
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


def test_tutorial_shows_every_section_and_every_picture_is_shown():
    pages = [ROOT / "README.md", *ROOT.glob("Docs/*.md")]
    shown = {
        (page.parent / link).resolve()
        for page in pages
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+\.png)\)", page.read_text(encoding="utf-8"))
    }
    assert not [path for path in shown if not path.is_file()]
    assert set(SCREENSHOT.parent.glob("*.png")) <= shown
    tutorial = (ROOT / "Docs" / "tutorial.md").read_text(encoding="utf-8")
    sections = {path.stem.lower() for path in (ROOT / "SynthGAN" / "Resources" / "UI").glob("*.ui")} - {"synthgan"}
    for section in sections - {"model"}:
        assert f"Screenshots/section_{section}.png" in tutorial, section
    assert "Screenshots/section_manager.png" in tutorial, "the section Model with its manager"


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
