"""Memory: what is free, what a network takes per voxel, what was taken, and when it ran out."""

from __future__ import annotations

import importlib
import itertools
import math
import os
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from SynthGANLib.errors import MemoryExhaustedError, ModelError
from SynthGANLib.inference.plan import COMFORT_ON_CPU
from SynthGANLib.model.limits import LiveBytes

GIB = 1024**3

SHARE_OF_FREE = 0.8
"""Share of the free memory that a run may take."""

RESERVE = 1.1
"""Share added for what is not counted; with it the estimates lie 0 to 80 % above the growth of resident memory
measured for pooled, strided and sub-pixel U-Nets."""

_OUT_OF_MEMORY = (
    "out of memory",
    "defaultcpuallocator",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",  # as Microsoft's library words it
    "could not create a memory object",  # oneDNN
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device and in any of torch's wordings."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def free_bytes(device: torch.device) -> int | None:
    """Memory in bytes that a run could take on `device` now; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    known = [value for value in (_free_by_kernel(), _free_in_container()) if value is not None]
    return min(known) if known else None


def _free_by_kernel() -> int | None:
    table = Path("/proc/meminfo")
    if table.exists():
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    psutil = _psutil()
    if psutil is not None:
        return int(psutil.virtual_memory().available)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        # macOS tells no free memory without another package: half of what is built in is a fair guess.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _free_in_container() -> int | None:
    """What the control group (version 2) of this process still allows; None where there is no limit."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None  # not Linux, or version 1, or not permitted: then the kernel's figure stands
    return max(0, int(limit) - used) if limit.isdigit() else None


def _psutil() -> Any:
    """The psutil module if it happens to be installed; it is no dependency."""
    try:
        return importlib.import_module("psutil")
    except ImportError:
        return None


def tile_budget(device: torch.device, *, asked: int | None, reserved: int, smallest: int) -> int:
    """Memory in bytes that one batch of tiles may take on `device`.

    `asked` is the user's limit for the whole prediction, of which `reserved` bytes are needed whatever the
    tiles are; `smallest` is what the smallest tile takes, which is granted while memory lasts.

    Raises:
        MemoryExhaustedError: less than the smallest tile is asked for or free.
    """
    if asked is not None:
        budget = asked - reserved
        if budget < smallest:
            raise MemoryExhaustedError(
                f"A prediction of this volume takes at least {in_mib(reserved + smallest)} MiB on {device}, "
                f"more than the {in_mib(asked)} MiB asked for.",
                next_step="Raise the memory limit or choose a smaller model.",
            )
        return budget
    free = free_bytes(device)
    most = None if free is None else int(free * SHARE_OF_FREE) - reserved
    if most is not None and most < smallest:
        raise MemoryExhaustedError(
            f"A prediction of this volume takes at least {in_mib(reserved + smallest)} MiB on {device}, "
            f"and only {in_mib(free or 0)} MiB are free.",
            next_step="Close other programs, crop the volume or choose a smaller model.",
        )
    if device.type == "cpu" or most is None:
        budget = max(COMFORT_ON_CPU, smallest)
        return budget if most is None else min(budget, most)
    # Whole steps, so that small changes of the free memory do not change the tiles.
    return max(smallest, most // (GIB // 2) * (GIB // 2))


def in_mib(count: float) -> int:
    """Bytes as whole mebibytes, for messages."""
    return round(count / 1024**2)


def measure_bytes_per_voxel(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Memory in bytes that `network` takes per voxel of an input of `shape` (B, C, [z,] y, x); it is run once.

    A convolutional network takes the same per voxel for any extents, so a small input will do.

    Raises:
        MemoryExhaustedError: memory ran out.
        ModelError: the network does not take an input of this shape.
    """
    voxels = shape[0] * math.prod(shape[2:])
    first = next(itertools.chain(network.parameters(), network.buffers()), None)
    image = torch.zeros(shape, device=first.device if first is not None else "cpu")
    counter = LiveBytes()
    try:
        with torch.inference_mode(), counter:
            network(image)
    except (RuntimeError, MemoryError, ValueError) as error:
        size = " x ".join(str(extent) for extent in shape[2:])
        if is_out_of_memory(error):
            raise MemoryExhaustedError(
                f"Memory ran out with a single input of {size} voxels.",
                next_step="Close other programs or choose a smaller model.",
            ) from error
        reason = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"The network fails on {size} voxels, which its card allows ({reason}).",
            next_step="Report this to the author of the model.",
        ) from error
    return (counter.peak / voxels + 4.0 * shape[1]) * RESERVE


def release(device: torch.device) -> None:
    """Give cached blocks back after a failure, so that the next, smaller attempt finds room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class PeakMemory:
    """Context that measures the most memory used: `bytes` after (or within) the block, None where unknown.

    On a GPU the most that torch held on it within the block; on the CPU the largest resident size that this
    process ever had, which is what the system counts.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def bytes(self) -> int | None:
        """The peak so far."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return process_peak() if self._device.type == "cpu" else None


def process_peak() -> int | None:
    """Largest resident size in bytes that this process ever had; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: what getrusage tells begins with the peak of the program that started this one
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8", errors="replace"))
        if found is not None:
            return int(found[1]) * 1024
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) if sys.platform == "darwin" else int(peak) * 1024
    psutil = _psutil()
    return int(psutil.Process().memory_info().peak_wset) if psutil is not None else None
