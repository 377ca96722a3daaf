"""Statistical synthesis: HU regressed on what surrounds a voxel, by a Gaussian mixture or by a polynomial.

The mixture is that of Johansson, Karlsson and Nyholm (Med Phys 38:2708, 2011): the joint density of local MR features
and HU is a mixture of Gaussians, and the synthetic CT is the conditional mean. Both models are networks without trained
layers: what was fitted lies in buffers, so they are stored, checked, tiled and run like any other network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 3
"""Features per channel: the value, and the mean and standard deviation of the 3^n voxels around it."""


def local_features(x: Tensor) -> Tensor:
    """(B, C, [z,] y, x) -> (B, 3 C, [z,] y, x): values, local means, local standard deviations.

    The border is repeated outwards. The deviation is taken from the mean, voxel by voxel of the window: a difference
    of squares would leave rounding noise where the image is flat.
    """
    dims = x.ndim - 2
    padded = F.pad(x, [1] * (2 * dims), mode="replicate")
    windows = [
        padded[(slice(None), slice(None), *(slice(i, i + n) for i, n in zip(step, x.shape[2:], strict=True)))]
        for step in product(range(3), repeat=dims)
    ]
    mean = torch.zeros_like(x)
    for window in windows:
        mean += window
    mean /= len(windows)
    square = torch.zeros_like(x)
    for window in windows:
        square += (window - mean) ** 2
    return torch.cat([x, mean, (square / len(windows)).sqrt()], 1)


class LocalRegression(nn.Module, ABC):
    """A regression on z-scored local features; subclasses give the conditional mean and its standard deviation."""

    multiple = 1
    feature_mean: Tensor
    feature_std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        if dims not in (2, 3):
            raise ValueError(f"a regression has 2 or 3 dimensions, not {dims}")
        if channels < 1:
            raise ValueError(f"a regression needs at least one channel, not {channels}")
        self.dims, self.channels, self.inputs = dims, channels, FEATURES * channels
        self.register_buffer("feature_mean", torch.zeros(self.inputs))
        self.register_buffer("feature_std", torch.ones(self.inputs))
        self.register_buffer("target_mean", torch.zeros(1))
        self.register_buffer("target_std", torch.ones(1))

    @abstractmethod
    def scores(self, z: Tensor) -> Tensor:
        """Mean of the z-scored target, (N,), for z-scored features (F, N)."""

    @abstractmethod
    def spread(self, z: Tensor) -> Tensor:
        """Standard deviation of the z-scored target, (N,), for z-scored features (F, N)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, [z,] y, x) -> (B, 1, [z,] y, x): the conditional mean in the target's normalised units."""
        return self._on_grid(x, self.scores(self._standard(x)) * self.target_std + self.target_mean)

    def predictive_std(self, x: Tensor) -> Tensor:
        """(B, C, [z,] y, x) -> (B, 1, [z,] y, x): how far off the mean may be, in the same units."""
        return self._on_grid(x, self.spread(self._standard(x)) * self.target_std)

    def predict(self, features: Tensor) -> Tensor:
        """(N, F) raw features -> (N,) conditional means in the target's normalised units."""
        z = ((features.float() - self.feature_mean) / self.feature_std).T
        return self.scores(z) * self.target_std + self.target_mean

    def _standard(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (F, B * voxels), z-scored."""
        if x.ndim != self.dims + 2 or x.shape[1] != self.channels:
            axes = ", ".join("zyx"[-self.dims :])
            raise ValueError(f"the input must be (batch, {self.channels}, {axes}), not {tuple(x.shape)}")
        # (B, F, ...) -> (F, B, ...) -> (F, B * voxels)
        flat = local_features(x.float()).movedim(1, 0).reshape(self.inputs, -1)
        return (flat - self.feature_mean[:, None]) / self.feature_std[:, None]

    def _on_grid(self, x: Tensor, values: Tensor) -> Tensor:
        return values.reshape(x.shape[0], 1, *x.shape[2:])  # (B * voxels) -> (B, 1, ...)


class GaussianMixtureRegression(LocalRegression):
    """The conditional mean of a mixture of `components` Gaussians over features and target.

    Stored per component: log weight, feature mean, the inverse Cholesky factor of the features' covariance, and the
    linear regression of the target within it (mean, slope, variance). `fit_mixture` fills it in.
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor
    target_means: Tensor
    slopes: Tensor
    variances: Tensor

    def __init__(self, dims: int = 3, channels: int = 1, components: int = 20) -> None:
        super().__init__(dims, channels)
        if components < 1:
            raise ValueError(f"a mixture needs at least one component, not {components}")
        n = self.inputs
        self.components = components
        self.register_buffer("log_weights", torch.zeros(components))
        self.register_buffer("means", torch.zeros(components, n))
        self.register_buffer("factors", torch.eye(n).repeat(components, 1, 1))
        self.register_buffer("target_means", torch.zeros(components))
        self.register_buffer("slopes", torch.zeros(components, n))
        self.register_buffer("variances", torch.ones(components))

    def posterior(self, z: Tensor) -> Tensor:
        """(K, N) shares of the components for z-scored features (F, N); they sum to 1."""
        logits = []
        for k in range(self.components):
            white = self.factors[k] @ (z - self.means[k][:, None])
            scale = self.factors[k].diagonal().log().sum() + self.log_weights[k]
            logits.append(scale - 0.5 * white.square().sum(0))
        return torch.softmax(torch.stack(logits), 0)

    def scores(self, z: Tensor) -> Tensor:
        share = self.posterior(z)
        total = torch.zeros_like(z[0])
        for k in range(self.components):
            total += share[k] * self._line(z, k)
        return total

    def spread(self, z: Tensor) -> Tensor:
        share, mean = self.posterior(z), self.scores(z)
        variance = torch.zeros_like(mean)
        for k in range(self.components):
            variance += share[k] * (self.variances[k] + (self._line(z, k) - mean).square())
        return variance.sqrt()

    def _line(self, z: Tensor, k: int) -> Tensor:
        return self.target_means[k] + self.slopes[k] @ (z - self.means[k][:, None])


class RidgeRegression(LocalRegression):
    """A polynomial of `degree` 1 or 2 in the features, fitted by penalised least squares (`fit_ridge`).

    `factor` is the inverse Cholesky factor of the penalised normal matrix: it gives the leverage of a voxel, and with
    `residual` the predictive standard deviation.
    """

    coefficients: Tensor
    factor: Tensor
    residual: Tensor

    def __init__(self, dims: int = 3, channels: int = 1, degree: int = 2) -> None:
        super().__init__(dims, channels)
        if degree not in (1, 2):
            raise ValueError(f"the polynomial's degree must be 1 or 2, not {degree}")
        self.degree = degree
        terms = 1 + self.inputs + (self.inputs * (self.inputs + 1) // 2 if degree == 2 else 0)
        self.register_buffer("coefficients", torch.zeros(terms))
        self.register_buffer("factor", torch.zeros(terms, terms))
        self.register_buffer("residual", torch.ones(1))

    def scores(self, z: Tensor) -> Tensor:
        total = torch.zeros_like(z[0])
        for coefficient, term in zip(self.coefficients, polynomial(z, self.degree), strict=True):
            total += coefficient * term
        return total

    def spread(self, z: Tensor) -> Tensor:
        leverage = torch.zeros_like(z[0])
        for row in self.factor:
            part = torch.zeros_like(z[0])
            for entry, term in zip(row, polynomial(z, self.degree), strict=True):
                part += entry * term
            leverage += part.square()
        return self.residual * (1.0 + leverage).sqrt()


def polynomial(z: Tensor, degree: int) -> list[Tensor]:
    """The terms 1, z_i and, for degree 2, z_i z_j (i <= j) of (F, N), each (N,)."""
    terms = [torch.ones_like(z[0]), *z]
    if degree == 2:
        terms += [z[i] * z[j] for i in range(len(z)) for j in range(i, len(z))]
    return terms
