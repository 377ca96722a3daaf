"""Model folders: what is saved loads bit for bit, whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from model_folders import classical_card, identity_card, network_card, tiny_model

from SynthGANLib.errors import ModelError
from SynthGANLib.model.card import MethodSpec, SourceSpec, SpatialSpec
from SynthGANLib.model.model import Model
from SynthGANLib.networks import registry

WEIGHTS, VECTOR = "weights.safetensors", "vector.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    tiny_model().save(path)
    return path


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_saved_model_loads_with_the_very_same_weights(tmp_path: Path, storage: str) -> None:
    method = dataclasses.replace(network_card().method, storage=storage)
    model = tiny_model(network_card(method=method))
    model.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    assert loaded.card == model.card
    assert model.network is not None
    assert loaded.network is not None
    for name, value in model.network.state_dict().items():
        found = loaded.network.state_dict()[name]
        assert found.dtype == torch.float32
        assert torch.equal(found, value), name
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    loaded.verify()
    again = tmp_path / "again"
    loaded.save(again)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()
    }


def test_half_precision_halves_the_file(tmp_path: Path, folder: Path) -> None:
    method = dataclasses.replace(network_card().method, storage="float16")
    tiny_model(network_card(method=method)).save(tmp_path / "half")
    header = 2000
    small, large = ((tmp_path / name / WEIGHTS).stat().st_size for name in ("half", "tiny"))
    assert small - header < (large - header) * 0.6


def test_loading_leaves_the_callers_dice_alone(folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    Model.load(folder)
    assert torch.equal(torch.rand(4), expected)


def test_build_refuses_what_does_not_fit() -> None:
    card = network_card()
    other = registry.build("UNet", {"dims": 3, "widths": [4, 16]})
    with pytest.raises(ModelError, match="the network needs"):
        Model.build(card, other, torch.zeros(1, 1, 16, 16, 16))
    network = registry.build("UNet", card.method.arguments)
    with pytest.raises(ModelError, match="test input"):
        Model.build(card, network, torch.zeros(1, 2, 16, 16, 16))
    with pytest.raises(ModelError, match="divisible"):
        Model.build(card, network, torch.zeros(1, 1, 15, 16, 16))
    with pytest.raises(ModelError, match="network and a test input"):
        Model.build(card)
    with torch.no_grad():
        next(network.parameters())[0] = float("nan")
    with pytest.raises(ModelError, match="NaN"):
        Model.build(card, network, torch.zeros(1, 1, 16, 16, 16))


def test_weights_too_large_for_half_precision_are_not_stored_as_infinity() -> None:
    card = network_card(method=dataclasses.replace(network_card().method, storage="float16"))
    network = registry.build("UNet", card.method.arguments)
    with torch.no_grad():
        next(network.parameters()).fill_(1e6)
    with pytest.raises(ModelError, match="float16"):
        Model.build(card, network, torch.zeros(1, 1, 16, 16, 16))


def test_two_and_a_half_dimensions_count_the_neighbours_as_channels(tmp_path: Path) -> None:
    card = network_card(
        method=MethodSpec("network", "UNet", {"dims": 2, "in_channels": 6, "widths": [4, 8]}),
        source=SourceSpec("MR", "1", channels=2),
        spatial=SpatialSpec(2, (1, 16, 16), (1, 64, 64), axis="axial", neighbours=1, multiple=2),
    )
    network = registry.build("UNet", card.method.arguments)
    Model.build(card, network, torch.zeros(2, 6, 16, 16)).save(tmp_path / "m")
    assert Model.load(tmp_path / "m").card.spatial.neighbours == 1
    with pytest.raises(ModelError, match="test input"):
        Model.build(card, network, torch.zeros(2, 2, 16, 16))


def test_classical_model_has_a_card_and_nothing_else(tmp_path: Path) -> None:
    Model.build(classical_card()).save(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["README.md", "model.json"]
    loaded = Model.load(tmp_path / "m")
    assert loaded.network is None
    loaded.verify()
    with pytest.raises(ModelError, match="not one of"):
        Model.build(classical_card(method=MethodSpec("classical", "magic")))
    with pytest.raises(ModelError, match="do not fit"):
        Model.build(classical_card(method=MethodSpec("classical", "tissue", {"no_such_thing": 1})))


# saving


def test_save_replaces_only_models_and_only_when_told(tmp_path: Path, folder: Path) -> None:
    before = (folder / "model.json").read_bytes()
    other = tiny_model(network_card(version="2.0.0"), seed=1)
    with pytest.raises(ModelError, match="exists already"):
        other.save(folder)
    assert (folder / "model.json").read_bytes() == before
    other.save(folder, force=True)
    assert Model.load(folder).card.version == "2.0.0"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x")
    with pytest.raises(ModelError, match="not a model folder"):
        other.save(precious, force=True)
    assert (precious / "thesis.txt").read_text() == "x"
    with pytest.raises(ModelError, match="does not exist"):
        other.save(tmp_path / "no" / "such")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "tiny"]


@pytest.mark.parametrize("failing", [1, 3])
def test_a_full_disk_leaves_the_former_model_and_no_litter(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write, calls = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        calls.append(self)
        if len(calls) == failing:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ModelError, match="No space left"):
        tiny_model(seed=1).save(folder, force=True)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_failing_rename_puts_the_former_model_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rename = Path.rename

    def stubborn(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stubborn)
    with pytest.raises(ModelError, match="Permission denied"):
        tiny_model(seed=1).save(folder, force=True)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_attachments_are_listed_shown_and_kept(tmp_path: Path) -> None:
    picture = tmp_path / "any name.png"
    picture.write_bytes(b"\x89PNG pixels")
    model = tiny_model()
    model.save(tmp_path / "m", attachments={"heads.png": picture})
    loaded = Model.load(tmp_path / "m")
    assert loaded.card.files["heads.png"].bytes == len(b"\x89PNG pixels")
    assert "![heads](heads.png)" in (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    loaded.save(tmp_path / "n")
    assert (tmp_path / "n" / "heads.png").read_bytes() == b"\x89PNG pixels"
    for name in ("../x.png", "README.md", "run.py", "readme.MD", "model.json"):
        with pytest.raises(ModelError):
            model.save(tmp_path / "o", attachments={name: picture})
        assert not (tmp_path / "o").exists()


def test_a_network_may_write_into_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class InPlace(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_parameter("scale", torch.nn.Parameter(torch.ones(1)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.add_(self.scale)

    monkeypatch.setattr(registry, "constructor", lambda name: InPlace)
    model = tiny_model(network_card(method=MethodSpec("network", "InPlace")))
    model.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    loaded.verify()
    loaded.verify()
    assert loaded.vector is not None
    assert torch.equal(loaded.vector[1], loaded.vector[0] + 1)


def test_a_network_without_weights_can_be_saved(tmp_path: Path) -> None:
    """Identity has no parameters; such a model still proves itself by its vector."""
    model = tiny_model(identity_card())
    model.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    assert loaded.vector is not None
    assert torch.equal(*loaded.vector)


def test_the_page_is_the_card(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# Tiny MR to CT")
    assert "| bone | 1.5 | 2 |" in text
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert sorted(content["files"]) == ["README.md", VECTOR, WEIGHTS]
    assert np.isclose(content["vector"]["tolerance"], 1e-4)
