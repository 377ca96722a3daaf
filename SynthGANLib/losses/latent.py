"""Losses on codes, likelihoods and energies.

Sources: Liu et al. 2017 (UNIT); Kingma and Welling 2014; Dinh et al. 2017 (bits per dimension); the margin follows
Zhao et al. 2017 with the energies of Yazici et al. 2018.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from SynthGANLib.losses.precision import in_float32


@in_float32
def unit_kl(h: Tensor) -> Tensor:
    """Mean of h^2: up to a factor and a constant, the divergence of N(h, 1) from N(0, 1)."""
    return h.square().mean()


@in_float32
def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Divergence of N(mu, exp(logvar)) from N(0, 1) in nats: summed over a sample's code, mean over the batch."""
    return 0.5 * (logvar.exp() + mu.square() - 1 - logvar).flatten(1).sum(1).mean()


@in_float32
def bits_per_dim(log_likelihood: Tensor, dimensions: int, bins: float = 1.0) -> Tensor:
    """Mean over the batch of -log2 likelihood per dimension.

    Args:
        log_likelihood: (B,) natural logarithms of densities, one for each sample.
        dimensions: values in a sample.
        bins: gray levels in one unit of intensity, e.g. 256 for images dequantised into a range of width 1; turns the
            density into the probability of a gray level.
    """
    if dimensions < 1 or not bins > 0:
        raise ValueError(f"bits per dimension need a dimension and a positive number of bins, not {dimensions}, {bins}")
    return -log_likelihood.mean() / (dimensions * math.log(2)) + math.log2(bins)


@in_float32
def autoregressive_margin(real_energy: Tensor, fake_energy: Tensor, margin: float) -> Tensor:
    """E[e(real)] + E[max(0, margin - e(fake))], what the energy model minimizes; the generator minimizes E[e(fake)]."""
    return real_energy.mean() + F.relu(margin - fake_energy).mean()
