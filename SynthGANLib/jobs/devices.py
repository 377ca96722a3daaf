"""Does this machine compute? A real convolution on every device, its memory, and what to do where it fails."""

from __future__ import annotations

import platform
import re
import shutil
import time
from collections.abc import Callable
from typing import Any

CHECK = "check"
"""The job's name."""

TOLERANCE = 1e-3
"""Largest difference to the CPU's answer, relative to its largest value: TF32 and Metal round to about 1e-4."""

_REPAIRS = (
    (
        re.compile(r"driver .*(too old|insufficient)|version .*insufficient", re.IGNORECASE),
        "The graphics driver is too old for this PyTorch build ({torch}): update the NVIDIA driver.",
    ),
    (
        re.compile(r"no kernel image|not compatible with the current PyTorch|sm_\d+", re.IGNORECASE),
        "This PyTorch build ({torch}) holds no code for this GPU: install another build with the PyTorch extension.",
    ),
    (
        re.compile(r"out of memory", re.IGNORECASE),
        "The device's memory is taken by other programs: close them and check again.",
    ),
    (
        re.compile(r"no NVIDIA driver|initialization error|driver.*not.*found", re.IGNORECASE),
        "PyTorch ({torch}) finds no working NVIDIA driver: install or restart it, then restart this computer.",
    ),
)


def repair_for(message: str, torch_version: str) -> str:
    """What to do about a device that failed with `message`."""
    for pattern, repair in _REPAIRS:
        if pattern.search(message):
            return repair.format(torch=torch_version)
    return f"Reinstall PyTorch ({torch_version}) with the PyTorch extension, or compute on the CPU."


def check_devices(report: Callable[[str, float], None] = lambda stage, fraction: None) -> dict[str, Any]:
    """Run a small 3D convolution on every device and compare it with the CPU.

    Returns: "torch" (version), "cuda" (the CUDA it was built for, "" for none), "system", and "devices": one object
    each with device, name, memory and free (bytes, None where unknown), ok, seconds, message, repair.
    """
    report("check", 0.05)
    import torch

    found = {
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda or ""),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }
    devices: list[dict[str, Any]] = []
    names = ["cpu", *_gpus()]
    truth = _kernel("cpu")[0]
    for number, name in enumerate(names):
        report("check", 0.1 + 0.9 * number / len(names))
        devices.append(_check(name, truth, found["torch"]))
    missing = _missing_cuda(found["cuda"], devices)
    if missing:
        devices.append(missing)
    return {**found, "devices": devices}


def _gpus() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else []


def _kernel(device: str) -> tuple[Any, float]:
    """A convolution of fixed numbers on a device, brought back; and the seconds it took, the second time."""
    import torch

    rng = torch.Generator().manual_seed(1)
    image = torch.randn(1, 4, 24, 24, 24, generator=rng).to(device)
    kernel = torch.randn(8, 4, 3, 3, 3, generator=rng).to(device)
    seconds = 0.0
    for _ in range(2):  # the first call loads the device's libraries
        started = time.perf_counter()
        answer = torch.nn.functional.conv3d(image, kernel).cpu()
        seconds = time.perf_counter() - started
    return answer, seconds


def _check(device: str, truth: Any, version: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"device": device, "name": "", "memory": None, "free": None}
    try:
        facts |= _describe(device)
        answer, seconds = _kernel(device)
    except (RuntimeError, MemoryError, OSError) as error:  # what PyTorch raises for a device that does not work
        message = " ".join(str(error).split())[:400]
        return {**facts, "ok": False, "seconds": None, "message": message, "repair": repair_for(message, version)}
    apart = float((answer - truth).abs().max() / truth.abs().max())
    if not apart <= TOLERANCE:
        message = f"Its results are off by {apart:.1e} of the largest value."
        repair = f"Update the driver or PyTorch ({version}); until then compute on the CPU."
        return {**facts, "ok": False, "seconds": seconds, "message": message, "repair": repair}
    return {**facts, "ok": True, "seconds": round(seconds, 4), "message": "", "repair": ""}


def _describe(device: str) -> dict[str, Any]:
    import torch

    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        return {"name": torch.cuda.get_device_name(device), "memory": total, "free": free}
    from SynthGANLib.inference.memory import free_bytes

    name = platform.processor() or platform.machine()
    return {"name": name, "memory": None, "free": free_bytes(torch.device(device))}


def _missing_cuda(cuda: str, devices: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A line for a computer that has an NVIDIA driver which PyTorch does not use."""
    if any(entry["device"].startswith("cuda") for entry in devices) or not shutil.which("nvidia-smi"):
        return None
    repair = (
        "The NVIDIA driver does not work with this PyTorch: update the driver and restart."
        if cuda
        else "PyTorch was installed without CUDA: install a build with it, using the PyTorch extension."
    )
    return {
        "device": "cuda", "name": "NVIDIA GPU", "memory": None, "free": None, "ok": False, "seconds": None,
        "message": "An NVIDIA driver is installed, and PyTorch finds no GPU.", "repair": repair,
    }  # fmt: skip
