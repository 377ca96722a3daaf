"""Inference: a volume and a model in, the synthetic volume on the same grid out."""
