"""What a recipe is: a system of the review as networks, a regime and the settings it is trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from torch import nn

from SynthGANLib.recipes.overrides import replace_values
from SynthGANLib.regimes.base import Regime

Data = Literal["paired", "unpaired", "mixed", "unconditional"]


@dataclass(frozen=True)
class Net:
    """A network by its name in `SynthGANLib.networks.registry.NETWORKS` and its constructor's arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Construct it; its initial weights come from torch's global generator, which the caller seeds."""
        from SynthGANLib.networks.registry import build

        return build(self.name, self.arguments)


def net(name: str, /, **arguments: Any) -> Net:
    """A `Net` written as a call: `net("StridedUNet", downs=8, base=64)`."""
    return Net(name, arguments)


def cascade(*stages: Net, inputs: str) -> Net:
    """The stages in series; `inputs` is that of `SynthGANLib.networks.cascade.Cascade`."""
    plain = [{"name": stage.name, "arguments": dict(stage.arguments)} for stage in stages]
    return Net("Cascade", {"stages": plain, "inputs": inputs})


@dataclass(frozen=True)
class Optimiser:
    """kind "adam", "adamw", "adamax", "rmsprop" or "sgd", with its learning rate and betas (momentum for sgd)."""

    kind: str = "adam"
    rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 0.0


@dataclass(frozen=True)
class CutCosine:
    """Half a cosine written for `length` steps, warm-up included, and ended early.

    From step `cool_from` on the rate falls on a straight line to 0, within `cool_steps`.
    """

    length: int
    cool_from: int
    cool_steps: int


@dataclass(frozen=True)
class Setup:
    """Everything that a training run of a recipe is made of, at one size.

    Attributes:
        networks: attribute name in the regime -> network.
        regime: (networks built, config) -> Regime.
        config: the regime's dataclass.
        dims: 2 or 3. channels: (source, target).
        patch: extents of a training patch (z, y, x) or (y, x).
        batch, steps: patches a step, of all processes together; steps of the whole run.
        optimisers: group -> Optimiser; "*" for all others.
        schedule: "constant", "linear" (constant, then linear to 0 from `decay` on), "cosine", "halving" or a
            `CutCosine`.
        decay: fraction of the run where the linear fall begins, or after which the rate is halved each time.
        initialise: "dcgan" (N(0, 0.02)), "kaiming" or "default" (torch's).
        ema: decay of the averaged weights that are validated and exported; 0 for none.
        clip: gradient norm limit; 0 for none.
        warm_up: first steps in which the rates rise to their value; the schedule runs over the rest.
        normalisers: side ("source", "target") -> fields of a normaliser of `SynthGANLib.image.intensity`, or
            "auto" to take the default of the data's modality, or "fitted" for one window over the training set.
        corrupt: how sources are made from targets where the data list has none: "kind" and arguments of a degradation
            of `SynthGANLib.data.degradations`; empty where sources must be given.
    """

    networks: Mapping[str, Net]
    regime: Callable[[Mapping[str, nn.Module], Any], Regime]
    config: Any
    dims: int
    patch: tuple[int, ...]
    channels: tuple[int, int] = (1, 1)
    batch: int = 1
    steps: int = 100_000
    optimisers: Mapping[str, Optimiser] = field(default_factory=lambda: {"*": Optimiser()})
    schedule: str | CutCosine = "linear"
    decay: float = 0.5
    initialise: str = "dcgan"
    ema: float = 0.0
    clip: float = 0.0
    warm_up: int = 0
    normalisers: Mapping[str, Any] = field(default_factory=lambda: {"source": "auto", "target": "auto"})
    corrupt: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Regime:
        """The regime with freshly built networks."""
        return self.over({name: net.build() for name, net in self.networks.items()})

    def over(self, networks: Mapping[str, nn.Module]) -> Regime:
        """The regime over `networks`; a config that holds the run's length is given this setup's."""
        config = self.config
        if is_dataclass(config) and any(item.name == "steps" for item in fields(config)):
            config = replace(config, steps=self.steps)  # type: ignore[type-var]  # an instance, not a class
        return self.regime(networks, config)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A system of the review.

    Attributes:
        name: what the command line calls it, e.g. "pix2pix". review: its name there. table: e.g. "Table III, MRI-CT".
        citation: first author, title or venue, year. certainty: that the short name means this paper, 0 to 1.
        directions: e.g. ("MR-CT",). data: the kind of data list it needs.
        aliases: what else it is called, which a search finds.
        setup: networks, regime and settings with the paper's values.
        tiny_settings: dotted name -> value, the changes to `setup` that make it train in seconds on a CPU. The names
            are those of `--set`; a value is of the type that stands there, such as `(32, 32)` for "patch".
    """

    name: str
    review: str
    table: str
    citation: str
    certainty: float
    directions: tuple[str, ...]
    data: Data
    aliases: tuple[str, ...] = ()
    setup: Setup
    tiny_settings: Mapping[str, Any]

    def canonical(self) -> Setup:
        """The paper's size."""
        return self.setup

    def tiny(self) -> Setup:
        """A size that trains in seconds on a CPU.

        Raises:
            InputError: a name in `tiny_settings` leads nowhere, or the setup's config refuses a value.
        """
        return replace_values(self.setup, self.tiny_settings)

    @property
    def dims(self) -> int:
        """2 (slices) or 3 (volumes)."""
        return self.setup.dims

    @property
    def degradation(self) -> Mapping[str, Any]:
        """How it makes its sources from targets where the data list has none; empty if it cannot."""
        return self.setup.corrupt

    @property
    def regime(self) -> str:
        """The name of its regime, e.g. "PairedAdversarial"."""
        return getattr(self.setup.regime, "__name__", "")


@dataclass(frozen=True, kw_only=True)
class FittedRecipe:
    """A system of the review that is fitted to pairs, not trained step by step.

    Attributes: as in `Recipe`; `method` is its name in `SynthGANLib.training.fit_classical`, `options` what it is
    fitted with there.
    """

    name: str
    review: str
    table: str
    citation: str
    certainty: float
    directions: tuple[str, ...]
    method: str
    options: Mapping[str, Any]
    data: Data = "paired"
    dims: int = 3
    regime: str = "fit"
    aliases: tuple[str, ...] = ()
