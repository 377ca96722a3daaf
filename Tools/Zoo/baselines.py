"""What every method is held against: the source itself, a constant, an L1 U-Net; noise of the right look for images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from SynthGANLib.image.grid import Array
from SynthGANLib.recipes.base import Recipe
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.regimes.supervised import Supervised, SupervisedConfig
from Tools.Zoo.compact import CUBE, DEEP, PLANE, STRIDED, SURE, Entry, G
from Tools.Zoo.tasks import TASKS, Task

STEPS = {2: 800, 3: 400}
"""Steps of the U-Net by dimensions: what takes about as long as a recipe's budget."""

_JUDGED = {2: "pix2pix", 3: "ucgan"}
_SIZE = {2: {**PLANE, **STRIDED}, 3: {**CUBE, **DEEP}}


def unet_recipe(dims: int) -> Recipe:
    """The generator of pix2pix or, in three dimensions, UcGAN, trained by the mean absolute error alone."""
    judged = RECIPES[_JUDGED[dims]]
    networks = {"generator": judged.setup.networks["generator"]}
    tiny = judged.tiny_settings.items()
    return replace(
        judged,
        name=f"unet-l1-{dims}d",
        review="L1 U-Net",
        table="",
        certainty=1.0,
        aliases=(),
        setup=replace(judged.setup, networks=networks, regime=Supervised, config=SupervisedConfig()),
        tiny_settings={name: value for name, value in tiny if not name.startswith("networks.discriminator.")},
    )


def unet_entry(task: Task, dims: int) -> Entry:
    """The U-Net on the pairs of a task."""
    reference = TASKS[task.reference]
    colour = reference.target_side["unit"] == "RGB"
    inputs, outputs = len(reference.source), 3 if colour else len(reference.target)
    channels = {"channels": f"{inputs},{outputs}", G + "in_channels": str(inputs), G + "out_channels": str(outputs)}
    # Photographs are shown whole: where in the eye a patch lies is not to be seen in the patch.
    whole = {"patch": "96,96"} if colour and not reference.name.endswith("64") else {}
    return Entry(f"unet-l1-{dims}d", reference.name, STEPS[dims], {**_SIZE[dims], **SURE, **channels, **whole})


def noise_of_look(training: Array, count: int, seed: int) -> Array:
    """`count` images of independent normal pixels, with the mean and deviation each has over the training images."""
    rng = np.random.default_rng(seed)
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    return (mean + deviation * rng.standard_normal((count, *mean.shape))).astype(np.float32)
