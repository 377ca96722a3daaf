"""The history of generated images that a discriminator is trained on (Shrivastava et al., CVPR 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn


class ReplayPool(nn.Module):
    """Keeps up to `size` generated images and hands out old ones half of the time.

    While the pool fills, every image goes in and is handed back. Once it is full, each fresh image is, with
    probability 1/2, kept in exchange for an old one that is handed out instead; otherwise it is handed back and
    forgotten. Size 0 hands back all images. The images are in the module's state (`state_dict`), as tensors.
    """

    def __init__(self, size: int = 50) -> None:
        super().__init__()
        if size < 0:
            raise ValueError(f"a pool keeps 0 images or more, not {size}")
        self.size = size
        self.images: list[Tensor] = []

    @torch.no_grad()
    def forward(self, fresh: Tensor, rng: Generator) -> Tensor:
        """(B, C, ...) -> the same shape, without gradients: fresh images or earlier ones of the same extents."""
        fresh = fresh.detach()
        return torch.stack([self._exchange(image, rng) for image in fresh]) if self.size else fresh

    def _exchange(self, image: Tensor, rng: Generator) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if float(torch.rand((), generator=rng)) >= 0.5:
            return image
        place = int(torch.randint(self.size, (), generator=rng))
        old, self.images[place] = self.images[place], image.clone()
        return old.to(image)

    def get_extra_state(self) -> dict[str, Any]:
        """The images, oldest place first; they may differ in extents, hence a list."""
        return {"images": list(self.images)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` gave."""
        self.images = [image.clone() for image in state["images"]]
