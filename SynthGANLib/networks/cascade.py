"""Networks made of networks: stages in series, and a stage whose output replaces the masked voxels only.

Sources: CasNet: Armanious et al., CMIG 79 (2020) 101684; auto-context: Nie et al., MICCAI 2017; sketcher and refiner:
Wei et al., MICCAI 2018; inpainting: Armanious et al., ICASSP 2019.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

INPUTS = ("prev", "source+prev", "source+all")


def _build(stage: Mapping[str, Any], where: str) -> nn.Module:
    from SynthGANLib.networks.registry import build  # only now: that module imports this one

    if not isinstance(stage, Mapping) or set(stage) != {"name", "arguments"}:
        raise ValueError(f"{where} must be an object of exactly 'name' and 'arguments'")
    return build(stage["name"], stage["arguments"])


class Cascade(nn.Module):
    """`stages`, each an object of "name" and "arguments" of a network, one after the other.

    From the second on, a stage gets, by `inputs`: the image before it ("prev"); the source and that image
    ("source+prev"); or the source and all images so far, in order ("source+all"). With `detach` no gradient goes
    from a stage into those before it. Channel counts that do not follow from this are a ValueError.

    Input (B, in_channels of the first stage, [z,] y, x), output (B, out_channels of the last, [z,] y, x). CasNet is
    six StridedUNets with "prev": 326,446,854 parameters.
    """

    multiple = 1

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        inputs: str = "prev",
        detach: bool = False,
    ) -> None:
        super().__init__()
        if inputs not in INPUTS:
            raise ValueError(f"inputs is one of {', '.join(INPUTS)}, not '{inputs}'")
        if not stages:
            raise ValueError("a cascade has at least one stage")
        self.inputs, self.detach = inputs, detach
        built = [_build(stage, f"stage {number}") for number, stage in enumerate(stages, start=1)]
        _check_channels(stages, inputs)
        self.stages = nn.ModuleList(built)

    def stage_input(self, source: Tensor, images: Sequence[Tensor]) -> Tensor:
        """What the next stage gets, given the source and the images of the stages before it."""
        if not images:
            return source
        before = [image.detach() for image in images] if self.detach else list(images)
        if self.inputs == "prev":
            return before[-1]
        return torch.cat([source, *(before if self.inputs == "source+all" else before[-1:])], 1)

    def intermediates(self, x: Tensor) -> list[Tensor]:
        """The image of every stage, the last being the result."""
        images: list[Tensor] = []
        for stage in self.stages:
            images.append(stage(self.stage_input(x, images)))
        return images

    def forward(self, x: Tensor) -> Tensor:
        return self.intermediates(x)[-1]

    def first(self, count: int) -> Cascade:
        """The cascade of the first `count` stages, made of these very stages."""
        if not 1 <= count <= len(self.stages):
            raise ValueError(f"a cascade of {len(self.stages)} stages has no first {count}")
        part = copy.copy(self)
        part._modules = {"stages": nn.ModuleList(list(self.stages)[:count])}  # a copy would share the dictionary  # noqa: SLF001
        return part


class Inpainter(nn.Module):
    """The network `stage` for the masked voxels, the input itself, bit by bit, for all others.

    Input (B, C + 1, [z,] y, x): an image and, as the last channel, a mask, above `threshold` where the image is to be
    made up. The network gets the image with zeros there and the mask as 0 or 1; it returns C channels. Output
    (B, C, ...).
    """

    multiple = 1

    def __init__(self, stage: Mapping[str, Any], threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold
        self.stage = _build(stage, "stage")

    @classmethod
    def over(cls, stage: nn.Module, threshold: float = 0.0) -> Inpainter:
        """An Inpainter with this very network, not with a new one."""
        inpainter = cls({"name": "Identity", "arguments": {}}, threshold)
        inpainter.stage = stage
        return inpainter.train(stage.training)

    def forward(self, x: Tensor) -> Tensor:
        image, hole = x[:, :-1], x[:, -1:] > self.threshold
        known = torch.where(hole, torch.zeros_like(image), image)
        made_up = cast(Tensor, self.stage(torch.cat([known, hole.to(x.dtype)], 1)))
        return torch.where(hole, made_up, image)


def _check_channels(stages: Sequence[Mapping[str, Any]], inputs: str) -> None:
    """ValueError naming the first stage whose in_channels do not follow from the stages before it.

    Checked as far as the stages name their channels; a network without such arguments ends the check.
    """
    source: int | None = None
    made: list[int] = []
    for number, stage in enumerate(stages, start=1):
        wanted, out = stage["arguments"].get("in_channels"), stage["arguments"].get("out_channels")
        if wanted is None or out is None:
            return
        source = wanted if source is None else source
        if made:
            before = made if inputs == "source+all" else made[-1:]
            given = sum(before) + (0 if inputs == "prev" else source)
            if wanted != given:
                raise ValueError(f"stage {number} of the cascade takes {wanted} channels and is given {given}")
        made.append(out)
