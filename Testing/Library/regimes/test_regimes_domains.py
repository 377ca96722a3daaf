"""Two domains: CycleGAN and its kin, MR-GAN, UNIT; their losses in closed form, and who sees what."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from regime_cases import CASES, Constant, Loop, Translator, all_terms, drawn, images, two_domains
from torch import Tensor, nn

from SynthGANLib.errors import ModelError
from SynthGANLib.losses.features import Vgg19Features
from SynthGANLib.networks.dual_head import DualHeadDiscriminator
from SynthGANLib.networks.patch_discriminators import MultiScaleDiscriminator
from SynthGANLib.networks.unit import PaperUnit, UnitTranslator
from SynthGANLib.recipes.overrides import apply
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.regimes import cycle, mixed, unit
from SynthGANLib.regimes.base import Batch, Outputs, Regime, sum_of


def one(regime: Regime, turn: str, batch: Batch, step: int = 0) -> tuple[Outputs, dict[str, float]]:
    regime.step = step
    outputs = regime.forward(batch, drawn(0))
    for earlier in regime.turns(step):
        terms = all_terms(regime, earlier, outputs, batch, drawn(1))
        if earlier == turn:
            break
    return outputs, {name: float(term.detach()) for name, term in terms.items()}


def heads(seed: int = 0) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    return two_domains() | {f"discriminator_{d}": DualHeadDiscriminator(base=2, layers=1) for d in "ab"}


class UnpairedHead(nn.Module):
    """What CycleGAN would see of a discriminator of two heads."""

    def __init__(self, both: DualHeadDiscriminator) -> None:
        super().__init__()
        self.both = both

    def forward(self, x: Tensor) -> Tensor:
        return self.both.unpaired(x)


# CycleGAN


def test_cycle_losses_of_undecided_discriminators() -> None:
    nets = two_domains() | {f"discriminator_{d}": Constant(0.5) for d in "ab"}
    batch = images(drawn(0), "source", "target")
    for mode, game in (("lsgan", 0.25), ("lsgan_abs", 0.5)):
        regime = cycle.Cycle(nets, cycle.CycleConfig(mode=mode, cycle=1.0, identity=0.0, pool=0))
        judged = one(regime, "discriminators", batch)[1]
        assert judged == pytest.approx({"discriminator_a": 0.25, "discriminator_b": 0.25})
        made = one(regime, "generators", batch)[1]
        assert made["adversarial_a"] == pytest.approx(game)
        assert set(made) == {"adversarial_a", "adversarial_b", "cycle_a", "cycle_b"}
        assert regime.watch({}) == {"real_accuracy": 0.0, "fake_accuracy": 0.0}  # 0.5 is on neither side


def test_cycle_terms_are_what_the_paper_says() -> None:
    torch.manual_seed(0)
    nets: Any = two_domains()
    regime = cycle.Cycle(nets, cycle.CycleConfig())
    batch = images(drawn(0), "source", "target")
    a, b, there, back = batch["source"], batch["target"], nets["generator_ab"], nets["generator_ba"]
    outputs, terms = one(regime, "generators", batch)
    with torch.no_grad():
        assert torch.equal(outputs["fake_a"], back(b))
        assert torch.equal(outputs["fake_b"], there(a))
        expected = {
            "cycle_a": 10 * (back(there(a)) - a).abs().mean(),
            "cycle_b": 10 * (there(back(b)) - b).abs().mean(),
            "identity_a": 5 * (back(a) - a).abs().mean(),
            "identity_b": 5 * (there(b) - b).abs().mean(),
            "adversarial_b": (nets["discriminator_b"](there(a))[-1] - 1).square().mean(),
        }
    assert {name: terms[name] for name in expected} == pytest.approx({n: float(v) for n, v in expected.items()})


def test_identity_is_left_out_where_the_domains_differ_in_channels() -> None:
    nets = two_domains() | {"generator_ab": Translator(1, 2), "generator_ba": Translator(2, 1)}
    nets["discriminator_b"] = nn.Conv2d(2, 1, 3)
    batch = images(drawn(0), "source", "target")
    batch["target"] = batch["target"].repeat(1, 2, 1, 1)
    _, terms = one(cycle.Cycle(nets, cycle.CycleConfig()), "generators", batch)
    assert not any(name.startswith("identity") for name in terms)


def test_exchanging_the_domains_exchanges_the_terms() -> None:
    torch.manual_seed(0)
    nets = two_domains()
    other = {name[:-2] + name[-2:][::-1] if "generator" in name else name: net for name, net in nets.items()}
    other["discriminator_a"], other["discriminator_b"] = nets["discriminator_b"], nets["discriminator_a"]
    batch = images(drawn(0), "source", "target")
    turned = {"source": batch["target"], "target": batch["source"]}
    config = cycle.CycleConfig(gradient=0.3)
    for turn in ("generators", "discriminators"):
        terms = one(cycle.Cycle(nets, config), turn, batch)[1]
        mirror = one(cycle.Cycle(other, config), turn, turned)[1]
        assert sum(mirror.values()) == pytest.approx(sum(terms.values()), rel=1e-6)
        assert mirror == pytest.approx({name[:-1] + {"a": "b", "b": "a"}[name[-1]]: v for name, v in terms.items()})


class Scaled(nn.Module):
    """x -> factor * x + 0.1."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x + 0.1


