"""The training side of the command line, with real recipes on small volumes, down to the model folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
import torch
from cli_cases import call
from training_cases import line_setup

from SynthGANLib.errors import InputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.io.volumes import read_volume, write_volume
from SynthGANLib.model.model import Model
from SynthGANLib.recipes.base import Optimiser
from SynthGANLib.recipes.overrides import apply, parse
from SynthGANLib.recipes.registry import FITTED, RECIPES
from SynthGANLib.training import checkpoint
from SynthGANLib.training.cards import About, identifier, make_card
from SynthGANLib.training.state import built
from SynthGANLib.training.validate import SampleValidator, VolumeValidator, measure, side_by_side, wasserstein
from SynthGANLib.training.wrapping import exported, net_of


def head(seed: int) -> tuple[Volume, Volume]:
    """An ellipsoid with a shell as MR (bright inside) and CT (bright shell), 2 mm."""
    axes = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in (20, 40, 36)], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes)) + 0.05 * seed
    rng = np.random.default_rng(seed)
    mr = np.where(radius < 0.8, 500, np.where(radius < 1, 60, 5)) + rng.normal(0, 10, radius.shape)
    ct = np.where(radius < 0.8, 40, np.where(radius < 1, 900, -1000)) + rng.normal(0, 10, radius.shape)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return Volume(mr.clip(0).astype(np.float32), affine, "1"), Volume(ct.astype(np.float32), affine, "HU")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A paired data list of three subjects, one of them for validation."""
    folder = tmp_path_factory.mktemp("data with a space")
    cases = []
    for seed in range(3):
        for name, volume in zip(("mr", "ct"), head(seed), strict=True):
            write_volume(volume, folder / f"{name}{seed}.nii.gz")
        cases.append({"subject": f"s{seed}", "source": f"mr{seed}.nii.gz", "target": f"ct{seed}.nii.gz"})
    content = {
        "name": "ellipsoids",
        "description": "Drawn.",
        "kind": "paired",
        "source": {"modality": "MR", "unit": "1", "sequence": "T1"},
        "target": {"modality": "CT", "unit": "HU"},
        "training": cases[:2],
        "validation": cases[2:],
    }
    (folder / "data.json").write_text(json.dumps(content))
    return folder / "data.json"


QUICK = ("--tiny", "--device", "cpu", "--seed", 3, "--log-every", 2, "--save-every", 2, "--workers", 0)


# Settings by dotted names


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    count: int = 1
    flag: bool = False
    sizes: tuple[int, ...] = (4, 4)
    pair: tuple[float, float] = (0.5, 0.9)
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    name: str = "x"
    inner: Inner = Inner()
    table: dict[str, Inner] = field(default_factory=lambda: {"*": Inner(rate=0.1)})

    def __post_init__(self) -> None:
        if self.count > 100:
            raise ValueError("too many")


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("count=7", lambda o: o.count == 7),
        ("flag=true", lambda o: o.flag is True),
        ("sizes=8,16,32", lambda o: o.sizes == (8, 16, 32)),
        ("sizes=[8, 16]", lambda o: o.sizes == (8, 16)),
        ("pair=0.1,0.2", lambda o: o.pair == (0.1, 0.2)),
        ("spacing=1,1.5,none", lambda o: o.spacing == (1.0, 1.5, None)),
        ("name=12", lambda o: o.name == "12"),
        ("inner.rate=1e-3", lambda o: o.inner.rate == 1e-3),
        ("inner.rate=2", lambda o: o.inner.rate == 2.0 and type(o.inner.rate) is float),
        ("inner.kind=b", lambda o: o.inner.kind == "b"),
        ("table.new.kind=b", lambda o: o.table["new"] == Inner(0.1, "b") and o.table["*"] == Inner(0.1)),
    ],
)
def test_setting_takes_the_type_of_its_field(setting, read):
    assert read(apply(Outer(), parse([setting])))


@pytest.mark.parametrize(
    ("setting", "said", "hint"),
    [
        ("cuont=1", "There is no setting 'cuont'", "Did you mean 'count'?"),
        ("inner.rat=1", "There is no setting 'rat' in 'inner.rat'", "Did you mean 'rate'?"),
        ("zzz=1", "There is no setting 'zzz'", "There are: count, flag, sizes"),
        ("count=1.5", "'count' must be a whole number, not '1.5'", "It is 1 now."),
        ("count=true", "'count' must be a whole number", ""),
        ("flag=1", "'flag' must be true or false", ""),
        ("inner.kind=c", "'inner.kind' must be one of a, b, not 'c'", ""),
        ("pair=1", "'pair' must be 2 values with commas between", ""),
        ("inner=1", "'inner' must be one of its parts", ""),
        ("count.more=1", "'count.more' leads nowhere: 'count' has no parts", ""),
        ("count=101", "The setting count=101 is refused: too many", ""),
        ("count", "'count' is no setting", "NAME=VALUE"),
    ],
)
def test_wrong_setting_is_one_sentence(setting, said, hint):
    with pytest.raises(InputError) as caught:
        apply(Outer(), parse([setting]))
    assert said in str(caught.value)
    assert hint in caught.value.next_step


