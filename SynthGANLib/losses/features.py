"""Losses on features of a frozen network or of the discriminator.

Sources: feature matching: Wang et al., CVPR 2018; as perceptual loss, with style and content: Armanious et al. 2020
(MedGAN); Gram matrices: Gatys et al., CVPR 2016; VGG19: Simonyan and Zisserman, ICLR 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from SynthGANLib.errors import ModelError
from SynthGANLib.losses.precision import in_float32

_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # channels, convolutions; a pooling between blocks
_SMALLEST = 2 ** (len(_BLOCKS) - 1)


@in_float32
def feature_matching(
    fake_features: Sequence[Tensor], real_features: Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    """Weighted sum over the layers of the mean absolute difference; without weights the mean over the layers.

    The real side is detached. ValueError for no layers, or lists of different lengths.
    """
    if not fake_features or len(fake_features) != len(real_features):
        raise ValueError(f"{len(fake_features)} layers of generated features, {len(real_features)} of real ones")
    if weights is None:
        weights = [1 / len(fake_features)] * len(fake_features)
    layers = zip(weights, fake_features, real_features, strict=True)
    return torch.stack([weight * (fake - real.detach()).abs().mean() for weight, fake, real in layers]).sum()


def through_frozen(module: nn.Module, *inputs: Tensor) -> Any:
    """module(*inputs), with gradients to the inputs but none to the module's parameters."""
    return functional_call(module, {name: p.detach() for name, p in module.named_parameters()}, inputs)


@in_float32
def gram(features: Tensor) -> Tensor:
    """(B, C, ...) -> (B, C, C), products of channels over all positions, divided by C * positions."""
    flat = features.flatten(2)  # B, C, positions
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def _layers() -> nn.Sequential:
    """VGG19's 16 convolutions, numbered as in the usual weight files."""
    layers: list[nn.Module] = []
    for (before, _), (channels, count) in pairwise(((3, 0), *_BLOCKS)):
        if layers:
            layers.append(nn.MaxPool2d(2))
        for here in [before] + [channels] * (count - 1):
            layers += [nn.Conv2d(here, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


class Vgg19Features(nn.Module):
    """The frozen convolutions of VGG19 (20,024,384 weights) as features: the first activation of each of five blocks.

    Input (B, 1 or 3, [z,] y, x) in [-1, 1], at least 16 x 16 in plane: one channel is repeated, volumes are taken slice
    by slice, and intensities are brought to ImageNet's statistics. Output: 5 tensors (B or B * z, C, y', x').

    Args:
        weights: a safetensors file with the tensors `features.0.weight`, `features.0.bias`, ... `features.28.bias`;
            others in it are ignored.
        random: without weights only: draws random ones, for tests and as an untrained reference.

    ModelError when there is neither a file nor a generator, or the file does not hold these tensors.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path | None = None, random: Generator | None = None) -> None:
        super().__init__()
        if weights is None and random is None:
            raise ModelError(
                "style and content losses need the weights of a trained VGG19, and none were given",
                next_step="Give a safetensors file of VGG19's weights, or set the two losses' weights to 0.",
            )
        self.features = _layers()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))
        if weights is not None:
            self.features.load_state_dict(_read(Path(weights), self.features))
        elif random is not None:
            for layer in self.features:
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=random)
                    nn.init.zeros_(cast(Tensor, layer.bias))
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> list[Tensor]:
        if x.ndim not in (4, 5) or x.shape[1] not in (1, 3) or min(x.shape[-2:]) < _SMALLEST:
            raise ValueError(
                f"VGG19 takes (B, 1 or 3, [z,] y, x) with at least {_SMALLEST} x {_SMALLEST} in plane, "
                f"not {tuple(x.shape)}"
            )
        if x.ndim == 5:
            x = x.transpose(1, 2).flatten(0, 1)  # B, C, z, y, x -> B * z, C, y, x
        x = ((x.expand(-1, 3, -1, -1) + 1) / 2 - self.mean) / self.std
        found: list[Tensor] = []
        first = True
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                first = True
            elif isinstance(layer, nn.ReLU) and first:
                found.append(x)
                first = False
            if len(found) == len(_BLOCKS):
                break  # what follows is loaded with the file, but no feature depends on it
        return found


def _read(path: Path, features: nn.Sequential) -> dict[str, Tensor]:
    """The tensors of `features` in a safetensors file; ModelError says which is missing or has another shape."""
    from safetensors import SafetensorError, safe_open

    prefix, found = "features.", {}
    step = "Give the convolution weights of a VGG19 without batch normalisation as a safetensors file."
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name, parameter in features.state_dict().items():
                if prefix + name not in names:
                    raise ModelError(f"the VGG19 weights in {path} lack the tensor '{prefix + name}'", next_step=step)
                found[name] = file.get_tensor(prefix + name)
                if found[name].shape != parameter.shape:
                    shapes = f"{tuple(found[name].shape)}, not {tuple(parameter.shape)}"
                    raise ModelError(f"the tensor '{prefix + name}' in {path} has the shape {shapes}", next_step=step)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the VGG19 weights in {path} cannot be read: {error}", next_step=step) from error
    return found


def style_content(features: nn.Module, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Style and content distance of two image batches of one shape by `features`, a frozen network that gives a list.

    Style: squared Frobenius distance of the layers' Gram matrices; content: mean squared difference of the features;
    both the mean over layers and batch. Gradients reach `fake` only.
    """
    if fake.shape != real.shape:
        raise ValueError(f"the generated images are {tuple(fake.shape)}, the real ones {tuple(real.shape)}")
    with torch.no_grad():
        wanted = features(real)
    return _style_content(features(fake), wanted)


@in_float32
def _style_content(fakes: Sequence[Tensor], reals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    pairs = list(zip(fakes, reals, strict=True))
    style = [(gram(fake) - gram(real)).square().flatten(1).sum(1).mean() for fake, real in pairs]
    content = [(fake - real).square().mean() for fake, real in pairs]
    return torch.stack(style).mean(), torch.stack(content).mean()
