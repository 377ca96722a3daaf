"""What users get of generators: a model for each class, the level that was reached, vessels and fundus of one code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_cases import call
from list_cases import head, save, write_list
from recipe_cases import EveryKey
from regime_cases import drawn
from torch import Tensor, nn

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.model.model import Model
from SynthGANLib.networks.sampler import Sampler, code_from_image
from SynthGANLib.networks.vessel import RetinaSynthesis
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.regimes.progressive import Progressive
from SynthGANLib.training.engine import train
from SynthGANLib.training.export_run import draft_card, export
from SynthGANLib.training.record import Record, write_record
from SynthGANLib.training.state import built
from SynthGANLib.training.validate import SampleValidator
from SynthGANLib.training.wrapping import exported


def trained(name: str, run: Path, steps: int = 2, **sides: Any) -> tuple[Any, EveryKey]:
    """A run of the recipe's tiny size on random images, and its feed."""
    setup = replace(RECIPES[name].tiny(), steps=steps)
    feed = EveryKey(RECIPES[name], setup)
    feed.sides = {**feed.sides, **sides}
    train(setup, feed, run, seed=1, device="cpu")  # type: ignore[arg-type]
    write_record(run, Record(name, "tiny", {"steps": str(steps)}, feed.describe(), "data.json", 1, "none"))
    return setup, feed


def noise_image(seed: int, shape: tuple[int, ...] = (2, 40, 36)) -> Volume:
    return Volume(np.random.default_rng(seed).normal(size=shape).astype(np.float32), np.eye(4))


# Classes


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("classes") / "run"
    trained("cgan-label", run)
    return run


def test_every_class_is_a_model_of_its_own(classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, err = call(capsys, "export", classes, "--out", tmp_path / "model", "--id", "pet")
    assert code == 0, err
    assert said.splitlines() == [f"{tmp_path}/model-class-{k}: the model class-{k}" for k in range(3)]
    models = [Model.load(tmp_path / f"model-class-{k}") for k in range(3)]
    assert [model.card.id for model in models] == ["pet-class-0", "pet-class-1", "pet-class-2"]
    assert "(class 1)" in models[1].card.title
    made = [synthesize(noise_image(0), model, device="cpu").array for model in models]
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[1], made[2])
    one = export(classes, tmp_path / "one", label=2)
    assert one == {"forward": tmp_path / "one"}
    assert np.array_equal(synthesize(noise_image(0), Model.load(tmp_path / "one"), device="cpu").array, made[2])


def test_a_class_that_is_not_there_is_refused(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "export", classes, "--out", tmp_path / "m", "--label", 3)
    assert (code, "makes the classes 0 to 2, not 3" in err) == (2, True)
    trained("dcgan", tmp_path / "plain")
    code, _, err = call(capsys, "export", tmp_path / "plain", "--out", tmp_path / "m", "--label", 0)
    assert (code, "make no classes" in err) == (2, True)
    assert not (tmp_path / "m").exists()


def test_nothing_is_written_where_one_of_several_folders_is_taken(classes: Path, tmp_path: Path) -> None:
    export(classes, tmp_path / "a", label=0)
    (tmp_path / "a").rename(tmp_path / "m-class-2")
    with pytest.raises(Exception, match=r"m-class-2' exists already"):
        export(classes, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m-class-2"]


class Levels(nn.Module):
    """A generator whose classes are flat images of known brightness."""

    code = 4

    def __init__(self, levels: list[float]) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor(levels))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.levels[label].reshape(-1, 1, 1, 1).expand(-1, 1, 16, 16) + 0.001 * z[:, :1, None, None]


