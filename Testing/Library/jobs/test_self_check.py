"""The check of the devices: what works is told with its memory, what fails with its repair."""

import json
import subprocess
import sys

import pytest
import torch

from SynthGANLib.jobs import devices as self_check
from SynthGANLib.jobs.devices import check_devices, repair_for


def test_the_cpu_works_and_tells_its_memory():
    heard = []
    found = check_devices(lambda stage, fraction: heard.append(fraction))
    cpu = found["devices"][0]
    assert (cpu["device"], cpu["ok"], cpu["repair"]) == ("cpu", True, "")
    assert cpu["free"] > 2**28
    assert cpu["seconds"] > 0
    assert found["torch"] == torch.__version__
    assert heard == sorted(heard)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("The NVIDIA driver on your system is too old (found version 11040)", "update the NVIDIA driver"),
        ("CUDA driver version is insufficient for CUDA runtime version", "update the NVIDIA driver"),
        ("CUDA error: no kernel image is available for execution on the device", "holds no code for this GPU"),
        ("Found GPU0 which is of cuda capability sm_120, not compatible with the current PyTorch", "holds no code"),
        ("CUDA out of memory. Tried to allocate 20 MiB", "close them"),
        ("Found no NVIDIA driver on your system", "finds no working NVIDIA driver"),
        ("something else altogether", "Reinstall PyTorch (2.0)"),
    ],
)
def test_failures_name_their_repair(message, words):
    assert words in repair_for(message, "2.0")


@pytest.fixture
def gpu(monkeypatch):
    """Pretends that there is a GPU whose kernel behaves as told."""

    def pretend(behaviour):
        true = self_check._kernel
        monkeypatch.setattr(self_check, "_gpus", lambda: ["cuda:0"])
        facts = {"name": "GPU", "memory": 8, "free": 4}
        monkeypatch.setattr(self_check, "_describe", lambda device: dict(facts))
        monkeypatch.setattr(self_check, "_kernel", lambda device: true("cpu") if device == "cpu" else behaviour(true))

    return pretend


def test_a_device_that_fails_is_told_with_its_repair(gpu):
    def fail(true):
        raise RuntimeError("CUDA error: no kernel image is available")

    gpu(fail)
    broken = check_devices()["devices"][1]
    assert (broken["device"], broken["ok"]) == ("cuda:0", False)
    assert "no kernel image" in broken["message"]
    assert "holds no code" in broken["repair"]


def test_a_device_that_computes_wrongly_is_told(gpu):
    gpu(lambda true: (true("cpu")[0] * 1.01, 0.1))
    broken = check_devices()["devices"][1]
    assert not broken["ok"]
    assert "off by" in broken["message"]
    assert "compute on the CPU" in broken["repair"]


def test_a_device_that_rounds_a_little_differently_passes(gpu):
    gpu(lambda true: (true("cpu")[0] * (1 + 1e-5), 0.1))
    assert check_devices()["devices"][1]["ok"]


def test_a_driver_that_is_not_used_is_noticed(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(self_check, "_gpus", list)
    line = check_devices()["devices"][-1]
    assert (line["device"], line["ok"]) == ("cuda", False)
    assert "PyTorch extension" in line["repair"] or "update the driver" in line["repair"]


@pytest.mark.slow
def test_the_worker_answers():
    with subprocess.Popen(
        [sys.executable, "-m", "SynthGANLib.jobs.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as worker:  # fmt: skip
        worker.stdin.write(json.dumps({"job": "check"}) + "\n")
        worker.stdin.flush()
        events = [json.loads(line) for line in worker.stdout]
    assert worker.returncode == 0
    assert events[-1]["devices"][0]["ok"]
