"""The CTK widgets that the panel and Slicer's own code use."""

from PySide6 import QtCore, QtGui, QtWidgets

from .qtModule import QCheckBox, QComboBox, QPushButton, QWidget, wrapped

MARGIN = 22


class ctkCollapsibleButton(wrapped(QtWidgets.QAbstractButton)):
    """A titled section that a click on the title opens and closes; `collapsed` is its opposite of `checked`.

    Collapsing hides the children, so that they take no room.
    """


    def __init__(self, parent=None):
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, MARGIN, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Maximum)
        self.toggled.connect(lambda opened: self._apply())

    @QtCore.Property(bool)
    def collapsed(self):
        return not self.checked

    @collapsed.setter
    def collapsed(self, value):
        self.setChecked(not value)

    def event(self, event):
        if event.type() == QtCore.QEvent.Type.ChildPolished:
            self._apply()
        return super().event(event)

    def sizeHint(self):
        layout = self.layout()
        inner = layout.totalSizeHint() if layout is not None and self.checked else QtCore.QSize(0, MARGIN)
        return QtCore.QSize(inner.width(), max(inner.height(), MARGIN))

    def minimumSizeHint(self):
        layout = self.layout()
        inner = layout.totalMinimumSize() if layout is not None and self.checked else QtCore.QSize(0, MARGIN)
        return QtCore.QSize(inner.width(), max(inner.height(), MARGIN))

    def hitButton(self, position):
        return position.y() < MARGIN

    def paintEvent(self, event):
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, MARGIN)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(8, 6, 10, 10)
        kind = "PE_IndicatorArrowDown" if self.checked else "PE_IndicatorArrowRight"
        painter.drawPrimitive(getattr(QtWidgets.QStyle.PrimitiveElement, kind), arrow)
        painter.setPen(self.palette.color(QtGui.QPalette.ColorRole.ButtonText))
        painter.drawText(option.rect.adjusted(26, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter, self.text)

    def _apply(self):
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(bool(self.checked))
        self.updateGeometry()


class ctkCheckBox(QCheckBox):
    """A check box."""


class ctkComboBox(QComboBox):
    """A combo box."""


class ctkCheckablePushButton(QPushButton):
    """A push button with a check box."""


class ctkMessageBox(QWidget):
    """Never opened: the host says that it is under test, and Slicer then opens no message boxes."""


__all__ = ["ctkCheckBox", "ctkCheckablePushButton", "ctkCollapsibleButton", "ctkComboBox", "ctkMessageBox"]
