"""What a result says about its run: versions, device, tiles, memory, warnings."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from SynthGANLib.image.volume import Volume


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    from SynthGANLib import __version__

    found = {"synthgan": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "SimpleITK", "safetensors"):
        module = sys.modules.get(name)
        version = getattr(module, "__version__", None) if module else None
        try:
            found[name] = str(version or metadata.version(name))
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def facts_of(result: Volume, asked: str) -> dict[str, Any]:
    """What a result tells of its run; `asked` is the device that was asked for."""
    meta = result.meta
    return {
        "device": str(meta.get("device", asked)),
        "tiles": meta.get("tiles"),
        "peak_memory": meta.get("peak_memory"),
        "warnings": list(meta.get("warnings", ())),
        "plan": meta.get("plan", ""),
    }
