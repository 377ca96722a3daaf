"""The CTK widgets that the panel and Slicer's own code use."""

from PySide6 import QtCore, QtGui, QtWidgets

from .qtModule import PythonQtObject, QCheckBox, QComboBox, QPushButton, QWidget, wrapped

MARGIN = 22


class ctkCollapsibleButton(wrapped(QtWidgets.QAbstractButton)):
    """A titled section that a click on the title opens and closes; `collapsed` is its opposite of `checked`.

    Collapsing hides the children, so that they take no room.
    """

    connect, disconnect = PythonQtObject.connect, PythonQtObject.disconnect  # PySide6 gives subclasses its own

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


class ctkDirectoryButton(wrapped(QtWidgets.QWidget)):
    """Shows a folder; in the application a click opens a dialog to choose another, here `directory` is set."""

    directoryChanged = QtCore.Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._directory = ""
        self._button = QtWidgets.QPushButton(self)
        self._button.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)

    def connect(self, signature, receiver):
        if signature != "directoryChanged(QString)":
            raise ValueError(f"ctkDirectoryButton has no signal {signature} here")
        self.directoryChanged.connect(receiver)
        return True

    @QtCore.Property(str)
    def directory(self):
        return self._directory

    @directory.setter
    def directory(self, value):
        if value != self._directory:
            self._directory = value
            self._button.setText(value)
            self.directoryChanged.emit(value)


class ctkSliderWidget(wrapped(QtWidgets.QWidget)):
    """A slider with a number box beside it; `value` is a float between `minimum` and `maximum`."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._box = QtWidgets.QDoubleSpinBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._box.setRange(0.0, 99.0)  # ctkSliderWidget's own
        self._slider.valueChanged.connect(lambda steps: self._box.setValue(self._ofSlider(steps)))
        self._box.valueChanged.connect(self._onBox)
        self._showRange()

    @QtCore.Property(float)
    def value(self):
        return self._box.value()

    @value.setter
    def value(self, value):
        self._box.setValue(value)

    def setValue(self, value):
        self._box.setValue(value)

    @QtCore.Property(float)
    def minimum(self):
        return self._box.minimum()

    @minimum.setter
    def minimum(self, value):
        self._box.setMinimum(value)
        self._showRange()

    @QtCore.Property(float)
    def maximum(self):
        return self._box.maximum()

    @maximum.setter
    def maximum(self, value):
        self._box.setMaximum(value)
        self._showRange()

    @QtCore.Property(float)
    def singleStep(self):
        return self._box.singleStep()

    @singleStep.setter
    def singleStep(self, value):
        self._box.setSingleStep(value)
        self._showRange()

    @QtCore.Property(float)
    def pageStep(self):
        return float(self._slider.pageStep())

    @pageStep.setter
    def pageStep(self, value):
        self._slider.setPageStep(max(1, round(value / self._box.singleStep())))

    @QtCore.Property(int)
    def decimals(self):
        return self._box.decimals()

    @decimals.setter
    def decimals(self, value):
        self._box.setDecimals(value)

    @QtCore.Property(str)
    def suffix(self):
        return self._box.suffix()

    @suffix.setter
    def suffix(self, value):
        self._box.setSuffix(value)

    def _ofSlider(self, steps):
        return self._box.minimum() + steps * self._box.singleStep()

    def _showRange(self):
        steps = (self._box.maximum() - self._box.minimum()) / self._box.singleStep()
        self._slider.setRange(0, round(steps))
        self._showValue()

    def _showValue(self):
        wasBlocked = self._slider.blockSignals(True)  # the number, not the slider's step, is the value
        self._slider.setValue(round((self._box.value() - self._box.minimum()) / self._box.singleStep()))
        self._slider.blockSignals(wasBlocked)

    def _onBox(self, value):
        self._showValue()
        self.valueChanged.emit(value)


class ctkSettingsPanel(QWidget):
    """A page of the settings dialog."""


class ctkMessageBox(QWidget):
    """Never opened: the host says that it is under test, and Slicer then opens no message boxes."""


__all__ = [
    "ctkCheckBox",
    "ctkCheckablePushButton",
    "ctkCollapsibleButton",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkMessageBox",
    "ctkSettingsPanel",
    "ctkSliderWidget",
]
