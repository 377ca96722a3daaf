"""Inference: a volume and a model in, the synthetic volume on the same grid out."""

from SynthGANLib.inference.progress import Progress, Reporter
from SynthGANLib.inference.synthesize import synthesize
from SynthGANLib.tiling import Plan, TileRules, plan_tiles

__all__ = ["Plan", "Progress", "Reporter", "TileRules", "plan_tiles", "synthesize"]
