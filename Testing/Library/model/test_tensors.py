"""The safetensors header, read by our own rules before the library reads it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from SynthGANLib.model.safetensors import TensorError, check_finite, read_header


def file_of(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


GOOD = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16), "n": np.array(3)}


def test_what_the_library_writes_is_read_as_it_is() -> None:
    data = safetensors.numpy.save(GOOD, metadata={"format": "pt"})
    declared = read_header(data)
    assert {name: item.shape for name, item in declared.items()} == {k: v.shape for k, v in GOOD.items()}
    for name, item in declared.items():
        assert data[item.begin : item.end] == GOOD[name].tobytes()
    check_finite(data, declared)


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
    "unknown field": file_of({"a": {**entry(), "code": "x"}}, bytes(8)),
    "too many tensors": file_of({str(i): entry("U8", (0,), (0, 0)) for i in range(10_001)}),
}


@pytest.mark.parametrize("data", BAD.values(), ids=list(BAD))
def test_a_file_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(TensorError):
        read_header(data)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(TensorError):
        read_header(pickle.dumps(_Trap(str(marker)), protocol=protocol))
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
        check_finite(data, read_header(data))
    good = file_of({"w": entry(dtype, (3,), (0, 3 * bits))}, bytes(3 * bits))
    check_finite(good, read_header(good))


def test_a_file_without_tensors_is_a_file() -> None:
    assert read_header(safetensors.numpy.save({}, metadata={"a": "b"})) == {}


def test_a_network_may_have_thousands_of_weights() -> None:
    many = {f"block.{i}.weight": np.full((2, 1, 1, 1, 1), i, np.float32) for i in range(5000)}
    assert len(read_header(safetensors.numpy.save(many))) == 5000


def test_whatever_we_accept_the_library_accepts_too() -> None:
    """Random damage to a good file: only TensorError comes, and nothing passes that the library refuses."""
    good = safetensors.numpy.save(GOOD)
    dice = np.random.default_rng(1)
    accepted = 0
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(dice.integers(1, 4)):
            data[dice.integers(0, len(data) - 40)] = dice.integers(0, 256)
        if dice.random() < 0.2:
            data = data[: dice.integers(0, len(data))]
        try:
            declared = read_header(bytes(data))
        except TensorError:
            continue
        accepted += 1
        loaded = safetensors.deserialize(bytes(data))
        assert {name: tuple(item["shape"]) for name, item in loaded} == {k: v.shape for k, v in declared.items()}
    assert accepted < 1400
