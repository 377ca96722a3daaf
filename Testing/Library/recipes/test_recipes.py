"""Every recipe: found by its name, of the published size, and trained one step at its tiny size."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from regime_cases import all_terms

from SynthGANLib.errors import InputError
from SynthGANLib.recipes.base import Recipe, Setup
from SynthGANLib.recipes.registry import RECIPES, recipe
from SynthGANLib.regimes.base import sum_of

# Parameters of the canonical networks as published or counted from the authors' programs; see Docs/methods.md.
COUNTS = {
    "cnn": {"generator": 37_761},
    "fcnn": {"generator": 2_166_289},
    "unet-han": {"generator": 34_937_345},
    "unet-3d": {"generator": 22_577_793},
    "pix2pix": {"generator": 54_407_809},
    "cgan-emami": {"generator": 11_365_633},
    "gan-nie": {"generator": 1_877_665, "discriminator": 2_278_401},
    "medgan-pet-ct": {"generator": 326_446_854},
    "cyclegan": {"generator_ab": 11_365_633, "discriminator_a": 2_762_689},
    "cyclegan-3d": {"generator_ab": 206_753, "discriminator_a": 698_033},
    "mr-gan": {"discriminator_a": 11_162_626},
    "unit": {"generator": 2 * 11_127_937, "discriminator_a": 8_265_027},
    "unit-paper": {"generator": 2 * 7_822_081 + 2 * 1_180_160, "discriminator_a": 8_265_027},
    "dcgan": {"generator": 3_574_656, "discriminator": 2_763_520},
    "dcgan-pet": {"generator": 12_784_512, "discriminator": 11_162_368},
    "dual-glow": {"generator": 178_375_232},
    "low-dose-pet": {"generator": 2 * 116_934_273},
    "sketcher-refiner": {"generator": 2 * 29_238_081 + (3 + 4) * 2048},
    "fcn-cgan": {"generator": 14_714_688 + 54_408_833 + (256 + 512 + 512 + 3)},
    "pix2pix-resunet": {"generator": 31_737_283 - 2 * 64 * (9 + 1)},
    "mcml": {"generator": 31_737_283},
    "vessels-fundus": {"generator": 22_869_187},
    "retina": {"renderer": 4_607_075},
    "super-resolution": {"generator": 411_648, "discriminator": 31_155_777},
    "argan": {"discriminator": None},
}


def batch_of(setup: Setup, seed: int = 1) -> dict[str, torch.Tensor]:
    """Images of the recipe's channels and patch in [-1, 1], with everything a regime may ask for."""
    rng = torch.Generator().manual_seed(seed)

    def image(channels: int) -> torch.Tensor:
        return torch.rand(setup.batch, channels, *setup.patch, generator=rng) * 2 - 1

    source, target = setup.channels
    ones = torch.ones(setup.batch, 1, *setup.patch)
    return {
        "source": image(source),
        "target": image(target),
        "source_unpaired": image(source),
        "target_unpaired": image(target),
        "mask": ones,
        "weight": ones,
        "label": torch.arange(setup.batch) % 2,
    }


@pytest.fixture(params=RECIPES.values(), ids=lambda entry: entry.name)
def entry(request) -> Recipe:
    return request.param


def steps_with_every_turn(regime) -> list[int]:
    """The fewest first steps in which every group has its turn."""
    wanted, steps = set(regime.groups), []
    for step in range(3000):
        if wanted & set(regime.turns(step)):
            steps.append(step)
            wanted -= set(regime.turns(step))
        if not wanted:
            return steps
    raise AssertionError(f"no turn of {wanted}")


# Steps of the tiny size that train what the first ones leave alone: the next stage, the other kind of batch, a grown
# level, or what a layer that begins at zero lets nothing through to.
LATER: dict[str, list[int]] = {
    "cascade-gan": [10],
    "sketcher-refiner": [10],
    "low-dose-pet": [10],
    "fcn-cgan": [10],
    "mr-gan": [1],
    "dual-glow": [1],
    "pggan": list(range(1, 15)),  # it grows by the images seen, four a step
}
# Parameters that have no gradient by the mathematics: what a Wasserstein critic adds to all its verdicts cancels.
WITHOUT = {"super-resolution": {"discriminator.head.bias"}}


