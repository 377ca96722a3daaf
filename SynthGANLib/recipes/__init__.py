"""The systems of the review as short compositions of networks and a regime, found by their names."""

from SynthGANLib.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "base": "FittedRecipe Net Optimiser Recipe Setup",
        "registry": "FITTED RECIPES find recipe",
    },
)
