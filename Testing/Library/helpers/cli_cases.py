"""Calls the command line in this process."""

from __future__ import annotations

import pytest

from SynthGANLib.cli.main import main


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