def test_gradient_consistency_is_free_for_a_linear_map_and_dear_for_an_inverted_one() -> None:
    batch = images(drawn(0), "source", "target")
    nets = two_domains() | {"generator_ab": Scaled(0.5), "generator_ba": Scaled(-2.0)}
    terms = one(cycle.Cycle(nets, cycle.CycleConfig(gradient=0.3)), "generators", batch)[1]
    assert terms["gradient_a"] == pytest.approx(0, abs=1e-6)  # between a and its translation
    assert terms["gradient_b"] == pytest.approx(0.3)


def test_discriminators_are_shown_what_the_pools_hand_out() -> None:
    loop = Loop(CASES["cycle"].made(0))
    regime: Any = loop.regime
    data, rng, seen = drawn(1), drawn(2), []
    for _ in range(12):
        outputs = loop.take(CASES["cycle"].batch(data), rng)
        seen += list(outputs["fake_b"].detach())
        for shown in regime.discriminator_b.shown[-1]:
            assert any(torch.equal(shown, image) for image in seen)
    assert len(regime.pool_b.images) == 3
    keys = set(regime.state_dict())
    assert {"pool_a._extra_state", "pool_b._extra_state"} <= keys


# MR-GAN


def test_without_pairs_it_is_cyclegan() -> None:
    nets: Any = heads()
    config = mixed.MixedConfig(pool=0)
    wrapped = nets | {f"discriminator_{d}": UnpairedHead(nets[f"discriminator_{d}"]) for d in "ab"}
    plain = cycle.Cycle(wrapped, cycle.CycleConfig(discriminator=2.0, real_label=0.9, identity=0.0, pool=0))
    both = mixed.Mixed(nets, config)
    singles = images(drawn(0), "source", "target", extent=12)
    lonely = {f"{name}_unpaired": image for name, image in singles.items()}
    empty = {name: image[:0] for name, image in singles.items()}
    for step in range(3):
        for turn in both.turns(step):
            expected = one(plain, turn, singles, step)[1]
            assert one(both, turn, lonely, step)[1] == expected
            assert one(both, turn, lonely | empty, step)[1] == expected


def test_without_single_images_it_is_pix2pix_both_ways() -> None:
    nets: Any = heads()
    regime = mixed.Mixed(nets, mixed.MixedConfig(paired_cycle=0.0))
    batch = images(drawn(0), "source", "target", extent=12)
    a, b = batch["source"], batch["target"]
    cross = nn.functional.binary_cross_entropy_with_logits
    for step in range(2):
        outputs, terms = one(regime, "generators", batch, step)
        with torch.no_grad():
            logits = nets["discriminator_b"].paired(a, outputs["fake_b"])
            back = nets["discriminator_a"].paired(b, outputs["fake_a"])
            true = nets["discriminator_b"].paired(a, b)
        assert terms == pytest.approx(
            {
                "paired_adversarial_a": float(cross(back, torch.ones_like(back))),
                "paired_adversarial_b": float(cross(logits, torch.ones_like(logits))),
                "paired_l1_a": 100 * float((outputs["fake_a"] - a).abs().mean().detach()),
                "paired_l1_b": 100 * float((outputs["fake_b"] - b).abs().mean().detach()),
            },
            rel=1e-5,
        )
        judged = one(regime, "discriminators", batch, step)[1]
        expected = cross(true, torch.ones_like(true)) + cross(logits, torch.zeros_like(logits))
        assert judged["paired_discriminator_b"] == pytest.approx(float(expected.detach()), rel=1e-5)
    with_cycle = mixed.Mixed(nets, mixed.MixedConfig())
    assert {"paired_cycle_a", "paired_cycle_b"} <= set(one(with_cycle, "generators", batch)[1])


