"""The README's console example, run as it stands there, with the real child process and the bundled model."""

import re
from pathlib import Path

import pytest
import slicer

from SynthGANPanel import environment, selftest

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.slow
def test_console_example_runs(panel, monkeypatch, tmp_path):
    assert environment.missingPackages() == []
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    example = next(block for block in blocks if "getModuleLogic" in block)
    selftest.addHead().SetName("MRHead")
    monkeypatch.chdir(tmp_path)
    names = {"slicer": slicer}
    exec(compile(example, str(README), "exec"), names)  # text of our own
    assert names["ct"].GetName() == "MRHead synthetic CT (head-mr-ct)"
    assert names["table"].GetTable().GetNumberOfRows() > 0
    assert (tmp_path / "ct.nrrd").is_file()
    slices = names["ct"].GetImageData().GetDimensions()[2]
    assert len(list((tmp_path / "ct_dicom").glob("*.dcm"))) == slices