def test_classes_are_validated_against_their_own_cases() -> None:
    recipe = RECIPES["cgan-label"]
    feed = EveryKey(recipe, recipe.tiny())
    feed.normalisers = {"target": {"kind": "window", "low": 0.0, "high": 100.0}}
    card = draft_card(recipe, recipe.tiny(), feed.describe())

    class Case:
        def __init__(self, label: int, value: float) -> None:
            self.case = type("Named", (), {"label": label})
            self.target = Volume(np.full((2, 16, 16), value, np.float32), np.eye(4), "HU")

    validator = SampleValidator(card, [Case(0, 25.0), Case(2, 75.0)], samples=2)  # type: ignore[list-item]
    right = validator({"forward": Levels([-0.5, 0.0, 0.5])}, torch.device("cpu"))  # 25, 50, 75
    assert right.score == pytest.approx(0.0, abs=0.2)
    wrong = validator({"forward": Levels([0.5, 0.0, -0.5])}, torch.device("cpu"))
    assert wrong.score == pytest.approx(50.0, abs=0.2)  # a comparison of all with all would see no difference
    assert wrong.metrics["wasserstein"] == wrong.score


# Levels


@pytest.mark.parametrize(
    ("seen", "level"), [(0, 0), (15, 0), (16, 0), (31, 0), (32, 1), (48, 1), (63, 1), (64, 2), (999, 2)]
)
def test_the_highest_level_that_is_faded_in_is_used(seen: int, level: int) -> None:
    """Tiny: 16 images a level and 16 to fade the next one in, 4 to 16 pixels."""
    setup = RECIPES["pggan"].tiny()
    networks, regime = built(setup)
    assert isinstance(regime, Progressive)
    regime.images_seen.fill_(seen)
    feed = EveryKey(RECIPES["pggan"], setup)
    net, sampler = exported(setup, networks, regime, feed.describe())["forward"]
    assert isinstance(sampler, Sampler)
    assert net.arguments.get("level") == sampler.level == level
    noise = torch.randn(2, 1, 16, 16, generator=drawn(0))
    with torch.no_grad():
        image = regime.generator.eval()(code_from_image(noise, 8), level)
        given = sampler.eval()(noise)
    assert image.shape[-1] == 4 * 2**level
    if level == 2:
        assert torch.equal(given, image)
    assert given.shape[-2:] == (16, 16)


def test_the_exported_level_is_the_runs(tmp_path: Path) -> None:
    """Nine steps of four images: the second level (of 0, 1, 2) is whole, the third has not begun."""
    trained("pggan", tmp_path / "run", steps=9)
    export(tmp_path / "run", tmp_path / "model")
    model = Model.load(tmp_path / "model")
    assert model.card.method.arguments["level"] == 1
    assert synthesize(noise_image(1), model, device="cpu").shape == (2, 40, 36)


def test_the_level_is_validated_that_is_exported(tmp_path: Path) -> None:
    setup = RECIPES["pggan"].tiny()
    feed = EveryKey(RECIPES["pggan"], setup)
    feed.normalisers = {"target": {"kind": "window", "low": 0.0, "high": 100.0}}
    card = draft_card(RECIPES["pggan"], setup, feed.describe())
    torch.manual_seed(0)
    _, regime = built(setup)

    class Case:
        case = None
        target = Volume(np.full((2, 16, 16, 2), 50, np.float32), np.eye(4), "HU")

    def score(seen: int) -> float:
        regime.images_seen.fill_(seen)
        networks = {direction: network.eval() for direction, network in regime.usable().items()}
        return SampleValidator(card, [Case], samples=2)(networks, torch.device("cpu")).score  # type: ignore[list-item]

    assert score(0) == score(31) != score(40) == score(63) != score(999)


# From a code to vessels to a fundus