def _changed(before: Mapping[str, Tensor], module: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_steps_alternate_and_leave_the_other_heads_untouched() -> None:
    case = CASES["mixed"]
    loop = Loop(case.made(0))
    regime: Any = loop.regime
    data, rng = drawn(1), drawn(2)
    for step in range(4):
        before = copy.deepcopy(regime.discriminator_a.state_dict())
        loop.take(case.batch(data), rng)
        kind = "paired" if step % 2 else "unpaired"
        assert _changed(before, regime.discriminator_a) == {"trunk", f"{kind}_head", f"{kind}_tail"}
        assert all(name.startswith("paired_") == bool(step % 2) for name in loop.terms["generators"])


# UNIT


def coded(share: int = 0) -> unit.Unit:
    torch.manual_seed(0)
    judges = {f"discriminator_{d}": MultiScaleDiscriminator(scales=2, base=2, layers=2) for d in "ab"}
    return unit.Unit({"generator": UnitTranslator(base=2, blocks=2, share=share)} | judges, unit.UnitConfig())


def test_codes_and_weights_of_unit() -> None:
    regime = coded()
    batch = images(drawn(0), "source", "target", extent=16)
    outputs, terms = one(regime, "generator", batch)
    assert outputs["code_a"].shape == (2, 8, 4, 4)
    net = regime.generator
    # the way back starts from the code that b's encoder makes of the translation
    assert torch.equal(outputs["again_a"], net.encode_b(outputs["fake_b"]))
    assert torch.equal(outputs["again_b"], net.encode_a(outputs["fake_a"]))
    expected = {
        "code_a": 0.01 * outputs["code_a"].square().mean(),
        "cycle_code_b": 0.01 * outputs["again_b"].square().mean(),
        "within_a": 10 * (outputs["within_a"] - batch["source"]).abs().mean(),
        "cycle_b": 10 * (outputs["back_b"] - batch["target"]).abs().mean(),
    }
    for name, value in expected.items():
        assert terms[name] == pytest.approx(float(value.detach()), rel=1e-5), name
    assert len(terms) == 10
    assert unit.PAPER.within == 100


class Seen(nn.Module):
    """Features that are the image itself twice, once scaled; keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> list[Tensor]:
        self.shown.append(x)
        return [x * 0, torch.cat([x, 3 * x + 1], 1)]


def test_the_perceptual_term_compares_an_image_with_its_translation() -> None:
    torch.manual_seed(0)
    judges = {f"discriminator_{d}": MultiScaleDiscriminator(scales=2, base=2, layers=2) for d in "ab"}
    look = Seen()
    nets = {"generator": PaperUnit(base=2, blocks=1), "vgg": look, **judges}
    regime = unit.Unit(nets, unit.UnitConfig(perceptual=2.0))
    batch = images(drawn(0), "source", "target", extent=16)
    outputs = regime.forward(batch, drawn(0))
    terms = all_terms(regime, "generator", outputs, batch, drawn(0))
    expected = [batch["target"], outputs["fake_a"], batch["source"], outputs["fake_b"]]
    assert all(torch.equal(a, b) for a, b in zip(look.shown, expected, strict=True))

    def plain(x: Tensor) -> Tensor:
        return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()

    apart = (plain(outputs["fake_b"]) - plain(batch["source"])).square().mean()
    assert float(terms["perceptual_b"].detach()) == pytest.approx(2 * float(apart.detach()), rel=1e-3)
    (slope,) = torch.autograd.grad(terms["perceptual_b"], next(regime.generator.encoder_a.parameters()))
    assert float(slope.abs().sum()) > 0
    assert not any(
        name.startswith("perceptual") for name in all_terms(regime, "discriminators", outputs, batch, drawn(0))
    )


def test_feature_distance_sees_the_pattern_and_not_its_strength() -> None:
    x, y = (torch.randn(2, 3, 8, 8, generator=drawn(n)) for n in (0, 1))
    assert float(unit.feature_distance(5 * x - 3, x)) < 1e-8
    assert float(unit.feature_distance(y, x)) == pytest.approx(2.0, rel=0.25)  # of two that have nothing in common
    assert float(unit.feature_distance(-x, x)) == pytest.approx(4.0, rel=1e-3)


def test_weights_of_the_perceptual_term_come_from_the_users_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    setup = apply(RECIPES["unit"].tiny(), {"config.perceptual": "1"})
    with pytest.raises(ModelError, match="none were given"):
        setup.build()
    own = Vgg19Features(random=drawn(1))
    stored = {f"features.{n}.{kind}": value for n, layer in enumerate(own.features) if isinstance(layer, nn.Conv2d)
              for kind, value in layer.state_dict().items()}  # fmt: skip
    safetensors.torch.save_file(stored, tmp_path / "vgg.safetensors")
    setup = apply(setup, {"config.vgg": str(tmp_path / "vgg.safetensors")})
    with torch.device("meta"), warnings.catch_warnings():  # as a card is drafted
        warnings.simplefilter("error")
        setup.build()
    regime = setup.build()
    assert isinstance(regime, unit.Unit)
    held = {id(p) for turn in regime.groups for p in regime.parameters_of(turn)}
    assert not any(id(p) in held for p in regime.vgg.parameters())  # type: ignore[union-attr]
    batch = images(drawn(0), "source", "target", extent=32)
    found = regime.vgg(batch["source"])[-1]  # type: ignore[misc]
    assert torch.equal(found, own(batch["source"])[-1])
    outputs = regime.forward(batch, drawn(0))
    assert float(all_terms(regime, "generator", outputs, batch, drawn(0))["perceptual_a"].detach()) > 0


# The paper's network


def test_the_papers_layers() -> None:
    """Counted layer by layer, as the paper's table has them."""
    network = PaperUnit()

    def layers(part: nn.Module) -> list[tuple[str, tuple[int, ...], int]]:
        return [
            (type(m).__name__, tuple(m.weight.shape), m.stride[0])
            for m in part.modules()
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
        ]

    block = [("Conv2d", (256, 256, 3, 3), 1)] * 2
    down = [("Conv2d", (64, 1, 7, 7), 1), ("Conv2d", (128, 64, 3, 3), 2), ("Conv2d", (256, 128, 3, 3), 2)]
    up = [
        ("ConvTranspose2d", (256, 128, 3, 3), 2),
        ("ConvTranspose2d", (128, 64, 3, 3), 2),
        ("Conv2d", (1, 64, 1, 1), 1),
    ]
    for name in "ab":
        assert layers(getattr(network, f"encoder_{name}")) == [*down, *block * 3]
        assert layers(getattr(network, f"decoder_{name}")) == [*block * 3, *up]
    assert layers(network.shared_encoder) == layers(network.shared_decoder) == block
    leaks = [m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)]
    assert leaks == [0.01] * (2 * 3 + 2 * 2)
    assert isinstance(network.decoder_a[-1], nn.Tanh)  # type: ignore[index]


