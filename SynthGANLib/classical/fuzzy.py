"""Fuzzy c-means clustering (Bezdek, "Pattern Recognition with Fuzzy Objective Function Algorithms", 1981)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """centres (K, F), sorted by the first feature; fuzziness m; objective after every iteration."""

    centres: FloatArray
    fuzziness: float
    objective: tuple[float, ...]

    def memberships(self, features: FloatArray) -> NDArray[np.float32]:
        """(K, N) memberships of features (N, F): non-negative, summing to 1 over K."""
        return _memberships(_distances(features, self.centres), self.fuzziness).astype(np.float32)


def _distances(features: FloatArray, centres: FloatArray) -> FloatArray:
    """Squared distances (K, N), never quite zero so that a point on a centre belongs to it wholly."""
    square = ((features[None] - centres[:, None]) ** 2).sum(-1)
    return np.asarray(np.maximum(square, 1e-20))


def _memberships(squared: FloatArray, fuzziness: float) -> FloatArray:
    closeness = (squared / squared.min(0)) ** (-1.0 / (fuzziness - 1.0))
    return np.asarray(closeness / closeness.sum(0))


def _start(features: FloatArray, weights: FloatArray, clusters: int, rng: np.random.Generator) -> FloatArray:
    """k-means++ seeding (Arthur and Vassilvitskii 2007)."""
    centres = [features[rng.choice(len(features), p=weights / weights.sum())]]
    for _ in range(clusters - 1):
        nearest = _distances(features, np.array(centres)).min(0) * weights
        centres.append(features[rng.choice(len(features), p=nearest / nearest.sum())])
    return np.array(centres)


def fuzzy_c_means(
    features: FloatArray,
    clusters: int,
    *,
    weights: FloatArray | None = None,
    fuzziness: float = 2.0,
    tolerance: float = 1e-4,
    iterations: int = 100,
    seed: int = 0,
    centres: FloatArray | None = None,
) -> Clusters:
    """Cluster features (N, F), each counted `weights` (N,) times. ValueError when N < clusters or fuzziness <= 1."""
    features = np.asarray(features, np.float64).reshape(len(features), -1)
    if len(features) < clusters:
        raise ValueError(f"{clusters} clusters need at least as many samples, not {len(features)}")
    if fuzziness <= 1.0:
        raise ValueError(f"the fuzziness must exceed 1, not {fuzziness}")
    counts = np.ones(len(features)) if weights is None else np.asarray(weights, np.float64)
    if centres is None:
        centres = _start(features, counts, clusters, np.random.default_rng(seed))
    objective: list[float] = []
    for _ in range(iterations):
        squared = _distances(features, centres)
        powered = _memberships(squared, fuzziness) ** fuzziness * counts
        objective.append(float((powered * squared).sum()))
        moved = (powered @ features) / np.maximum(powered.sum(1, keepdims=True), 1e-300)
        shift = float(np.abs(moved - centres).max())
        centres = moved
        if shift < tolerance * max(float(np.ptp(features)), 1e-12):
            break
    order = np.argsort(centres[:, 0], kind="stable")
    return Clusters(centres[order], fuzziness, tuple(objective))