def test_same_setting_twice():
    with pytest.raises(InputError, match="'count' is set twice"):
        parse(["count=1", "count=2"])


def test_settings_reach_a_setup():
    setup = RECIPES["pix2pix"].tiny()
    first = next(iter(setup.networks))
    settings = ["steps=7", "config.l1=50", "optimisers.generator.rate=1e-4", f"networks.{first}.arguments.base=4"]
    changed = apply(setup, parse(settings))
    assert (changed.steps, changed.config.l1, changed.networks[first].arguments["base"]) == (7, 50.0, 4)
    assert changed.optimisers["generator"] == Optimiser(rate=1e-4)
    assert changed.regime is setup.regime
    window = apply(setup, parse(['normalisers.target={"kind": "window", "low": -100, "high": 300}']))
    assert window.normalisers["target"] == {"kind": "window", "low": -100, "high": 300}
    assert apply(setup, parse(["normalisers.target=suv"])).normalisers["target"] == "suv"
    assert setup.steps != 7
    with pytest.raises(InputError, match="'nrom'") as caught:
        apply(setup, parse([f"networks.{first}.arguments.nrom.x=1"]))
    assert caught.value.next_step


# recipes


def test_recipes_are_listed_and_found(capsys):
    code, out, _ = call(capsys, "recipes")
    assert code == 0
    assert len(out.splitlines()) == len(RECIPES) + len(FITTED) + 1
    code, out, _ = call(capsys, "recipes", "--find", "cyclegan", "--json")
    rows = json.loads(out)
    assert code == 0
    assert {"cyclegan"} <= {row["name"] for row in rows} < {*RECIPES, *FITTED}
    assert all(row["data"] in ("paired", "unpaired", "mixed", "unconditional") for row in rows)
    code, out, _ = call(capsys, "recipes", "--find", "U-Net")
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["unet-han", "unet-ct-mr"]  # called so, not like it
    assert call(capsys, "recipes", "--find", "nothing like it")[1] == "No recipe mentions 'nothing like it'.\n"


def test_long_list_tells_where_each_recipe_comes_from(capsys):
    code, out, _ = call(capsys, "recipes", "--find", "auto-context", "--long")
    _, line, place, paper = out.splitlines()
    assert code == 0
    assert line.split()[0] == "cascade-gan"
    assert place == "    Table III, MRI-CT; also called auto-context GAN; regime StagedCascade"
    assert paper.startswith("    Nie D et al. Medical image synthesis with context-aware")
    assert paper.endswith("(certainty 0.85)")
    every = call(capsys, "recipes", "--long")[1].splitlines()
    assert len(every) == 1 + 3 * (len(RECIPES) + len(FITTED))
    assert not any("None" in line or line.endswith("regime ") for line in every)


