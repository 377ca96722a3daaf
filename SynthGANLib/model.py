"""A model: card, network and test vector, loaded from a folder that can never run code.

Weights are safetensors, the network is built by name from :mod:`SynthGANLib.networks` with the card's plain
arguments, and nothing in the folder is imported, unpickled or evaluated.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor, nn

from SynthGANLib.build_guard import TooBigError, bounded_construction
from SynthGANLib.card import VECTOR, WEIGHTS, Card
from SynthGANLib.errors import InputError, ModelError
from SynthGANLib.live_bytes import LiveBytes
from SynthGANLib.model_files import (
    MAX_VECTOR_ELEMENTS,
    arrays_of,
    check_folder,
    read_card,
    read_file,
    read_tensors,
    refuse_folder,
)
from SynthGANLib.tensors import MAX_ELEMENTS

MAX_LIVE_BYTES = 8 * 2**30
"""Most memory that a network may take for its test input."""

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class Model:
    """A checked model, ready to predict.

    Attributes:
        card: what the folder says about itself.
        network: in eval mode, float32, no gradients; None for a classical method.
        path: the folder it came from or was saved to; None before the first save.
        vector: test input and output, (B, C_in, ...) and (B, C_out, ...); None for a classical method.
        tensors: what a classical method works with, such as atlases; read-only, empty for all else.
    """

    def __init__(
        self,
        card: Card,
        network: nn.Module | None,
        *,
        path: Path | None = None,
        vector: tuple[Tensor, Tensor] | None = None,
        tensors: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.card = card
        self.network = network
        self.path = path
        self.vector = vector
        self.tensors: Mapping[str, NDArray[Any]] = dict(tensors or {})

    def __repr__(self) -> str:
        card = self.card
        return f"Model({card.id} {card.version}, {card.source.modality} -> {card.target.modality})"

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu", verify: bool = True) -> Model:
        """Load and check a model folder.

        Entries, sizes, headers, shapes, finite weights and the test vector (on ``device``) are checked
        always; ``verify=False`` leaves out the SHA-256 comparison only, for a folder whose hashes were
        checked before.

        Raises:
            ModelError: one sentence, for a folder that is corrupt, hostile or of another format version.
            InputError: the device is not there.
        """
        folder = Path(path)
        card = read_card(folder)
        for name in card.files:
            if name not in (WEIGHTS, VECTOR) and verify:
                read_file(folder, card, name)
        if card.method.kind == "classical":
            _check_classical(card, folder)
            return cls(card, None, path=folder, tensors=_load_tensors(card, folder, verify))
        _check_normalisers(card, folder)
        network = _load_network(card, folder, verify)
        vector = _load_vector(card, folder, verify)
        try:
            network = network.to(device)
        except (RuntimeError, AssertionError) as error:  # what torch raises for a device that is not there
            raise InputError(
                f"The device '{device}' cannot be used ({_one_line(error)}).", next_step="Choose cpu."
            ) from error
        model = cls(card, network, path=folder, vector=vector)
        _check_appetite(network, vector[0], folder)
        model._check_vector(folder)
        return model

    @classmethod
    def build(
        cls,
        card: Card,
        network: nn.Module | None = None,
        vector_input: Tensor | None = None,
        *,
        tensors: Mapping[str, NDArray[Any]] | None = None,
    ) -> Model:
        """A new model from a trained network, or from the tensors of a classical method, for saving.

        The weights are copied into a network that is freshly built by the card's name and arguments and
        rounded to ``card.method.storage``; the test output is computed from ``vector_input`` (B, C_in, ...)
        with those.

        Raises:
            ModelError: if card, network, input and tensors do not fit each other.
        """
        if card.method.kind == "classical":
            if network is not None or vector_input is not None:
                raise ModelError("A classical model has neither network nor test input.", next_step="Leave both out.")
            _check_classical(card, None)
            copies = {name: _read_only_copy(value) for name, value in (tensors or {}).items()}
            _check_tensors(card, copies, None)
            return cls(card, None, tensors=copies)
        if tensors:
            raise ModelError("A network model has no tensors beside its weights.", next_step="Leave them out.")
        if network is None or vector_input is None:
            raise ModelError("A network model needs a network and a test input.", next_step="Pass both to build().")
        _check_normalisers(card, None)
        stored = {name: _rounded(value, card) for name, value in network.state_dict().items()}
        fresh = _build_network(card, {name: tuple(value.shape) for name, value in stored.items()}, None)
        fresh.load_state_dict(stored)
        given = vector_input.detach().to("cpu", torch.float32).clone()
        _check_vector_shapes(card, tuple(given.shape), None, None)
        model = cls(card, fresh, vector=(given, given))
        output = model._predict_vector(None)
        _check_vector_shapes(card, tuple(given.shape), tuple(output.shape), None)
        model.vector = (given, output)
        return model

    def save(self, path: str | Path, *, force: bool = False, attachments: Mapping[str, Path] | None = None) -> None:
        """Write the folder: whole, checked and renamed into place, or not at all.

        ``attachments`` maps names (``heads.png``) to files that are copied in and listed; ``README.md`` is
        written from the card. ``self.card`` and ``self.path`` are updated.

        Raises:
            ModelError: if ``path`` exists (without ``force``), or exists and is no model folder, or cannot be
                written, or what was written does not load.
        """
        from SynthGANLib.model_save import save_folder

        self.card = save_folder(self, Path(path), force=force, attachments=dict(attachments or {}))
        self.path = Path(path)

    def verify(self) -> None:
        """Compare every file with its SHA-256 and the network with its test vector (else ModelError)."""
        if self.path is not None:
            check_folder(self.path)
        if self.network is not None:
            self._check_vector(self.path)

    def stored_weights(self) -> dict[str, Tensor]:
        """The state of the network in the precision it is stored in, contiguous and on the CPU."""
        if self.network is None:
            return {}
        return {name: _rounded(value, self.card, back=False) for name, value in self.network.state_dict().items()}

    def _check_vector(self, folder: Path | None) -> None:
        assert self.vector is not None
        assert self.card.vector is not None
        expected, tolerance = self.vector[1], self.card.vector.tolerance
        found = self._predict_vector(folder)
        if found.shape != expected.shape:
            raise _refuse(folder, f"the network answers the test vector with the shape {tuple(found.shape)}")
        difference = float((found - expected).abs().max())
        if not difference <= tolerance:  # NaN is refused as well
            reason = f"the network answers the test vector {difference:.3g} off, and {tolerance:g} is allowed"
            raise _refuse(folder, reason)

    def _predict_vector(self, folder: Path | None) -> Tensor:
        """The network's answer to the test input, in full float32 (no TF32), on the CPU."""
        assert self.vector is not None
        assert self.network is not None
        held = next(iter(self.network.state_dict().values()), None)  # a fitted model has buffers only
        device = held.device if held is not None else torch.device("cpu")
        try:
            with (
                torch.inference_mode(),
                torch.autocast(device.type, enabled=False),
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            ):
                output = self.network(self.vector[0].clone().to(device))  # it may write into what it is given
        except Exception as error:  # arguments from a folder can make a network fail in any way
            raise _refuse(folder, f"the network fails on the test vector ({_one_line(error)})") from error
        if not isinstance(output, Tensor):
            raise _refuse(folder, "the network answers the test vector with something that is not a tensor")
        return output.detach().to("cpu", torch.float32).clone()


