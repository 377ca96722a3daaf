"""The precision a network is computed in: float32, or float16 on a CUDA device where the model's card allows it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from SynthGANLib.inference.memory import is_out_of_memory, release
from SynthGANLib.inference.plan import FP16, FP32
from SynthGANLib.inference.progress import Reporter
from SynthGANLib.model.model import Model

DEVICES = ("cuda",)
"""Kinds of devices that compute float16 faster than float32. On others it would only move the values."""


def choose_precision(model: Model, device: torch.device, reporter: Reporter) -> str:
    """`FP16` where the device gains by it, the card allows it and the test vector, computed so on this very device,
    stays within `vector.tolerance_float16`; else `FP32`. A model that fails this test is remarked on."""
    allowed = None if model.card.vector is None else model.card.vector.tolerance_float16
    if device.type not in DEVICES or allowed is None or model.network is None or model.vector is None:
        return FP32
    given, expected = model.vector
    home = next((value.device for value in model.network.state_dict().values()), torch.device("cpu"))
    try:
        output = compute(model.network.to(device), given.clone().to(device), FP16)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return FP32  # the planner finds what fits, and tells
    finally:
        model.network.to(home)
        release(device)
    difference = float((output.to("cpu", torch.float32) - expected).abs().max())
    if difference <= allowed:  # not so for NaN
        return FP16
    reporter.remark(
        "warning",
        f"In float16 on {device} the model answers its test vector {difference:.3g} off, and {allowed:g} is allowed; "
        "it is computed in float32.",
    )
    return FP32


def compute(network: Callable[[Tensor], Tensor], tiles: Tensor, precision: str) -> Tensor:
    """The network's answer on the device of both, the same on every run, without TF32; no gradients are kept.

    In float16 PyTorch's own rules (`torch.autocast`) say which steps stay in float32.
    """
    half = torch.autocast(tiles.device.type, dtype=torch.float16) if precision == FP16 else nullcontext()
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), half, exact:
        return network(tiles)
