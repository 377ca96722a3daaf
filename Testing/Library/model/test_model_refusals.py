"""Model folders: what is broken or hostile is refused in one sentence."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from model_folders import edit_json, replace_file, tiny_model

from SynthGANLib.errors import InputError, ModelError
from SynthGANLib.model.card import VectorSpec
from SynthGANLib.model.limits import TooBigError, bounded_construction
from SynthGANLib.model.model import Model
from SynthGANLib.networks import registry

WEIGHTS, VECTOR = "weights.safetensors", "vector.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    tiny_model().save(path)
    return path


def refused(folder: Path) -> str:
    """The one sentence that a folder is refused with."""
    with pytest.raises(ModelError) as caught:
        Model.load(folder)
    sentence = str(caught.value)
    assert str(folder) in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert caught.value.next_step
    return sentence


def truncate(name: str, keep: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return change


def flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-3] ^= 0x10
        (folder / name).write_bytes(bytes(data))

    return change


def card_edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder, change)


def listed(content: dict[str, Any], old: str, new: str) -> None:
    content["files"][new] = content["files"].pop(old)


def weights_edit(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        state = safetensors.torch.load_file(folder / WEIGHTS)
        change(state)
        replace_file(folder, WEIGHTS, safetensors.torch.save(state))

    return apply


def first_name(state: dict[str, torch.Tensor]) -> str:
    return next(name for name, value in state.items() if value.ndim > 1)


def poison(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        state[first_name(state)].view(-1)[0] = value

    return change


def drop_first(state: dict[str, torch.Tensor]) -> None:
    del state[first_name(state)]


def reshape_first(state: dict[str, torch.Tensor]) -> None:
    state[first_name(state)] = state[first_name(state)].flatten()


def vector_of(**tensors: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: replace_file(folder, VECTOR, safetensors.torch.save(tensors))


def tiny_change(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / VECTOR)
    tensors["output"].view(-1)[7] += 1e-3
    replace_file(folder, VECTOR, safetensors.torch.save(tensors))


CUBE = torch.zeros(1, 1, 16, 16, 16)
BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no card": (lambda f: (f / "model.json").unlink(), "no model.json"),
    "card cut off": (truncate("model.json", 0.5), "not valid JSON"),
    "card empty": (truncate("model.json", 0), "not valid JSON"),
    "card oversized": (lambda f: (f / "model.json").write_text(" " * (2**20 + 1)), "larger than"),
    "duplicate key": (
        lambda f: (f / "model.json").write_text('{"id": "a", "id": "b"}'),
        "twice",
    ),
    "NaN in the card": (
        lambda f: (f / "model.json").write_text('{"format_version": 1, "metrics": NaN}'),
        "NaN",
    ),
    "newer format": (card_edit(lambda c: c.update(format_version=2)), "format_version"),
    "unknown field": (card_edit(lambda c: c.update(onload="x")), "'onload'"),
    "unknown network": (card_edit(lambda c: c["method"].update(name="Mystery")), "Mystery"),
    "unknown argument": (card_edit(lambda c: c["method"]["arguments"].update(evil=1)), "evil"),
    "argument of the wrong type": (card_edit(lambda c: c["method"]["arguments"].update(widths="x")), "UNet"),
    "argument of zero": (card_edit(lambda c: c["method"]["arguments"].update(widths=[])), "tiny"),
    "network too big": (card_edit(lambda c: c["method"]["arguments"].update(widths=[4096] * 64)), "too big"),
    "unknown normaliser": (
        card_edit(lambda c: c["normalisers"]["source"].update(kind="x")),
        "normalisers.source",
    ),
    "normaliser argument": (
        card_edit(lambda c: c["normalisers"]["target"].update(low="a")),
        "normalisers.target",
    ),
    "weights missing": (lambda f: (f / WEIGHTS).unlink(), "missing"),
    "weights not listed": (card_edit(lambda c: c["files"].pop(WEIGHTS)), "does not list"),
    "weights cut off": (truncate(WEIGHTS, 0.9), "bytes"),
    "weights changed": (flip(WEIGHTS), "SHA-256"),
    "vector changed": (flip(VECTOR), "SHA-256"),
    "size of the card wrong": (card_edit(lambda c: c["files"][WEIGHTS].update(bytes=3)), "bytes"),
    "size of the card absurd": (card_edit(lambda c: c["files"][WEIGHTS].update(bytes=2**39)), "larger than"),
    "extra file": (lambda f: (f / "setup.txt").write_text("x"), "does not list"),
    "hidden extra file": (lambda f: (f / ".x.py").write_text("x"), "does not list"),
    "subfolder": (lambda f: (f / "sub").mkdir(), "not a plain file"),
    "path out of the folder": (
        card_edit(lambda c: listed(c, "README.md", "../README.md")),
        "plain file names",
    ),
    "absolute path": (card_edit(lambda c: listed(c, "README.md", "/tmp/README.md")), "plain file names"),
    "code among the files": (card_edit(lambda c: listed(c, "README.md", "hook.py")), "types"),
    "pickle for weights": (lambda f: replace_file(f, WEIGHTS, pickle.dumps({"a": 1})), "pickle"),
    "zip for weights": (lambda f: replace_file(f, WEIGHTS, b"PK\x03\x04" + bytes(60)), "archive"),
    "NaN weight": (weights_edit(poison(float("nan"))), "NaN"),
    "infinite weight": (weights_edit(poison(float("inf"))), "infinite"),
    "weight missing": (weights_edit(drop_first), "lacks weights"),
    "weight too many": (weights_edit(lambda s: s.update(x=torch.zeros(1))), "'x'"),
    "weight of another shape": (weights_edit(reshape_first), "shape"),
    "weights in another precision": (
        weights_edit(lambda s: s.update({n: v.half() for n, v in s.items()})),
        "F16",
    ),
    "weights changed with hashes": (weights_edit(poison(0.5)), "test vector"),
    "vector one thousandth off": (tiny_change, "off"),
    "vector without output": (vector_of(input=CUBE), "exactly"),
    "vector of another shape": (vector_of(input=CUBE, output=torch.zeros(1, 2, 16, 16, 16)), "test output"),
    "vector of another channel count": (
        vector_of(input=torch.zeros(1, 3, 16, 16, 16), output=CUBE),
        "test input",
    ),
    "vector in double": (vector_of(input=CUBE.double(), output=CUBE.double()), "float32"),
    "vector too large": (vector_of(input=torch.zeros(1, 1, 128, 128, 130), output=CUBE), "more than"),
}


@pytest.mark.parametrize(("damage", "word"), BREAKS.values(), ids=list(BREAKS))
def test_broken_or_hostile_folder_is_refused(folder: Path, damage: Callable[[Path], object], word: str) -> None:
    damage(folder)
    assert word in refused(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
@pytest.mark.parametrize("name", [WEIGHTS, "model.json", "README.md"])
def test_links_are_refused_wherever_they_point(folder: Path, name: str) -> None:
    outside = folder.parent / name
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert "link" in refused(folder)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    assert "not a folder" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert "not a folder" in refused(tmp_path / "file")


def test_a_pickle_in_place_of_the_weights_is_never_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(marker), "w")

    for protocol in range(6):
        replace_file(folder, WEIGHTS, pickle.dumps(Trap(), protocol=protocol))
        refused(folder)
    torch.save(Trap(), folder / "x.bin")
    data = (folder / "x.bin").read_bytes()
    (folder / "x.bin").unlink()
    replace_file(folder, WEIGHTS, data)
    refused(folder)
    assert not marker.exists()


def test_a_device_that_is_absent_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="cuda:77"):
        Model.load(folder, device="cuda:77")


def test_litter_of_file_managers_is_overlooked(folder: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"x")
    Model.load(folder).verify()


def test_verify_false_leaves_out_the_hashes_and_nothing_else(folder: Path) -> None:
    def lie(content: dict[str, Any]) -> None:
        for name in content["files"]:
            content["files"][name]["sha256"] = "0" * 64

    edit_json(folder, lie)
    assert Model.load(folder, verify=False).network is not None
    refused(folder)
    flip(VECTOR)(folder)
    with pytest.raises(ModelError, match="test vector"):
        Model.load(folder, verify=False)


def test_gigabytes_that_cannot_be_weights_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 3 * 2**30
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(size)  # a hole: the disk holds nothing of it
    edit_json(folder, lambda content: content["files"][WEIGHTS].update(bytes=size))

    def never(*_: object, **__: object) -> bytes:
        raise AssertionError("the whole file was read")

    monkeypatch.setattr("SynthGANLib.model.folder.read_file", never)
    assert "after its last tensor" in refused(folder)


def test_pages_and_pictures_are_compared_by_verify_only(folder: Path) -> None:
    flip("README.md")(folder)
    model = Model.load(folder)
    with pytest.raises(ModelError, match=r"'README.md' does not have the SHA-256"):
        model.verify()


def test_verify_notices_a_change_after_loading(folder: Path) -> None:
    model = Model.load(folder)
    assert model.network is not None
    with torch.no_grad():
        list(model.network.parameters())[-1].add_(0.5)
    with pytest.raises(ModelError, match="test vector"):
        model.verify()
    model = Model.load(folder)
    flip(WEIGHTS)(folder)
    with pytest.raises(ModelError, match="SHA-256"):
        model.verify()


def test_an_absurd_network_is_refused_without_taking_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of 4096 channels would be gigabytes: the trial makes them without memory, and stops early."""
    places: list[str] = []
    original = registry.build

    def spy(name: str, arguments: dict[str, Any]) -> torch.nn.Module:
        places.append(torch.empty(0).device.type)
        return original(name, arguments)

    monkeypatch.setattr(registry, "build", spy)
    edit_json(folder, lambda content: content["method"]["arguments"].update(widths=[1024, 2048]))
    refused(folder)
    assert places == ["meta"]
    places.clear()
    edit_json(folder, lambda content: content["method"]["arguments"].update(widths=[4, 8]))
    Model.load(folder)
    assert places == ["meta", "cpu"]


