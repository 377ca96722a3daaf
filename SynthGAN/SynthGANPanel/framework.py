"""Slicer's framework of scripted modules, or as much of it as the logic needs where there is none.

The `slicer-core` wheel has MRML and `slicer.util` but no application, hence no module framework. The stand-ins make
`SynthGAN.py` importable there, so that the logic is the same in the application, in scripts and in tests.
"""

try:
    from slicer.i18n import translate
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
    from slicer.ScriptedLoadableModule import (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    )
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("slicer."):
        raise
    import unittest

    class ScriptedLoadableModule:
        """Nothing loads modules here."""

    class ScriptedLoadableModuleWidget:
        """Nothing shows widgets here."""

    class ScriptedLoadableModuleLogic:
        """A logic without the application's parameter node."""

        def __init__(self):
            super().__init__()

    ScriptedLoadableModuleTest = unittest.TestCase

    class WithinRange:
        """Bounds of a number, kept for whoever reads the annotations."""

        def __init__(self, minimum, maximum):
            self.minimum, self.maximum = minimum, maximum

    def parameterNodeWrapper(classtype):
        """The class itself: parameters are stored by the application only."""
        return classtype

    def translate(context, text):
        """The text itself."""
        return text


__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
    "WithinRange",
    "parameterNodeWrapper",
    "translate",
]
