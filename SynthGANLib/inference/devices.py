"""The device a prediction runs on."""

from __future__ import annotations

import torch

from SynthGANLib.errors import InputError


def resolve_device(name: str) -> torch.device:
    """The device a user names: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        InputError: unknown name, or a device that is not there; no other is put in its place.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise InputError(
            f"'{name}' is no device that can be used.",
            next_step="Choose auto, cpu, cuda, cuda:<number> or mps.",
        )
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            raise InputError(
                f"The device '{name}' was asked for, and PyTorch finds {count} CUDA devices here.",
                next_step="Choose auto or cpu, or install a PyTorch that fits the graphics driver.",
            )
    elif kind == "mps" and not torch.backends.mps.is_available():
        raise InputError(
            "The device 'mps' was asked for, and PyTorch finds none here.",
            next_step="Choose the device auto or cpu.",
        )
    return torch.device(name if kind == "cuda" else kind)