def test_a_network_that_would_fill_the_memory_is_refused_before_it_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few thousand weights of 4096 channels turn an input of four megabytes into 14 gigabytes."""
    layers = [[1, 4096], [1, 1]]
    change = {"name": "ConvStack", "arguments": {"dims": 3, "layers": layers, "norm": "none"}}
    network = registry.build(change["name"], change["arguments"])
    cube = torch.zeros(1, 1, 96, 96, 96)
    replace_file(folder, WEIGHTS, safetensors.torch.save(network.state_dict()))
    replace_file(folder, VECTOR, safetensors.torch.save({"input": cube, "output": cube.clone()}))
    edit_json(folder, lambda content: content["method"].update(change))
    monkeypatch.setattr(Model, "_check_vector", lambda *_: pytest.fail("the network was run"))
    assert "of memory for its test input" in refused(folder)


def test_construction_is_bounded_by_layers_as_well() -> None:
    with bounded_construction(10**9), pytest.raises(TooBigError, match="layers"):
        torch.nn.Sequential(*(torch.nn.Identity() for _ in range(30_000)))
    with bounded_construction(1000), pytest.raises(TooBigError, match="weights"):
        torch.nn.Linear(40, 40)
    assert torch.nn.Linear(40, 40).weight.numel() == 1600  # the limit ended with the block


def test_tolerance_is_what_decides(folder: Path) -> None:
    tiny_change(folder)
    edit_json(folder, lambda content: content["vector"].update(tolerance=2e-3))
    assert Model.load(folder).card.vector == VectorSpec(2e-3)