def test_both_domains_teach_the_papers_shared_blocks() -> None:
    torch.manual_seed(0)
    network = PaperUnit(base=2, blocks=1)
    back = network.reverse()
    assert {id(p) for p in back.parameters()} == {id(p) for p in network.parameters()}
    x = images(drawn(0), "x", extent=12)["x"]
    assert network.encode_a(x).shape == (2, 8, 3, 3)
    assert torch.equal(back(x), network.decode_a(network.encode_b(x)))
    for encode, decode in ((network.encode_a, network.decode_a), (network.encode_b, network.decode_b)):
        network.zero_grad()
        decode(encode(x)).square().sum().backward()
        for part in (network.shared_encoder, network.shared_decoder):
            assert all(float(p.grad.abs().sum()) > 0 for p in part.parameters() if p.grad is not None and p.ndim > 1)
            assert all(p.grad is not None for p in part.parameters())


def test_codes_are_noisy_in_training_only() -> None:
    regime = coded()
    batch = images(drawn(0), "source", "target", extent=16)
    first, second = regime.forward(batch, drawn(0)), regime.forward(batch, drawn(1))
    assert torch.equal(first["code_a"], second["code_a"])
    assert not torch.equal(first["fake_b"], second["fake_b"])
    net = regime.generator
    with torch.no_grad():
        assert torch.equal(regime.predict(batch, drawn(0)), net.decode_b(net.encode_a(batch["source"])))


def test_shared_blocks_learn_from_both_domains() -> None:
    batch = images(drawn(0), "source", "target", extent=16)
    regime = coded(share=1)
    outputs = regime.forward(batch, drawn(0))
    shared = next(regime.generator.shared_encoder.parameters())
    terms = all_terms(regime, "generator", outputs, batch, drawn(0))
    for name in ("code_a", "code_b"):
        (slope,) = torch.autograd.grad(terms[name], shared, retain_graph=True)
        assert float(slope.abs().sum()) > 0
    names = [name for name, _ in regime.generator.named_parameters()]
    assert len(names) == len(set(names))
    assert len({id(p) for p in regime.parameters_of("generator")}) == len(names)
    assert float(sum_of(terms).detach()) > 0
