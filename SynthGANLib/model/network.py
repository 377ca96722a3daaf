"""The network of a model folder: built by name within limits, its weights and its test vector checked."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from SynthGANLib.errors import ModelError
from SynthGANLib.model.card import VECTOR, WEIGHTS, Card
from SynthGANLib.model.folder import MAX_VECTOR_ELEMENTS, load_tensors, refuse_folder
from SynthGANLib.model.limits import LiveBytes, TooBigError, bounded_construction
from SynthGANLib.model.safetensors import MAX_ELEMENTS, Stored
from SynthGANLib.networks import registry

MAX_LIVE_BYTES = 8 * 2**30
"""Most memory that a network may take for its test input."""

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_STORED = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def load_network(card: Card, folder: Path, verify: bool) -> nn.Module:
    stored = load_tensors(folder, card, WEIGHTS, verify=verify)
    network = build_network(card, {name: item.shape for name, item in stored.items()}, folder)
    state = network.state_dict()
    for name, item in stored.items():
        wanted = _CODES[card.method.storage] if state[name].is_floating_point() else None
        if wanted and item.dtype != wanted:
            raise refuse_folder(folder, f"'{WEIGHTS}' stores '{name}' as {item.dtype}, not {wanted} as the card says")
    network.load_state_dict({name: tensor_of(item) for name, item in stored.items()})
    return network


def build_network(card: Card, shapes: Mapping[str, tuple[int, ...]], folder: Path | None) -> nn.Module:
    """The network of the card, after a trial without memory showed that it has these ``shapes``."""

    def construct() -> nn.Module:
        try:
            return registry.build(card.method.name, dict(copy.deepcopy(card.method.arguments)))
        except TooBigError:
            raise
        except ModelError as error:
            refusal = refuse(folder, one_line(error))
            refusal.next_step = error.next_step or refusal.next_step  # it may be a newer SynthGAN that is needed
            raise refusal from None
        except Exception as error:  # arguments from a folder can make a constructor fail in any way
            raise refuse(
                folder, f"method.arguments do not fit the network '{card.method.name}' ({one_line(error)})"
            ) from error

    try:
        with bounded_construction(MAX_ELEMENTS), torch.device("meta"):
            trial = construct()
    except TooBigError as error:
        raise refuse(folder, f"method.arguments ask for a network that is too big ({error})") from None
    _compare_shapes({name: tuple(value.shape) for name, value in trial.state_dict().items()}, shapes, folder)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn for nothing; the caller's dice stay
        network = construct()
    return network.float().eval().requires_grad_(False)


def check_live_bytes(network: nn.Module, given: Tensor, folder: Path) -> None:
    """Refuse a network whose answer to ``given`` would fill the memory; found out without taking any."""
    everything = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    ghosts = {name: value.to("meta") for name, value in everything.items()}
    try:
        with torch.inference_mode(), torch.device("meta"), LiveBytes(MAX_LIVE_BYTES):
            torch.func.functional_call(network, ghosts, (given.to("meta"),))
    except TooBigError as error:
        raise refuse(folder, f"the network would take {error} of memory for its test input") from None
    except Exception:  # a few networks ask for values, which nothing has here; the true answer shows what is wrong  # noqa: BLE001
        return


def _compare_shapes(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], folder: Path | None
) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing:
        raise refuse(folder, f"'{WEIGHTS}' lacks weights of the network ({len(missing)}, first '{missing[0]}')")
    if extra:
        raise refuse(folder, f"'{WEIGHTS}' has weights unknown to the network ({len(extra)}, first '{extra[0]}')")
    for name, shape in wanted.items():
        if found[name] != shape:
            reason = f"'{WEIGHTS}' gives '{name}' the shape {list(found[name])}, the network needs {list(shape)}"
            raise refuse(folder, reason)


def load_vector(card: Card, folder: Path, verify: bool) -> tuple[Tensor, Tensor]:
    stored = load_tensors(folder, card, VECTOR, verify=verify)
    if set(stored) != {"input", "output"} or any(item.dtype != "F32" for item in stored.values()):
        raise refuse_folder(folder, f"'{VECTOR}' must hold exactly 'input' and 'output' in float32")
    check_vector_shapes(card, stored["input"].shape, stored["output"].shape, folder)
    return tensor_of(stored["input"]), tensor_of(stored["output"])


def check_vector_shapes(
    card: Card, given: tuple[int, ...], answer: tuple[int, ...] | None, folder: Path | None
) -> None:
    """(B, C_in, z, y, x), for 2D (B, C_in * (2 * neighbours + 1), y, x); the answer on the same extents."""
    spatial = card.spatial
    channels = card.source.channels * (2 * spatial.neighbours + 1)
    if len(given) != spatial.dims + 2 or given[1] != channels or not 0 < int(np.prod(given)) <= MAX_VECTOR_ELEMENTS:
        wanted_axes = ", ".join("zyx"[-spatial.dims :])
        raise refuse(folder, f"the test input has the shape {list(given)}, not (batch, {channels}, {wanted_axes})")
    if any(extent % spatial.multiple for extent in given[2:]):
        raise refuse(folder, f"the test input {list(given)} is not divisible by {spatial.multiple}")
    wanted = (given[0], card.target.channels, *given[2:])
    if answer is not None and answer != wanted:
        raise refuse(folder, f"the test output has the shape {list(answer)}, not {list(wanted)}")


def tensor_of(item: Stored) -> Tensor:
    """A tensor on the bytes of a checked one; nothing is copied."""
    dtype = _STORED[item.dtype]
    if not item.data:  # torch.frombuffer refuses a buffer without bytes
        return torch.empty(item.shape, dtype=dtype)
    return torch.frombuffer(item.data, dtype=dtype).reshape(item.shape)


def rounded(value: Tensor, card: Card, *, back: bool = True) -> Tensor:
    """The value as it will be stored; ``back`` returns it to float32 with what was lost."""
    value = value.detach().to("cpu").contiguous().clone()
    if not value.is_floating_point():
        return value
    stored = value.to(_DTYPES[card.method.storage])
    if not bool(torch.isfinite(stored).all()):
        raise ModelError(
            f"The weights of '{card.id}' hold NaN, infinite or too large values for {card.method.storage}.",
            next_step="Choose another checkpoint or store it as float32.",
        )
    return stored.to(torch.float32) if back else stored


def refuse(folder: Path | None, reason: str) -> ModelError:
    if folder is not None:
        return refuse_folder(folder, reason)
    return ModelError(f"The model is refused: {reason}.", next_step="Correct the card, the network or the test input.")


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