# train and export


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A pix2pix of four steps, and what the command said."""
    from SynthGANLib.cli.main import main

    out = tmp_path_factory.mktemp("runs") / "pix"
    code = main(
        [str(a) for a in ("train", "pix2pix", "--data", data, "--out", out, *QUICK, "--set", "steps=4", "ema=0.5")]
    )
    assert code == 0
    return out


def test_training_leaves_record_log_checkpoints_and_best(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"run.json", "log.jsonl", "log.csv", "checkpoints", "best.pt"} <= names
    record = json.loads((trained / "run.json").read_text())
    assert (record["recipe"], record["size"], record["seed"]) == ("pix2pix", "tiny", 3)
    assert record["settings"] == {"steps": "4", "ema": "0.5"}
    assert record["data"]["training"] == {"cases": 2, "subjects": 2}
    best = checkpoint.read(trained / "best.pt")["best"]
    assert best["step"] == 4.0
    assert best["score"] == best["MAE"] > 0


def test_exported_model_gives_what_was_validated(trained, tmp_path, capsys, data):
    """The folder passes its own checks, and its MAE on the validation case is the one in the card."""
    code, out, err = call(
        capsys, "export", trained, "--out", tmp_path / "model", "--id", "my-model", "--anatomy", "head", "--json"
    )
    assert code == 0, err
    assert json.loads(out) == {"forward": str(tmp_path / "model")}
    model = Model.load(tmp_path / "model")
    model.verify()
    card = model.card
    assert (card.id, card.anatomy, card.source.modality, card.source.sequences) == ("my-model", "head", "MR", ("T1",))
    assert (card.target.modality, card.target.unit, card.target.range) == ("CT", "HU", (-1024.0, 2000.0))
    assert (card.spatial.dims, card.spatial.axis, card.mask) == (2, "axial", "body")
    assert card.training["recipe"] == "pix2pix"
    assert card.training["seed"] == 3
    assert card.citation == RECIPES["pix2pix"].citation
    mr, ct = (read_volume(data.parent / f"{name}2.nii.gz", unit=unit) for name, unit in (("mr", "1"), ("ct", "HU")))
    from SynthGANLib.image.body import body_mask

    body = body_mask(mr.array, mr.spacing)
    fake = synthesize(mr, model, mask=body, device="cpu")
    found = measure(fake, ct, body, card.target.range)
    assert list(found) == ["MAE", "ME", "PSNR", "MS-SSIM"]
    for name, value in found.items():
        assert value == pytest.approx(card.metrics[name], rel=1e-4), name
    assert card.metrics["protocol"] == (
        "synthrad2025, mask: the body, PSNR and MS-SSIM of values clipped to -1024 to 3071, -1024 outside the mask, "
        "offset +1024, window 7, edges repeated to 97 voxels; MAE and ME in HU, PSNR in dB, means over volumes where "
        "finite; 1 validation cases, by which the weights were chosen"
    )
    code, _, err = call(capsys, "export", trained, "--out", tmp_path / "model")
    assert code == 2
    assert "exists already" in err


def test_resume_by_the_command_line(trained, data, capsys, tmp_path):
    common = ("train", "pix2pix", "--data", data, *QUICK)
    code, _, err = call(capsys, *common, "--out", trained, "--set", "steps=4", "ema=0.5")
    assert code == 2
    assert "holds a run already" in err
    code, _, err = call(capsys, *common, "--out", trained, "--set", "steps=6", "ema=0.5", "--resume")
    assert code == 2
    assert "'setup.steps' is 4 there and 6 here" in err
    code, out, _ = call(capsys, *common, "--out", trained, "--set", "steps=4", "ema=0.5", "--resume", "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 4


def test_way_back_is_a_second_folder(data, tmp_path, capsys):
    out = tmp_path / "cycle"
    code, _, err = call(capsys, "train", "cyclegan", "--data", data, "--out", out, *QUICK, "--set", "steps=2")
    assert code == 0, err
    code, said, err = call(capsys, "export", out, "--out", tmp_path / "model")
    assert code == 0, err
    assert said.splitlines() == [
        f"{tmp_path / 'model'}: the model forward",
        f"{tmp_path / 'model-backward'}: the model backward",
    ]
    there, back = Model.load(tmp_path / "model"), Model.load(tmp_path / "model-backward")
    assert (back.card.source.modality, back.card.target.modality) == ("CT", "MR")
    assert back.card.id == there.card.id + "-backward"
    assert back.card.normalisers["source"] == there.card.normalisers["target"]
    assert back.card.normalisers["target"] == {"kind": "window", "low": 0.0, "high": 1000.0}
    ct = read_volume(data.parent / "ct2.nii.gz", unit="HU")
    made = synthesize(ct, back, device="cpu")
    assert made.shape == ct.shape
    assert 0.0 <= float(made.array.min()) <= float(made.array.max()) <= 1000.0


def test_images_from_nothing(data, tmp_path, capsys):
    out = tmp_path / "dcgan"
    code, _, err = call(capsys, "train", "dcgan", "--data", data, "--out", out, *QUICK, "--set", "steps=2")
    assert code == 0, err
    assert "histograms" in err
    code, _, err = call(capsys, "export", out, "--out", tmp_path / "model")
    assert code == 0, err
    model = Model.load(tmp_path / "model")
    assert (model.card.method.name, model.card.source.modality, model.card.mask) == ("Sampler", "NOISE", "none")
    assert "Wasserstein" in model.card.metrics["protocol"]
    noise = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    samples = synthesize(Volume(noise, np.eye(4)), model, device="cpu").array
    assert samples.shape == noise.shape
    assert not np.array_equal(samples[0], samples[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "pix3pix"], "There is no recipe 'pix3pix'. Did you mean pix2pix"),
        (["train", "pix2pix", "--set", "stepz=3"], "There is no setting 'stepz'. Did you mean 'steps'?"),
        (["train", "pix2pix", "--set", "spatial.axes=axial"], "Did you mean 'axis'?"),
        (["train", "pix2pix", "--seed", "-1"], "'-1' is not a whole number from 0"),
        (["train", "pix2pix", "--amp", "fp16"], "does not compute in fp16"),
        (["train", "pix2pix", "--set", "patch=16,16,16"], "dimensions"),
    ],
)
def test_mistakes_are_one_sentence(data, tmp_path, capsys, arguments, said):
    code, out, err = call(capsys, *arguments, "--data", data, "--out", tmp_path / "run", "--tiny", "--device", "cpu")
    assert code == 2
    assert out == ""
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_export_of_what_is_no_run(tmp_path, capsys):
    code, _, err = call(capsys, "export", tmp_path, "--out", tmp_path / "model")
    assert code == 2
    assert "is no training run" in err


# Cards and validators by themselves


def description(**sides):
    source = {"modality": "MR", "unit": "1", "channels": 1, "sequence": ""}
    target = {"modality": "CT", "unit": "HU", "channels": 1, "sequence": ""}
    return {
        "sides": {"source": source, "target": target, **sides},
        "normalisers": {"source": {"kind": "identity"}, "target": {"kind": "identity"}},
        "spatial": {"orientation": "LPS", "spacing": [None, None, None], "axis": "coronal", "neighbours": 0},
        "mask": "none",
    }


def test_error_of_the_identity_is_the_distance_of_the_images():
    """The validator goes the whole way of a user; with a network that changes nothing the answer is known."""
    setup = line_setup()
    networks, regime = built(setup)
    with torch.no_grad():
        regime.line.w.fill_(1.0)
    net = net_of(setup, networks, regime.exported()["forward"])
    card = make_card(About("a-b", "t", "d"), setup, description(), "forward", net, regime.line)
    assert (card.spatial.axis, card.spatial.tile_min, card.spatial.tile_max) == ("coronal", (1, 4, 4), (1, 8, 8))

    class Case:
        source = Volume(np.linspace(0, 100, 6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8), np.eye(4), "1")
        target = Volume(source.array + np.where(np.arange(8) < 4, 3.0, -1.0).astype(np.float32), np.eye(4), "HU")
        source_body = target_body = None

    report = VolumeValidator(card, [Case])(regime.exported(), torch.device("cpu"))
    assert report.score == report.metrics["MAE"] == pytest.approx(2.0, abs=1e-4)
    assert report.metrics["ME"] == pytest.approx(-1.0, abs=1e-4)
    assert report.pictures["case 0"].shape == (7, 24)


def test_wasserstein_distance_in_closed_form():
    """A shift by c is c apart; N(0, 1) and N(0, s) are (s - 1) sqrt(2 / pi) apart."""
    rng = np.random.default_rng(0).normal(size=200_000)
    assert wasserstein(rng, rng + 2.5) == pytest.approx(2.5, rel=1e-9)
    assert wasserstein(rng, 3 * rng) == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.01)
    assert wasserstein(rng, rng[::2]) < 0.01


def test_samples_are_the_same_for_the_same_seed():
    setup = RECIPES["dcgan"].tiny()
    networks, regime = built(setup)
    made = {"forward": regime.exported()["forward"].eval()}
    content = description()
    del content["sides"]["source"], content["normalisers"]["source"]
    content["normalisers"]["target"] = {"kind": "window", "low": 0.0, "high": 100.0}
    net, network = exported(setup, networks, regime, content)["forward"]
    card = make_card(About("a-b", "t", "d"), setup, content, "forward", net, network)

    class Case:
        target = Volume(np.full((2, 4, 4), 50, np.float32), np.eye(4), "HU")

    first, second = (SampleValidator(card, [Case], samples=3, seed=s)(made, torch.device("cpu")) for s in (1, 1))
    other = SampleValidator(card, [Case], samples=3, seed=2)(made, torch.device("cpu"))
    assert first.score == second.score != other.score
    assert first.metrics["real_mean"] == 50.0


def test_pictures_stand_side_by_side():
    grey = Volume(np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float32), np.eye(4))
    colour = Volume(np.zeros((3, 5, 6, 3), np.uint8), np.eye(4), "RGB")
    assert side_by_side(grey, grey, None).shape == (5, 12)
    assert side_by_side(grey, colour, colour).shape == (5, 18, 3)


def test_identifiers_are_valid():
    assert identifier("pix2pix", "MR", "CT") == "pix2pix-mr-ct"
    assert identifier("A b/c", "", "é") == "a-b-c"
    assert len(identifier("x" * 99)) == 64
