"""A model: card, network and test vector, loaded from a folder that can never run code.

Weights are safetensors, the network is built by name from :mod:`SynthGANLib.networks` with the card's plain
arguments, and nothing in the folder is imported, unpickled or evaluated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as arrays_to_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from SynthGANLib.errors import InputError, ModelError
from SynthGANLib.model.card import CARD, README, VECTOR, WEIGHTS, Card, FileSpec
from SynthGANLib.model.card_checks import check_file_name
from SynthGANLib.model.card_text import readme_of
from SynthGANLib.model.folder import arrays_of, check_folder, load_tensors, read_card, write_folder
from SynthGANLib.model.network import (
    build_network,
    check_live_bytes,
    check_vector_shapes,
    load_network,
    load_vector,
    one_line,
    refuse,
    rounded,
)


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
        always; ``verify=False`` leaves out the SHA-256 of weights and vector only, for a folder whose hashes
        were checked before. Pages and pictures are compared with theirs by :meth:`verify`.

        Raises:
            ModelError: one sentence, for a folder that is corrupt, hostile or of another format version.
            InputError: the device is not there.
        """
        folder = Path(path)
        card = read_card(folder)
        if card.method.kind == "classical":
            _check_classical(card, folder)
            return cls(card, None, path=folder, tensors=_load_tensors(card, folder, verify))
        _check_normalisers(card, folder)
        network = load_network(card, folder, verify)
        vector = load_vector(card, folder, verify)
        try:
            network = network.to(device)
        except (RuntimeError, AssertionError) as error:  # what torch raises for a device that is not there
            raise InputError(
                f"The device '{device}' cannot be used ({one_line(error)}).", next_step="Choose cpu."
            ) from error
        model = cls(card, network, path=folder, vector=vector)
        check_live_bytes(network, vector[0], folder)
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
        stored = {name: rounded(value, card) for name, value in network.state_dict().items()}
        fresh = build_network(card, {name: tuple(value.shape) for name, value in stored.items()}, None)
        fresh.load_state_dict(stored)
        given = vector_input.detach().to("cpu", torch.float32).clone()
        check_vector_shapes(card, tuple(given.shape), None, None)
        model = cls(card, fresh, vector=(given, given))
        output = model._predict_vector(None)
        check_vector_shapes(card, tuple(given.shape), tuple(output.shape), None)
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
        contents, card = _contents(self, attachments or {})
        write_folder(contents, Path(path), force=force, check=Model.load)
        self.card, self.path = card, Path(path)

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
        return {name: rounded(value, self.card, back=False) for name, value in self.network.state_dict().items()}

    def _check_vector(self, folder: Path | None) -> None:
        assert self.vector is not None
        assert self.card.vector is not None
        expected, tolerance = self.vector[1], self.card.vector.tolerance
        found = self._predict_vector(folder)
        if found.shape != expected.shape:
            raise refuse(folder, f"the network answers the test vector with the shape {tuple(found.shape)}")
        difference = float((found - expected).abs().max())
        if not difference <= tolerance:  # NaN is refused as well
            reason = f"the network answers the test vector {difference:.3g} off, and {tolerance:g} is allowed"
            raise refuse(folder, reason)

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
            raise refuse(folder, f"the network fails on the test vector ({one_line(error)})") from error
        if not isinstance(output, Tensor):
            raise refuse(folder, "the network answers the test vector with something that is not a tensor")
        return output.detach().to("cpu", torch.float32).clone()


def _check_normalisers(card: Card, folder: Path | None) -> None:
    from SynthGANLib.image.intensity import normaliser_from_json

    for side, content in card.normalisers.items():
        try:
            normaliser_from_json(dict(content))
        except Exception as error:  # whatever a normaliser dislikes about its arguments
            raise refuse(folder, f"normalisers.{side} cannot be used ({one_line(error)})") from error


def _check_classical(card: Card, folder: Path | None) -> None:
    from SynthGANLib.classical.registry import METHODS, accepted_arguments

    method = METHODS.get(card.method.name)
    if method is None:
        raise refuse(folder, f"method.name '{card.method.name}' is not one of {', '.join(sorted(METHODS))}")
    try:
        extras = accepted_arguments(card.method.name, tensors=None, warn=None)
        inspect.signature(method).bind(None, None, progress=None, cancel=None, **extras, **card.method.arguments)
    except TypeError as error:
        raise refuse(folder, f"method.arguments do not fit '{card.method.name}' ({one_line(error)})") from None


def _load_tensors(card: Card, folder: Path, verify: bool) -> dict[str, NDArray[Any]]:
    """The tensors of a classical method that works with some, checked by it; else none."""
    if not card.has_tensors:
        return {}
    arrays = arrays_of(folder, WEIGHTS, load_tensors(folder, card, WEIGHTS, verify=verify))
    _check_tensors(card, arrays, folder)
    return arrays


def _check_tensors(card: Card, tensors: Mapping[str, NDArray[Any]], folder: Path | None) -> None:
    from SynthGANLib.classical.registry import TENSOR_CHECKS

    if not card.has_tensors:
        if tensors:
            raise refuse(folder, f"the method '{card.method.name}' takes no tensors")
        return
    try:
        TENSOR_CHECKS[card.method.name](tensors)
    except ValueError as problem:
        raise refuse(folder, f"'{WEIGHTS}' {problem}") from None


def _read_only_copy(value: NDArray[Any]) -> NDArray[Any]:
    copied = np.array(value, order="C")
    copied.setflags(write=False)
    if copied.dtype.kind == "f" and not np.isfinite(copied).all():
        raise ModelError("The tensors of the model hold NaN or infinity.", next_step="Repair them first.")
    return copied


def _contents(model: Model, attachments: Mapping[str, Path]) -> tuple[dict[str, bytes], Card]:
    """Every file of the folder of ``model`` as bytes, and its card with the files listed."""
    contents = dict.fromkeys(_kept(model), b"")
    for name, source in {
        **{name: model.path / name for name in contents if model.path},
        **attachments,
    }.items():
        check_file_name(name, "attachments")
        if name.lower() in {CARD.lower(), README.lower(), WEIGHTS, VECTOR}:
            raise ModelError(f"The attachment '{name}' has the name of a file of the format.", next_step="Rename it.")
        contents[name] = source.read_bytes()
    if model.network is not None and model.vector is not None:
        contents[WEIGHTS] = tensors_to_bytes(model.stored_weights())
        contents[VECTOR] = tensors_to_bytes({"input": model.vector[0], "output": model.vector[1]})
    if model.tensors:
        contents[WEIGHTS] = arrays_to_bytes(dict(model.tensors))
    pictures = sorted(name for name in contents if name.endswith((".png", ".jpg")))
    weights = len(contents.get(WEIGHTS, b""))
    contents[README] = readme_of(model.card, pictures=pictures, weights=weights).encode()
    files = {name: FileSpec(hashlib.sha256(data).hexdigest(), len(data)) for name, data in sorted(contents.items())}
    card = dataclasses.replace(model.card, files=files)
    return {**contents, CARD: card.dumps().encode()}, card


def _kept(model: Model) -> list[str]:
    """Attachments of the folder the model came from; they are saved along."""
    if model.path is None:
        return []
    return [name for name in model.card.files if name not in (WEIGHTS, VECTOR, README)]
