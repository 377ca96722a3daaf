"""Textbook losses, each with a closed form that its test holds it to. All compute in float32 inside autocast."""

from SynthGANLib.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "adversarial": "discriminator_loss generator_loss",
        "features": "Vgg19Features feature_matching gram style_content through_frozen",
        "latent": "autoregressive_margin bits_per_dim gaussian_kl unit_kl",
        "penalty": "clip_weights drift gradient_penalty",
        "pixel": "l1 l2 masked_l1 region_weights suv_weights weighted_l1 weighted_l2",
        "structure": "gradient_consistency gradient_difference ssim_loss",
    },
)
