"""The panel's sections from top to bottom; imported when the panel is built, not when Slicer registers the module."""

from SynthGANPanel.sections.compareSection import CompareSection
from SynthGANPanel.sections.exportSection import ExportSection
from SynthGANPanel.sections.inputSection import InputSection
from SynthGANPanel.sections.modelSection import ModelSection
from SynthGANPanel.sections.qualitySection import QualitySection
from SynthGANPanel.sections.runSection import RunSection
from SynthGANPanel.sections.setupSection import SetupSection

SECTIONS = (SetupSection, InputSection, ModelSection, RunSection, CompareSection, QualitySection, ExportSection)