def test_each_turn_changes_its_networks_and_no_others(entry):
    """And every parameter gets a gradient in a turn of its own: nothing is built that never learns."""
    setup = entry.tiny()
    torch.manual_seed(0)
    regime = setup.build().train()
    batch, rng = batch_of(setup), torch.Generator().manual_seed(2)
    if entry.name == "retina":
        batch["source"] = (batch["source"] > 0).float()  # vessels are there or not
    assert set(regime.needs) <= set(batch)
    learning = {name: parameter for name, parameter in regime.named_parameters() if parameter.requires_grad}
    reached = set[str]()
    for step in sorted({*steps_with_every_turn(regime), *LATER.get(entry.name, [])}):
        regime.step = step
        outputs = regime.forward(batch, rng)
        for turn in regime.turns(step):
            own = regime.parameters_of(turn)
            others = [p for name in regime.groups if name != turn for p in regime.parameters_of(name)]
            before, untouched = [p.detach().clone() for p in own], [p.detach().clone() for p in others]
            for parameter in others:
                parameter.requires_grad_(False)
            total = sum_of(all_terms(regime, turn, outputs, batch, rng))
            assert torch.isfinite(total), turn
            optimiser = torch.optim.SGD(own, lr=0.1)
            regime.zero_grad(set_to_none=True)
            total.backward()
            reached |= {name for name, p in learning.items() if p.grad is not None and p.grad.any()}
            optimiser.step()
            with torch.no_grad():
                regime.after(turn)
            assert any(not torch.equal(a, b) for a, b in zip(own, before, strict=True)), turn
            assert all(torch.equal(a, b) for a, b in zip(others, untouched, strict=True)), turn
            for parameter in others:
                parameter.requires_grad_(True)
    assert set(learning) - reached == WITHOUT.get(entry.name, set())


def test_prediction_has_the_targets_shape(entry):
    setup = entry.tiny()
    torch.manual_seed(0)
    regime = setup.build().eval()
    batch = batch_of(setup)
    with torch.no_grad():
        image = regime.predict(batch, torch.Generator().manual_seed(3))
    assert image.shape == batch["target"].shape
    assert torch.isfinite(image).all()
    assert "forward" in regime.exported()


def test_tiny_has_the_form_of_the_canonical_size(entry):
    tiny, canonical = entry.tiny(), entry.canonical()
    assert tiny.dims == canonical.dims == len(tiny.patch) == len(canonical.patch)
    assert tiny.regime is canonical.regime
    assert set(canonical.networks) >= set(tiny.networks)
    assert tiny.channels == canonical.channels
    copy.deepcopy(canonical)  # a setup is plain values: it can be written to a file


def test_tiny_settings_change_what_they_name_and_nothing_else(entry):
    assert entry.tiny_settings
    assert entry.canonical() is entry.setup
    for name, value in entry.tiny_settings.items():
        found = entry.tiny()
        for part in name.split("."):
            found = found[part] if isinstance(found, Mapping) else getattr(found, part)
        assert found == value, name
    assert replace(entry, tiny_settings={}).tiny() == entry.canonical()


@pytest.mark.parametrize(
    ("settings", "message", "next_step"),
    [
        ({"pach": (32, 32)}, "There is no setting 'pach'", "Did you mean 'patch'?"),
        ({"networks.generatr.arguments.base": 8}, "There is no setting 'generatr'", "Did you mean 'generator'?"),
        ({"patch.x": 32}, "'patch.x' leads nowhere: 'patch' has no parts", ""),
    ],
)
def test_a_tiny_setting_that_leads_nowhere_is_refused(settings, message, next_step):
    with pytest.raises(InputError) as caught:
        replace(recipe("pix2pix"), tiny_settings=settings).tiny()
    assert message in str(caught.value)
    assert next_step in (caught.value.next_step or "")


def test_canonical_sizes(entry):
    with torch.device("meta"):
        built = {name: net.build() for name, net in entry.canonical().networks.items()}
    for name, count in COUNTS.get(entry.name, {}).items():
        found = sum(p.numel() for p in built[name].parameters())
        assert count is None or found == count, name


def test_unknown_name_tells_the_nearest():
    with pytest.raises(InputError) as caught:
        recipe("pix2pixx")
    assert "pix2pix" in str(caught.value.next_step)


def test_names_are_words_for_a_command_line(entry):
    assert entry.name == entry.name.lower()
    assert " " not in entry.name
    assert 0 < entry.certainty <= 1
    assert len(entry.citation) > 20
