"""Safetensors files: what lies is refused, before its data are read and after."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from SynthGANLib.model.safetensors import TensorError, check_header, read_tensors


def file_of(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


GOOD = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16), "n": np.array(3)}


def test_what_the_library_writes_is_read_as_it_is(tmp_path: Path) -> None:
    data = safetensors.numpy.save(GOOD, metadata={"format": "pt"})
    (tmp_path / "good").write_bytes(data)
    check_header(tmp_path / "good")
    found = read_tensors(data)
    assert {name: item.shape for name, item in found.items()} == {k: v.shape for k, v in GOOD.items()}
    for name, item in found.items():
        assert item.data == GOOD[name].tobytes()


BAD = {
    "empty file": b"",
    "short": b"\x01\x00",
    "header beyond the end": file_of({"a": entry()}, bytes(8), length=10_000),
    "absurd header length": (2**63 - 1).to_bytes(8, "little") + b"{}" * 10,
    "header larger than allowed": file_of(b"{" + b" " * (3 * 2**20) + b"}"),
    "a list": file_of([1, 2, 3]),
    "not JSON": file_of(b"{abc}"),
    "duplicate name": file_of(b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}"),
    "cut off": file_of({"a": entry()}, bytes(7)),
    "bytes after the end": file_of({"a": entry()}, bytes(9)),
    "gap": file_of({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
    "overlap": file_of({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "size contradicts shape": file_of({"a": entry(shape=(3,))}, bytes(8)),
    "negative extent": file_of({"a": entry(shape=(-2,))}, bytes(8)),
    "huge extent": file_of({"a": entry(shape=(2**62, 4), offsets=(0, 0))}),
    "too many values": file_of({"a": entry("U8", (2**31,), (0, 2**31))}),
    "true as an extent": file_of({"a": entry(shape=(True, 2))}, bytes(8)),
    "float extent": file_of({"a": entry(shape=(2.0,))}, bytes(8)),
    "reversed offsets": file_of({"a": entry(offsets=(8, 0))}, bytes(8)),
    "unknown dtype": file_of({"a": entry("OBJ")}, bytes(8)),
    "dtype that no model has": file_of({"a": entry("F8_E4M3", (8,))}, bytes(8)),
    "huge extent without values": file_of({"a": entry(shape=(2**50, 0), offsets=(0, 0))}),
    "nine axes": file_of({"a": entry(shape=(1,) * 8 + (2,))}, bytes(8)),
    "array file": b"\x93NUMPY" + bytes(100),
    "too many tensors": file_of({str(i): entry("U8", (0,), (0, 0)) for i in range(10_001)}),
}


@pytest.mark.parametrize("data", BAD.values(), ids=list(BAD))
def test_a_file_that_lies_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad").write_bytes(data)
    for call in (lambda: read_tensors(data), lambda: check_header(tmp_path / "bad")):
        with pytest.raises(TensorError) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert not str(caught.value).endswith(".")


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(TensorError):
        read_tensors(pickle.dumps(_Trap(str(marker)), protocol=protocol))
    assert not marker.exists()


class _Trap:
    """Unpickling it would create a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


@pytest.mark.parametrize(("dtype", "bits"), [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_found_in_every_precision(dtype: str, bits: int, value: float) -> None:
    numbers = np.array([1.0, value, -3.0])
    if dtype == "BF16":  # the upper half of a float32
        raw = (numbers.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        raw = numbers.astype(f"<f{bits}").tobytes()
    data = file_of({"w": entry(dtype, (3,), (0, 3 * bits))}, raw)
    with pytest.raises(TensorError, match="'w'"):
        read_tensors(data)
    good = file_of({"w": entry(dtype, (3,), (0, 3 * bits))}, bytes(3 * bits))
    assert set(read_tensors(good)) == {"w"}


def test_a_file_without_tensors_is_a_file() -> None:
    assert read_tensors(safetensors.numpy.save({}, metadata={"a": "b"})) == {}


def test_a_network_may_have_thousands_of_weights() -> None:
    many = {f"block.{i}.weight": np.full((2, 1, 1, 1, 1), i, np.float32) for i in range(5000)}
    assert len(read_tensors(safetensors.numpy.save(many))) == 5000


def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    """Only TensorError comes, the file and its content are judged alike, and what is read has the size it says."""
    good = safetensors.numpy.save(GOOD)
    dice = np.random.default_rng(1)
    accepted = 0
    path = tmp_path / "damaged"
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(dice.integers(1, 4)):
            data[dice.integers(0, len(data) - 40)] = dice.integers(0, 256)
        if dice.random() < 0.2:
            data = data[: dice.integers(0, len(data))]
        path.write_bytes(data)
        try:
            found = read_tensors(bytes(data))
        except TensorError as error:
            if "NaN" not in str(error):
                with pytest.raises(TensorError):
                    check_header(path)
            continue
        check_header(path)
        accepted += 1
        assert sum(len(item.data) for item in found.values()) == sum(v.nbytes for v in GOOD.values())
    assert accepted < 1400


def test_limits_hold_before_the_data_are_read(tmp_path: Path) -> None:
    text = json.dumps({"a": entry("U8", (2**30,), (0, 2**30))}).encode()
    with (tmp_path / "big").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 2**30)  # a hole: the disk holds nothing of it
    with pytest.raises(TensorError, match="more than"):
        check_header(tmp_path / "big")
