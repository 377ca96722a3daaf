"""Properties that the papers' methods promise as recipes put them together: channels, schedules, toys that can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from inference_cases import noise, run
from regime_cases import Constant, Judge, Loop, all_terms, drawn, images
from torch import Tensor, nn

from SynthGANLib import losses
from SynthGANLib.inference.tiles import tiles_of
from SynthGANLib.networks.autoregressive import AutoregressiveDiscriminator
from SynthGANLib.networks.conv_stack import ConvStack
from SynthGANLib.networks.glow import Flow
from SynthGANLib.networks.noise import NoiseDecoder
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.regimes import autoregressive, cycle, paired, supervised
from SynthGANLib.regimes.base import Batch, Regime


def networks_of(name: str) -> dict[str, nn.Module]:
    """A recipe's networks at the paper's size, without memory for their weights."""
    pytest.importorskip("monai")
    with torch.device("meta"):
        return {network: net.build() for network, net in RECIPES[name].canonical().networks.items()}


def convolutions(network: nn.Module) -> list[Any]:
    return [part for part in network.modules() if isinstance(part, (nn.Conv2d, nn.Conv3d))]


# schedules and weights of the published size


def scheduled(name: str) -> Any:
    """A recipe's regime with the paper's settings over networks that do nothing: who has a turn, and when."""
    setup = RECIPES[name].canonical()
    return setup.over({network: nn.Identity() for network in setup.networks})


@pytest.mark.parametrize("name", ["medgan-mr-pet", "medgan-pet-ct", "medgan-motion", "medgan-denoise"])
def test_medgan_takes_exactly_three_generator_steps_to_one(name: str) -> None:
    regime = scheduled(name)
    turns = [regime.turns(step) for step in range(300)]
    assert [("discriminator" in one) for one in turns] == [step % 3 == 0 for step in range(300)]
    assert all("generator" in one for one in turns)


def test_super_resolution_regresses_then_trains_its_critic_then_plays_seven_to_one() -> None:
    regime = scheduled("super-resolution")
    assert {regime.turns(step) for step in (0, 100_000, 249_999)} == {("generator",)}
    assert {regime.turns(step) for step in (250_000, 255_000, 259_999)} == {("discriminator",)}
    begin, generator = 260_000, []
    for step in range(begin, begin + 207 + 7 * 499 + 207):
        assert "discriminator" in regime.turns(step)
        if "generator" in regime.turns(step):
            generator.append(step - begin + 1)
    assert np.diff([0, *generator]).tolist() == [207] + [7] * 499 + [207]  # 200 more at every 500th


def test_wgan_takes_a_hundred_critic_steps_at_first_and_keeps_its_weights_within_a_hundredth() -> None:
    setup = RECIPES["wgan"].canonical()
    assert (setup.config.clip, setup.config.penalty) == (0.01, 0.0)
    regime = scheduled("wgan")
    generator = [step for step in range(2600) if "generator" in regime.turns(step)]
    assert np.diff([-1, *generator]).tolist() == [100] * 25 + [5] * 20
    optimiser = setup.optimisers["*"]
    assert (optimiser.kind, optimiser.rate) == ("rmsprop", 5e-5)


def test_wgan_gp_takes_five_critic_steps_from_the_first() -> None:
    """The hundred at first are the clipped critic's (Arjovsky 2017), not the penalised one's (Gulrajani 2017)."""
    regime = scheduled("wgan-gp")
    generator = [step for step in range(100) if "generator" in regime.turns(step)]
    assert generator == list(range(4, 100, 5))


def test_pan_plays_with_absolute_errors_and_a_cycle_of_weight_one() -> None:
    """A discriminator that says 0.5 costs itself 1/4 and the generator 1/2 (Pan 2018)."""
    setup = RECIPES["cyclegan-3d"].tiny()
    assert setup.config == RECIPES["cyclegan-3d"].canonical().config
    torch.manual_seed(0)
    nets: dict[str, nn.Module] = {name: net.build() for name, net in setup.networks.items()}
    regime = cycle.Cycle(nets | {f"discriminator_{domain}": Constant(0.5) for domain in "ab"}, setup.config).eval()
    rng = drawn(0)
    batch = {name: 2 * torch.rand(1, 1, 8, 8, 8, generator=rng) - 1 for name in ("source", "target")}
    outputs = regime.forward(batch, rng)
    made = all_terms(regime, "generators", outputs, batch, rng)
    assert float(made["adversarial_a"].detach()) == pytest.approx(0.5)
    with torch.no_grad():
        back = regime.generator_ba(regime.generator_ab(batch["source"]))
    assert float(made["cycle_a"].detach()) == pytest.approx(float((back - batch["source"]).abs().mean()))
    judged = all_terms(regime, "discriminators", outputs, batch, rng)
    assert [float(term.detach()) for term in judged.values()] == pytest.approx([0.25, 0.25])
    assert not any(name.startswith("identity") for name in made)


# channels of cascades, and who sees what


@pytest.mark.parametrize(
    ("name", "stages", "judges"),
    [
        ("cascade-gan", [1, 2, 2], {"discriminator_1": 1, "discriminator_2": 1, "discriminator_3": 1}),  # CT alone
        ("sketcher-refiner", [4, 5], {"discriminator_1": 5, "discriminator_2": 5}),
        ("low-dose-pet", [1, 1], {"discriminator_1": 2, "discriminator_2": 2}),
        ("fcn-cgan", [1, 2], {"discriminator_2": 2}),  # the first stage is regression
    ],
)
def test_channels_of_the_stages(name: str, stages: list[int], judges: dict[str, int]) -> None:
    networks, setup = networks_of(name), RECIPES[name].canonical()
    given = [convolutions(stage)[0].in_channels for stage in cast(Any, networks["generator"]).stages]
    if name == "fcn-cgan":
        given[0] = setup.channels[0]  # gray becomes three equal channels inside
    assert given == stages
    assert {one: convolutions(network)[0].in_channels for one, network in networks.items() if one in judges} == judges
    assert set(networks) == {"generator", *judges}
    judged = [number for number, stage in enumerate(setup.config.stages, 1) if stage.uses_discriminator]
    assert [f"discriminator_{number}" for number in judged] == list(judges)


@pytest.mark.parametrize("name", ["pix2pix-fundus", "pix2pix-resunet", "mcml", "cyclegan-fundus", "vessels-fundus"])
def test_fundus_recipes_run_at_both_resolutions(name: str) -> None:
    networks, recipe = networks_of(name), RECIPES[name]
    forward = networks.get("generator", networks.get("generator_ab"))
    assert forward is not None
    for extent in (256, 512):
        with torch.device("meta"):
            image = forward.eval()(torch.empty(1, recipe.tiny().channels[0], extent, extent))
        assert image.shape == (1, 3, extent, extent)


# what a stage, a weight or a band is for, on toys


def two_tissues(rng: torch.Generator, count: int = 4, speckle: float = 0.5) -> Batch:
    """A small lesion in a brain, hard to see in the source; "labels" says where."""
    axis = torch.arange(16.0)
    centre = 5 + 6 * torch.rand(count, 2, generator=rng)
    y, x = axis[None, :, None] - centre[:, :1, None], axis[None, None, :] - centre[:, 1:, None]
    lesion = ((y.square() + x.square()) < 4).float()[:, None]
    source = lesion + speckle * torch.randn(lesion.shape, generator=rng)
    return {"source": source, "target": 1.5 * lesion - 1, "labels": lesion.long()}


def stack(inputs: int = 1, width: int = 8) -> ConvStack:
    torch.manual_seed(0)
    return ConvStack(2, inputs, 1, [[3, width, "same"], [3, 1, "same"]])


def error_in_lesions(regime: Regime) -> float:
    held = two_tissues(drawn(9), 64)
    with torch.no_grad():
        found = regime.predict(held, drawn(0))
    return float((found - held["target"]).abs()[held["labels"] > 0].mean())


def test_lesions_are_made_better_the_more_they_weigh() -> None:
    """Sketcher and refiner (Wei 2018): the refiner's weights, its lesions' share of the error rising."""
    refiner = RECIPES["sketcher-refiner"].canonical().config.stages[1]
    assert refiner.voxels == "weight"
    found = []
    for emphasis in (0.02, 1.0, 10.0):
        weights = supervised.SupervisedConfig(l1=refiner.l1, voxels=refiner.voxels)
        regime = supervised.Supervised({"generator": stack()}, weights)
        loop, data = Loop(regime, 1e-2), drawn(1)
        for _ in range(60):
            batch = two_tissues(data)
            weight = losses.region_weights(batch["labels"], [1.0, emphasis])
            loop.take({**batch, "weight": weight}, data)
        found.append(error_in_lesions(regime))
    assert found[0] > 1.2 * found[1] > 1.2 * 1.2 * found[2]


def test_bright_spots_are_made_better_by_weighing_uptake() -> None:
    """FCN of Ben-Cohen 2019: its first stage with and without the weights of high uptake."""
    first = RECIPES["fcn-cgan"].canonical().config.stages[0]
    assert (first.voxels, first.l2 > 0, first.uses_discriminator) == ("bright", True, False)
    found = []
    for voxels in ("all", "bright"):
        regime = supervised.Supervised(
            {"generator": stack()}, supervised.SupervisedConfig(l1=0.0, l2=first.l2, voxels=voxels)
        )
        loop, data = Loop(regime, 1e-2), drawn(1)
        for _ in range(60):
            loop.take(two_tissues(data), data)
        found.append(error_in_lesions(regime))
    assert found[1] < 0.7 * found[0]


def test_a_perfect_estimate_is_soon_handed_on() -> None:
    """Auto-context (Nie 2017): a stage that is given the CT beside the MR learns to pass it on, sooner than without."""
    weights = RECIPES["cascade-gan"].tiny().config.stages[1]
    config = paired.PairedConfig(
        l1=weights.l1, l2=weights.l2, gdl=weights.gdl, adversarial=weights.adversarial,
        conditional=weights.conditional, discriminator=weights.discriminator,
    )  # fmt: skip

    def after(perfect: bool) -> float:
        def batch(rng: torch.Generator, count: int = 4) -> Batch:
            pair = two_tissues(rng, count)
            context = pair["target"] if perfect else torch.zeros_like(pair["target"])
            return {"source": torch.cat([pair["source"], context], 1), "target": pair["target"]}

        nets = {"generator": stack(2), "discriminator": Judge(1)}
        regime = paired.PairedAdversarial(nets, config)
        loop, data = Loop(regime, 1e-2), drawn(1)
        for _ in range(60):
            loop.take(batch(data), data)
        held = batch(drawn(9), 32)
        with torch.no_grad():
            return float((regime.predict(held, drawn(0)) - held["target"]).square().mean())

    spread = float(two_tissues(drawn(9), 32)["target"].var())
    assert after(True) < 0.05 * spread
    assert after(True) < 0.3 * after(False)


def test_a_blurred_target_leaves_the_high_band_empty() -> None:
    """FREA-UNet (Emami 2020): the high read-out goes to nothing where the target has no high frequencies."""
    setup = RECIPES["frea-unet"].tiny()
    torch.manual_seed(0)
    regime: Any = setup.build().train()
    loop, data = Loop(regime, 3e-3), drawn(1)

    def batch(rng: torch.Generator) -> Batch:
        wide = images(rng, "source", extent=32)["source"]
        return {"source": wide, "target": 8 * supervised.blurred(supervised.blurred(wide, 4.0), 4.0)}

    def high() -> float:
        with torch.no_grad():
            return float(regime.generator.parts(batch(drawn(9))["source"])[1].abs().mean())

    before = high()
    for _ in range(60):
        loop.take(batch(data), data)
    assert high() < 0.2 * before


# ARGAN


def test_argan_draws_blobs_that_are_not_all_one() -> None:
    """A game of energies alone: the mass of a blob is found, and its place stays free (methods that collapse fail)."""
    torch.manual_seed(0)
    nets = {
        "generator": NoiseDecoder(size=8, code=8, base=8),
        "discriminator": AutoregressiveDiscriminator(size=8, base=8, hidden=16),
    }
    regime = autoregressive.Autoregressive(nets, autoregressive.AutoregressiveConfig(code=8))
    loop, data, rng = Loop(regime, 1e-3), drawn(1), drawn(2)

    def blobs(count: int) -> Tensor:
        axis = torch.arange(8.0)
        at = 2 + 4 * torch.rand(count, 2, generator=data)
        y, x = axis[None, :, None] - at[:, :1, None], axis[None, None, :] - at[:, 1:, None]
        return 2 * torch.exp(-(y.square() + x.square()) / 4)[:, None] - 1

    def mass_and_spread(image: Tensor) -> tuple[float, float]:
        bright = (image + 1) / 2
        mass = bright.sum((1, 2, 3))
        places = (bright * torch.arange(8.0)).sum((1, 2, 3)) / mass.clamp_min(1e-6)
        return float(mass.mean()), float(places.std())

    wanted, start = mass_and_spread(blobs(256)), mass_and_spread(regime.predict({"target": blobs(256)}, rng).detach())
    for _ in range(250):
        loop.take({"target": blobs(16)}, rng)
    found = mass_and_spread(regime.predict({"target": blobs(256)}, rng).detach())
    assert abs(found[0] - wanted[0]) < 0.5 * abs(start[0] - wanted[0])
    assert found[1] > 0.25 * wanted[1]


# DUAL-GLOW at the paper's extents, tiles against the whole


def test_inverse_at_the_published_extents() -> None:
    torch.manual_seed(0)
    network = Flow(3, 1, [1, 4, 8, 4], 32).eval()
    rng = drawn(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=rng)
        x = torch.rand(1, 1, 48, 64, 48, generator=rng) - 0.5
        latents, _ = network(x)
        assert [z.shape[1] for z in latents] == [4, 16, 64, 512]
        assert float((network.inverse(latents) - x).abs().max()) < 1e-4


def test_volume_unet_of_several_channels_in_one_tile_is_the_network_itself() -> None:
    setup = RECIPES["unet-3d"].tiny()
    pytest.importorskip("monai")
    net = setup.networks["generator"]
    torch.manual_seed(0)
    network = replace(net, arguments={**net.arguments, "in_channels": 3}).build().eval()
    source = noise((16, 16, 16, 3))
    result, count, _ = run(source, (16, 16, 16), network)
    with torch.no_grad():
        whole = network(torch.from_numpy(source.transpose(3, 0, 1, 2)[None].copy()))
    assert count == 1
    torch.testing.assert_close(torch.from_numpy(result), whole[0], rtol=1e-5, atol=1e-5)


def test_tiles_agree_with_the_whole_where_they_see_what_it_sees() -> None:
    """Overlapping tiles of a network that sees two voxels around: the same, but within two voxels of a tile's side."""
    torch.manual_seed(0)
    network = ConvStack(3, 2, 1, [[3, 4], [3, 1]]).eval()
    source = noise((14, 17, 15, 2))
    result, _, plan = run(source, (8, 8, 8), network, overlap=0.5)
    with torch.no_grad():
        whole = network(torch.from_numpy(source.transpose(3, 0, 1, 2)[None].copy()))[0]
    inside = np.ones(source.shape[:3], bool)
    for tile in tiles_of(plan):
        edge = np.ones([part.stop - part.start for part in tile.window], bool)
        trusted = tuple(
            slice(0 if part.start == 0 else 2, None if part.stop == length else -2)
            for part, length in zip(tile.window, source.shape[:3], strict=True)
        )
        edge[trusted] = False
        inside[tile.window] &= ~edge
    assert 0.02 < inside.mean() < 0.9
    difference = (torch.from_numpy(result) - whole).abs()[0].detach().numpy()
    assert float(difference[inside].max()) < 1e-5
    assert float(difference[~inside].max()) > 1e-3
