"""Networks by name."""

from SynthGANLib.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "registry": "NETWORKS build",
    },
)