def _load_network(card: Card, folder: Path, verify: bool) -> nn.Module:
    data, declared = read_tensors(folder, card, WEIGHTS, verify=verify)
    network = _build_network(card, {name: item.shape for name, item in declared.items()}, folder)
    state = network.state_dict()
    for name, item in declared.items():
        wanted = _CODES[card.method.storage] if state[name].is_floating_point() else None
        if wanted and item.dtype != wanted:
            raise refuse_folder(folder, f"'{WEIGHTS}' stores '{name}' as {item.dtype}, not {wanted} as the card says")
    network.load_state_dict(_tensors(data, folder, WEIGHTS))
    return network


def _build_network(card: Card, shapes: Mapping[str, tuple[int, ...]], folder: Path | None) -> nn.Module:
    """The network of the card, after a trial without memory showed that it has these ``shapes``."""
    from SynthGANLib import networks

    def construct() -> nn.Module:
        try:
            return networks.build(card.method.name, dict(copy.deepcopy(card.method.arguments)))
        except TooBigError:
            raise
        except ModelError as error:
            refusal = _refuse(folder, _one_line(error))
            refusal.next_step = error.next_step or refusal.next_step  # it may be a newer SynthGAN that is needed
            raise refusal from None
        except Exception as error:  # arguments from a folder can make a constructor fail in any way
            raise _refuse(
                folder, f"method.arguments do not fit the network '{card.method.name}' ({_one_line(error)})"
            ) from error

    try:
        with bounded_construction(MAX_ELEMENTS), torch.device("meta"):
            trial = construct()
    except TooBigError as error:
        raise _refuse(folder, f"method.arguments ask for a network that is too big ({error})") from None
    _compare_shapes({name: tuple(value.shape) for name, value in trial.state_dict().items()}, shapes, folder)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn for nothing; the caller's dice stay
        network = construct()
    return network.float().eval().requires_grad_(False)


def _check_appetite(network: nn.Module, given: Tensor, folder: Path) -> None:
    """Refuse a network whose answer to ``given`` would fill the memory; found out without taking any."""
    everything = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    ghosts = {name: value.to("meta") for name, value in everything.items()}
    try:
        with torch.inference_mode(), torch.device("meta"), LiveBytes(MAX_LIVE_BYTES):
            torch.func.functional_call(network, ghosts, (given.to("meta"),))
    except TooBigError as error:
        raise _refuse(folder, f"the network would take {error} of memory for its test input") from None
    except Exception:  # a few networks ask for values, which nothing has here; the true answer shows what is wrong
        return