def test_vessels_and_fundus_of_one_code_are_two_models(tmp_path: Path) -> None:
    run = tmp_path / "run"
    drawing = {"modality": "SEG", "unit": "label", "channels": 1, "sequence": ""}
    photograph = {"modality": "OP", "unit": "RGB", "channels": 3, "sequence": ""}
    setup, feed = trained("retina", run, source=drawing, target=photograph)
    record = Record("retina", "tiny", {"steps": "2"}, feed.describe(), "data.json", 1, "none")
    scales = {"source": {"kind": "window", "low": -1.0, "high": 1.0}, "target": {"kind": "rgb"}}
    write_record(run, replace(record, data={**record.data, "normalisers": scales}))
    folders = export(run, tmp_path / "m", id="fundus")
    assert {direction: path.name for direction, path in folders.items()} == {
        "forward": "m", "sample": "m-sample", "sample-source": "m-sample-source",
    }  # fmt: skip
    render, fundus, vessels = (Model.load(path) for path in folders.values())
    assert [m.card.id for m in (render, fundus, vessels)] == ["fundus", "fundus-sample", "fundus-sample-source"]
    assert (fundus.card.source.modality, fundus.card.target.unit, fundus.card.mask) == ("NOISE", "RGB", "none")
    assert (vessels.card.target.modality, vessels.card.target.unit) == ("SEG", "1")
    assert vessels.card.target.range == (0.0, 1.0)

    seed = noise_image(3, (2, 32, 32))
    drawn_vessels = synthesize(seed, vessels, device="cpu").array
    photo = synthesize(seed, fundus, device="cpu").array
    assert 0.0 <= drawn_vessels.min() < drawn_vessels.max() <= 1.0
    assert photo.shape == (2, 32, 32, 3)
    sampler = fundus.network
    assert isinstance(sampler, Sampler)
    whole = sampler.generator
    assert isinstance(whole, RetinaSynthesis)
    scaled = (seed.array - seed.array.mean()) / seed.array.std()
    with torch.no_grad():
        mask, image = whole.both(code_from_image(torch.from_numpy(scaled)[:, None], whole.code))
    assert np.allclose(drawn_vessels, mask[:, 0].numpy(), atol=1e-4)
    assert np.allclose(photo, 127.5 * (image.numpy().transpose(0, 2, 3, 1) + 1), atol=0.02)
    # the renderer makes the same photograph of these vessels: one network, in two folders
    assert render.network is not None
    with torch.no_grad():
        assert torch.allclose(render.network(mask), image, atol=1e-5)
    assert setup.channels == (1, 3)


def test_samplers_give_the_channels_asked_for() -> None:
    torch.manual_seed(0)
    nets = {name: net.build() for name, net in RECIPES["retina"].tiny().networks.items()}
    whole = RetinaSynthesis.of(nets["autoencoder"], nets["renderer"]).eval()  # type: ignore[arg-type]
    noise = torch.randn(1, 1, 32, 32, generator=drawn(0))
    with torch.no_grad():
        every = Sampler.over(whole, whole.code)(noise)
        parts = [Sampler.over(whole, whole.code, **part)(noise) for part in ({"end": 1}, {"begin": 1})]
    assert torch.equal(torch.cat(parts, 1), every)
    assert {id(p) for p in whole.parameters()} == {
        id(p) for name in ("autoencoder", "renderer") for p in nets[name].parameters()
    }
    assert Sampler.over(whole, 4, begin=1).arguments() == {"code": 4, "begin": 1}


# Any recipe


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("unet-3d", "pix2pix-resunet", "mcml")])
def test_a_run_of_the_papers_size_has_a_card(name: str) -> None:
    """Without memory for weights; the recipes left out take MONAI long, and are no different in this."""
    recipe = RECIPES[name]
    setup = recipe.canonical()
    card = draft_card(recipe, setup, EveryKey(recipe, setup).describe())
    assert card.target.channels == setup.channels[1]


def test_labels_of_the_data_list_reach_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        {"subject": f"s{n}", "target": save(head(n, (4, 20, 20))[0], tmp_path / f"{n}.nii.gz"), "label": n % 2}
        for n in range(4)
    ]
    for case in cases:
        case["mask"] = save(np.ones((4, 20, 20), np.uint8), tmp_path / "mask.nii.gz", "label")
    mr = {"modality": "MR", "unit": "1"}
    listed = write_list(tmp_path, cases[:2], kind="unconditional", source=None, target=mr, validation=cases[2:])
    quick = ("--tiny", "--device", "cpu", "--workers", 0, "--set", "steps=1")
    code, _, err = call(capsys, "train", "cgan-label", "--data", listed, "--out", tmp_path / "run", *quick)
    assert code == 0, err
    assert "histograms" in err
    export(tmp_path / "run", tmp_path / "model", label=1)
    assert "means over the classes" in Model.load(tmp_path / "model").card.metrics["protocol"]
    with pytest.raises(InputError, match="0 to 2, not 7"):
        export(tmp_path / "run", tmp_path / "other", label=7)
