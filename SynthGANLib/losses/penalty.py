"""What keeps a Wasserstein critic Lipschitz: gradient penalty, weight clipping; and the drift of its output.

Sources: Gulrajani et al., NeurIPS 2017; Arjovsky et al., ICML 2017; Karras et al., ICLR 2018 (drift).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from SynthGANLib.losses.precision import in_float32


@in_float32
def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, rng: Generator, target: float = 1.0
) -> Tensor:
    """E[(norm of d critic(x) / dx - target)^2] at x = e real + (1 - e) fake, e uniform in [0, 1) for each sample.

    The norm runs over all axes but the first. `real` and `fake` are (B, C, ...) of one shape, else ValueError. A critic
    with several values per sample (patches) counts by their mean. Gradients reach the critic's weights through the
    double backward, but neither `real` nor `fake`. A condition is bound beforehand: lambda x: net(cat([source, x], 1)).
    """
    if real.shape != fake.shape:
        raise ValueError(f"real images are {tuple(real.shape)}, generated ones {tuple(fake.shape)}")
    real, fake = real.detach(), fake.detach()
    # drawn on the CPU, so that every device sees the same numbers
    share = torch.rand(real.shape[0], *[1] * (real.ndim - 1), generator=rng).to(real)
    with torch.enable_grad():
        between = (share * real + (1 - share) * fake).requires_grad_(True)
        # samples do not mix, so the gradient of their sum is the gradient of each
        value = critic(between).reshape(real.shape[0], -1).mean(1).sum()
        (slope,) = torch.autograd.grad(value, between, create_graph=True)
        norm: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        return (norm - target).square().mean()


def clip_weights(module: nn.Module, limit: float) -> None:
    """Clamp every parameter of `module` to [-limit, limit], in place. ValueError unless `limit` is positive."""
    if not limit > 0:
        raise ValueError(f"weights are clipped to a positive limit, not to {limit}")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.clamp_(-limit, limit)


@in_float32
def drift(real_logits: Tensor) -> Tensor:
    """Mean square of the critic's values on real images: keeps them near zero."""
    return real_logits.square().mean()