def _compare_shapes(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], folder: Path | None
) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing:
        raise _refuse(folder, f"'{WEIGHTS}' lacks weights of the network ({len(missing)}, first '{missing[0]}')")
    if extra:
        raise _refuse(folder, f"'{WEIGHTS}' has weights unknown to the network ({len(extra)}, first '{extra[0]}')")
    for name, shape in wanted.items():
        if found[name] != shape:
            reason = f"'{WEIGHTS}' gives '{name}' the shape {list(found[name])}, the network needs {list(shape)}"
            raise _refuse(folder, reason)


def _load_vector(card: Card, folder: Path, verify: bool) -> tuple[Tensor, Tensor]:
    data, declared = read_tensors(folder, card, VECTOR, verify=verify)
    if set(declared) != {"input", "output"} or any(item.dtype != "F32" for item in declared.values()):
        raise refuse_folder(folder, f"'{VECTOR}' must hold exactly 'input' and 'output' in float32")
    _check_vector_shapes(card, declared["input"].shape, declared["output"].shape, folder)
    tensors = _tensors(data, folder, VECTOR)
    return tensors["input"], tensors["output"]


def _check_vector_shapes(
    card: Card, given: tuple[int, ...], answer: tuple[int, ...] | None, folder: Path | None
) -> None:
    """(B, C_in, z, y, x), for 2D (B, C_in * (2 * neighbours + 1), y, x); the answer on the same extents."""
    spatial = card.spatial
    channels = card.source.channels * (2 * spatial.neighbours + 1)
    if len(given) != spatial.dims + 2 or given[1] != channels or not 0 < int(np.prod(given)) <= MAX_VECTOR_ELEMENTS:
        wanted_axes = ", ".join("zyx"[-spatial.dims :])
        raise _refuse(folder, f"the test input has the shape {list(given)}, not (batch, {channels}, {wanted_axes})")
    if any(extent % spatial.multiple for extent in given[2:]):
        raise _refuse(folder, f"the test input {list(given)} is not divisible by {spatial.multiple}")
    wanted = (given[0], card.target.channels, *given[2:])
    if answer is not None and answer != wanted:
        raise _refuse(folder, f"the test output has the shape {list(answer)}, not {list(wanted)}")


def _tensors(data: bytes, folder: Path, name: str) -> dict[str, Tensor]:
    try:
        return tensors_from_bytes(data)
    except (SafetensorError, ValueError) as error:
        raise refuse_folder(folder, f"'{name}' cannot be read ({_one_line(error)})") from None


def _rounded(value: Tensor, card: Card, *, back: bool = True) -> Tensor:
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


def _check_normalisers(card: Card, folder: Path | None) -> None:
    from SynthGANLib.intensity import normaliser_from_json

    for side, content in card.normalisers.items():
        try:
            normaliser_from_json(dict(content))
        except Exception as error:  # whatever a normaliser dislikes about its arguments
            raise _refuse(folder, f"normalisers.{side} cannot be used ({_one_line(error)})") from error


def _check_classical(card: Card, folder: Path | None) -> None:
    from SynthGANLib.classical import METHODS, asked_for

    method = METHODS.get(card.method.name)
    if method is None:
        raise _refuse(folder, f"method.name '{card.method.name}' is not one of {', '.join(sorted(METHODS))}")
    try:
        extras = asked_for(card.method.name, tensors=None, warn=None)
        inspect.signature(method).bind(None, None, progress=None, cancel=None, **extras, **card.method.arguments)
    except TypeError as error:
        raise _refuse(folder, f"method.arguments do not fit '{card.method.name}' ({_one_line(error)})") from None


def _load_tensors(card: Card, folder: Path, verify: bool) -> dict[str, NDArray[Any]]:
    """The tensors of a classical method that works with some, checked by it; else none."""
    if not card.has_tensors:
        return {}
    data, declared = read_tensors(folder, card, WEIGHTS, verify=verify)
    arrays = arrays_of(folder, WEIGHTS, data, declared)
    _check_tensors(card, arrays, folder)
    return arrays


def _check_tensors(card: Card, tensors: Mapping[str, NDArray[Any]], folder: Path | None) -> None:
    from SynthGANLib.classical import TENSOR_CHECKS

    if not card.has_tensors:
        if tensors:
            raise _refuse(folder, f"the method '{card.method.name}' takes no tensors")
        return
    try:
        TENSOR_CHECKS[card.method.name](tensors)
    except ValueError as problem:
        raise _refuse(folder, f"'{WEIGHTS}' {problem}") from None


def _read_only_copy(value: NDArray[Any]) -> NDArray[Any]:
    copied = np.array(value, order="C")
    copied.setflags(write=False)
    if copied.dtype.kind == "f" and not np.isfinite(copied).all():
        raise ModelError("The tensors of the model hold NaN or infinity.", next_step="Repair them first.")
    return copied


def _refuse(folder: Path | None, reason: str) -> ModelError:
    if folder is not None:
        return refuse_folder(folder, reason)
    return ModelError(f"The model is refused: {reason}.", next_step="Correct the card, the network or the test input.")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
