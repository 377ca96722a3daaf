"""Inpainting: what is not missing stays, squares lie in the body, and what the discriminator sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from regime_cases import (
    CASES,
    Judge,
    all_terms,
    drawn,
    images,
)
from torch import Tensor, nn

from SynthGANLib.networks.cascade import Inpainter
from SynthGANLib.regimes import inpainting
from SynthGANLib.regimes.base import Batch, Outputs, Regime, sum_of


def one(regime: Regime, turn: str, batch: Batch, step: int = 0) -> tuple[Outputs, dict[str, Tensor]]:
    regime.step = step
    outputs = regime.forward(batch, drawn(0))
    return outputs, all_terms(regime, turn, outputs, batch, drawn(1))


def gradient(network: nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in network.parameters() if p.grad is not None)


# inpainting


@pytest.mark.parametrize("name", ["inpainting", "free inpainting"])
def test_what_is_not_missing_stays_bit_for_bit(name: str) -> None:
    regime = CASES[name].made(0)
    image = images(drawn(3), "target", extent=10, count=5)
    outputs = regime.forward(image, drawn(4))
    hole = outputs["hole"].expand_as(image["target"])
    assert torch.equal(outputs["fake"][~hole], image["target"][~hole])
    assert not torch.equal(outputs["fake"][hole], image["target"][hole])
    holed = torch.where(hole, torch.full_like(image["target"], 9.0), image["target"])
    again = regime.forward({"target": holed}, drawn(4))
    assert torch.equal(again["fake"][hole], outputs["fake"][hole]), "the generator saw what is missing"
    sum_of(all_terms(regime, "generator", outputs, image, drawn(0))).backward()
    assert gradient(regime.generator) > 0  # type: ignore[arg-type]


def test_squares_are_judged_as_crops_and_free_holes_in_the_whole_image() -> None:
    batch = images(drawn(0), "target", extent=10, count=3)
    regime = CASES["inpainting"].made(0)
    outputs, _ = one(regime, "discriminator", batch)
    judge: Any = regime.discriminator
    for index, (y, x) in enumerate(outputs["corner"].tolist()):
        assert torch.equal(judge.shown[0][index], batch["target"][index, :, y : y + 4, x : x + 4])
        assert torch.equal(judge.shown[1][index], outputs["fake"][index, :, y : y + 4, x : x + 4])
        assert int(outputs["hole"][index].sum()) == 16
        assert bool(outputs["hole"][index, 0, y : y + 4, x : x + 4].all())
    apart = (outputs["fake"] - batch["target"]).abs()[outputs["hole"]].mean()
    assert float(one(regime, "generator", batch)[1]["l1"].detach()) == pytest.approx(
        10 * float(apart.detach()), rel=1e-5
    )

    free = CASES["free inpainting"].made(0)
    outputs, _ = one(free, "discriminator", batch)
    judge = free.discriminator
    assert torch.equal(judge.shown[0], batch["target"])
    assert torch.equal(judge.shown[1], outputs["fake"])
    apart = (outputs["fake"] - batch["target"]).abs()[outputs["hole"]].mean()
    assert float(one(free, "generator", batch)[1]["l1"].detach()) == pytest.approx(10 * float(apart.detach()), rel=1e-5)


def test_squares_lie_in_the_body_everywhere_it_has_room() -> None:
    regime: Any = CASES["inpainting"].made(0)
    body = torch.zeros(1, 1, 12, 12)
    body[..., 3:9, 2:8] = 1
    batch, rng = {"target": torch.zeros(1, 1, 12, 12), "mask": body}, drawn(0)
    found = {tuple(regime.corners(batch, rng)[0].tolist()) for _ in range(200)}
    assert found == {(y, x) for y in range(3, 6) for x in range(2, 5)}
    with pytest.raises(ValueError, match="does not fit"):
        regime.corners({"target": torch.zeros(1, 1, 3, 12)}, rng)
    volume = torch.zeros(2, 1, 6, 7, 8)
    assert int(regime.hole({"target": volume}, rng)["hole"].sum()) == 2 * 4**3


def test_an_inpainter_gives_the_user_what_was_trained() -> None:
    stage = {"name": "ConvStack", "arguments": {"dims": 2, "in_channels": 2, "out_channels": 1, "layers": [[3, 1]]}}
    nets = {"generator": Inpainter(stage), "discriminator": Judge(1)}
    regime = inpainting.Inpainting(nets, inpainting.InpaintingConfig(extent=4))
    batch = images(drawn(0), "target")
    outputs = regime.forward(batch, drawn(1))
    given = torch.cat([batch["target"], outputs["hole"].float()], 1)
    assert torch.equal(regime.exported()["forward"](given), outputs["fake"])


# what is exported
