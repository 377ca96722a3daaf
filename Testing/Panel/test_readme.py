"""The examples of README and tutorial, run as they stand there, with the real child process and the bundled model."""

import re
import sys
import types
from pathlib import Path

import pytest
import slicer
import vtk

from SynthGANPanel import environment, selftest

ROOT = Path(__file__).resolve().parents[2]
README, TUTORIAL = ROOT / "README.md", ROOT / "Docs" / "tutorial.md"


def blocks(page):
    """The Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_console_example_runs(panel, monkeypatch, tmp_path):
    assert environment.missingPackages() == []
    example = next(block for block in blocks(README) if "getModuleLogic" in block)
    selftest.addHead().SetName("MRHead")
    monkeypatch.chdir(tmp_path)
    names = {"slicer": slicer}
    exec(compile(example, str(README), "exec"), names)  # text of our own
    assert names["ct"].GetName() == "MRHead synthetic CT (head-mr-ct)"
    assert names["table"].GetTable().GetNumberOfRows() > 0
    assert (tmp_path / "ct.nrrd").is_file()
    slices = names["ct"].GetImageData().GetDimensions()[2]
    assert len(list((tmp_path / "ct_dicom").glob("*.dcm"))) == slices


@pytest.mark.slow
def test_tutorial_script_runs(panel, monkeypatch, tmp_path, capsys):
    def download(name):
        head = selftest.addHead()
        head.SetName(name)
        return head

    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(downloadSample=download))
    monkeypatch.chdir(tmp_path)
    script = blocks(TUTORIAL)[-1]
    assert TUTORIAL.read_text(encoding="utf-8").rstrip().endswith("```"), "the script is the last page"
    names = {"slicer": slicer, "vtk": vtk}
    exec(compile(script, str(TUTORIAL), "exec"), names)  # text of our own
    said = capsys.readouterr().out
    assert "100% " in said
    assert "MRHead synthetic CT (head-mr-ct) Hounsfield unit" in said
    assert names["table"].GetTable().GetNumberOfRows() > 0
    for name in ("MRHead_synthetic_ct.nrrd", "MRHead_synthetic_ct.json", "MRHead_synthetic_ct.mrb"):
        assert (tmp_path / name).is_file(), name
    slices = names["ct"].GetImageData().GetDimensions()[2]
    assert len(list((tmp_path / "MRHead_synthetic_ct_dicom").glob("*.dcm"))) == slices
