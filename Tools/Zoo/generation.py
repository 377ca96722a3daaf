"""How far images from noise are from real ones: a Frechet distance of simple features, variety, and what is copied.

The features are means and deviations over a grid of blocks: they see where what is bright and how rough it is, no
more. Networks trained on photographs would see more, but none is part of the project.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SynthGANLib.data.cases import Loaded
from SynthGANLib.evaluation.similarity import ssim
from SynthGANLib.image.grid import Array
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.model.model import Model
from Tools.Zoo.baselines import noise_of_look

SAMPLES = 256
PAIRS = 200
BLOCKS = 4
"""Blocks along each axis."""

NUMBERS = ("frechet", "alike", "nearest")


def images_of(cases: Sequence[Loaded], limits: tuple[float, float]) -> Array:
    """All slices of all targets as (n, y, x, c) float32 from 0 to 1."""
    stacks = [case.target.array for case in cases if case.target is not None]
    every = np.concatenate([stack if stack.ndim == 4 else stack[..., np.newaxis] for stack in stacks])
    return scaled(every, limits)


def scaled(images: Array, limits: tuple[float, float]) -> Array:
    """Values between the limits as 0 to 1, float32; clipped."""
    low, high = limits
    result: Array = ((np.clip(images, low, high) - low) / (high - low)).astype(np.float32)
    return result


def sampled(model: Model, count: int, seed: int, device: str) -> Array:
    """`count` images (n, y, x, c) of a model that makes them from noise, in its target's unit."""
    rows, columns = model.card.spatial.tile_max[1:]
    noise = np.random.default_rng(seed).normal(size=(count, rows, columns)).astype(np.float32)
    made = synthesize(Volume(noise, np.eye(4)), model, device=device).array
    return made if made.ndim == 4 else made[..., np.newaxis]


def features(images: Array) -> Array:
    """(n, y, x, c) -> (n, 2 * BLOCKS ** 2 * c) float64: mean and deviation of every block of every channel."""
    n, rows, columns, channels = images.shape
    height, width = rows // BLOCKS, columns // BLOCKS
    cut = images[:, : height * BLOCKS, : width * BLOCKS].astype(np.float64)
    blocks = cut.reshape(n, BLOCKS, height, BLOCKS, width, channels)
    return np.concatenate([blocks.mean(axis=(2, 4)).reshape(n, -1), blocks.std(axis=(2, 4)).reshape(n, -1)], axis=1)


def frechet(a: Array, b: Array) -> float:
    """Frechet distance of two sets of features (n, f), each taken for a normal distribution: 0 for equal ones."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = _root(first)
    # tr (C1 C2)^(1/2) by way of a symmetric matrix with the same eigenvalues
    mixed = _root(root @ second @ root)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first + second - 2.0 * mixed))


def _root(matrix: Array) -> Array:
    """The symmetric square root of a symmetric matrix without negative eigenvalues but for rounding."""
    values, vectors = np.linalg.eigh(matrix)
    result: Array = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return result


def alike(images: Array, seed: int) -> float:
    """Mean SSIM of pairs of different images: near 1 where all are the same."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(PAIRS):
        first, second = rng.choice(len(images), 2, replace=False)
        found.append(ssim(images[first][np.newaxis, ..., 0], images[second][np.newaxis, ..., 0], 1.0))
    return float(np.mean(found))


def nearest(images: Array, training: Array) -> float:
    """Mean over the images of the root mean square difference to the most similar training image; 0 for copies."""
    flat, known = (x.reshape(len(x), -1).astype(np.float64) for x in (images, training))
    squares = np.square(flat).sum(1)[:, None] + np.square(known).sum(1)[None] - 2.0 * flat @ known.T
    return float(np.sqrt(np.maximum(squares.min(axis=1), 0.0) / flat.shape[1]).mean())


def numbers(images: Array, held: Array, training: Array, seed: int) -> dict[str, float]:
    """The three numbers of a set of images (n, y, x, c) from 0 to 1."""
    return {
        "frechet": frechet(features(images), features(held)),
        "alike": alike(images, seed),
        "nearest": nearest(images, training),
    }


def references(held: Array, training: Array, seed: int) -> dict[str, dict[str, float]]:
    """The same numbers of independent pixels ("noise") and of real images ("real": training against held-out ones).

    Of real images "nearest" is that of the held-out ones, which nothing was copied into.
    """
    noise = np.clip(noise_of_look(training, SAMPLES, seed), 0.0, 1.0)
    real = numbers(training, held, training, seed) | {"nearest": nearest(held, training)}
    return {"noise": numbers(noise, held, training, seed), "real": real}
