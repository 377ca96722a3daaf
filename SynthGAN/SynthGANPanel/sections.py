"""The panel's sections from top to bottom; imported when the panel is built, not when Slicer registers the module."""

from SynthGANPanel.compareSection import CompareSection
from SynthGANPanel.exportSection import ExportSection
from SynthGANPanel.inputSection import InputSection
from SynthGANPanel.modelSection import ModelSection
from SynthGANPanel.qualitySection import QualitySection
from SynthGANPanel.runSection import RunSection
from SynthGANPanel.setupSection import SetupSection

SECTIONS = (SetupSection, InputSection, ModelSection, RunSection, CompareSection, QualitySection, ExportSection)
