"""Classical synthesis: methods without a network, called by the name in a model card."""

from SynthGANLib.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "registry": "METHODS TENSOR_CHECKS",
        "atlas": "atlas_ct",
        "tissue": "tissue_ct",
        "tissue_echoes": "tissue_echoes_ct",
    },
)
