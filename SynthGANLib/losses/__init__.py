"""Textbook losses, each with a closed form that its test holds it to. All compute in float32 inside autocast."""

from SynthGANLib.losses.adversarial import discriminator_loss, generator_loss
from SynthGANLib.losses.features import Vgg19Features, feature_matching, gram, style_content, through_frozen
from SynthGANLib.losses.latent import autoregressive_margin, bits_per_dim, gaussian_kl, unit_kl
from SynthGANLib.losses.penalty import clip_weights, drift, gradient_penalty
from SynthGANLib.losses.pixel import l1, l2, masked_l1, region_weights, suv_weights, weighted_l1, weighted_l2
from SynthGANLib.losses.structure import gradient_consistency, gradient_difference, ssim_loss

__all__ = [
    "Vgg19Features",
    "autoregressive_margin",
    "bits_per_dim",
    "clip_weights",
    "discriminator_loss",
    "drift",
    "feature_matching",
    "gaussian_kl",
    "generator_loss",
    "gradient_consistency",
    "gradient_difference",
    "gradient_penalty",
    "gram",
    "l1",
    "l2",
    "masked_l1",
    "region_weights",
    "ssim_loss",
    "style_content",
    "suv_weights",
    "through_frozen",
    "unit_kl",
    "weighted_l1",
    "weighted_l2",
]
