"""Fitting the regressions: expectation maximisation of a Gaussian mixture, and penalised least squares.

Everything is computed in float64 and stored in float32. The mixture's covariances are those of the data plus `ridge`
times the data's mean variance: exactly the maximum of a likelihood in which every component's density is multiplied
by exp(-ridge/2 trace(inverse covariance)), so with that in the E-step no iteration lowers it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from SynthGANLib.errors import CancelledError
from SynthGANLib.networks.regression import FEATURES, GaussianMixtureRegression, RidgeRegression, polynomial

RIDGE = 1e-3
LEAST_LOG_WEIGHT = -80.0  # an empty component: no share anywhere, and still a number that can be stored


@dataclass(frozen=True, eq=False)
class MixtureFit:
    """The fitted network; the penalised log-likelihood per sample after every iteration; whether it settled."""

    network: GaussianMixtureRegression
    log_likelihood: tuple[float, ...]
    converged: bool


@dataclass(frozen=True, eq=False)
class Mixture:
    """weights (K,), means (K, D) and covariances (K, D, D) of joint, z-scored samples (N, D), float64."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def log_densities(self, samples: Tensor, ridge: float) -> Tensor:
        """(K, N): log of weight times penalised density of every component."""
        rows = []
        for weight, mean, covariance in zip(self.weights, self.means, self.covariances, strict=True):
            factor = inverse_factor(covariance)
            white = (samples - mean) @ factor.T
            scale = weight.clamp_min(math.exp(LEAST_LOG_WEIGHT)).log() + factor.diagonal().log().sum()
            scale -= 0.5 * (mean.numel() * math.log(2 * math.pi) + ridge * float(factor.square().sum()))
            rows.append(scale - 0.5 * white.square().sum(1))
        return torch.stack(rows)


def inverse_factor(matrix: Tensor) -> Tensor:
    """W with W' W = inverse of a positive definite `matrix`: |W v|^2 is the Mahalanobis distance of v."""
    lower = torch.linalg.cholesky(matrix)
    found: Tensor = torch.linalg.solve_triangular(lower, torch.eye(len(matrix), dtype=matrix.dtype), upper=False)
    return found


def fit_mixture(
    features: Tensor,
    target: Tensor,
    components: int = 20,
    *,
    seed: int = 0,
    dims: int = 3,
    ridge: float = RIDGE,
    tolerance: float = 1e-4,
    iterations: int = 200,
    progress: Callable[[float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> MixtureFit:
    """Fit by EM: raw features (N, F) and target (N,) in its normalised units, F = 3 times the channels.

    It ends when the log-likelihood changes by less than `tolerance` of itself. ValueError for samples that are not
    finite, too few or of another shape; CancelledError when `cancel()` answers true between two iterations.
    """
    x, y, scaling = _standardised(features, target)
    if len(x) <= components:
        raise ValueError(f"{components} components need more samples than the {len(x)} given")
    samples = torch.cat([x, y[:, None]], 1)
    added = ridge * float(samples.var(0, correction=0).mean())
    shares = _hard_shares(samples, components, torch.Generator().manual_seed(seed))
    mixture = _maximise(samples, shares, added, None)
    trace: list[float] = []
    converged = False
    for iteration in range(iterations):
        if cancel is not None and cancel():
            raise CancelledError("The fit was cancelled; nothing was written.", next_step="Start it again when wanted.")
        logs = mixture.log_densities(samples, added)
        total = torch.logsumexp(logs, 0)
        trace.append(float(total.mean()))
        if progress is not None:
            progress((iteration + 1) / iterations)
        converged = len(trace) > 1 and abs(trace[-1] - trace[-2]) < tolerance * abs(trace[-1])
        if converged or iteration + 1 == iterations:
            break  # before another M-step, so that the last entry is what the network holds
        mixture = _maximise(samples, (logs - total).exp(), added, mixture)
    network = GaussianMixtureRegression(dims, x.shape[1] // FEATURES, components)
    network.load_state_dict({**scaling, **_conditional(mixture)})
    return MixtureFit(network.eval(), tuple(trace), converged)


def fit_ridge(
    features: Tensor, target: Tensor, degree: int = 2, *, dims: int = 3, ridge: float = RIDGE
) -> RidgeRegression:
    """Least squares with the penalty `ridge` per sample on all but the constant term; arguments as in `fit_mixture`.

    ValueError as there.
    """
    x, y, scaling = _standardised(features, target)
    network = RidgeRegression(dims, x.shape[1] // FEATURES, degree)
    design = torch.stack(polynomial(x.T, degree), 1)  # (N, terms)
    if len(design) <= design.shape[1]:
        raise ValueError(f"{design.shape[1]} terms need more samples than the {len(design)} given")
    penalty = torch.full((design.shape[1],), ridge * len(design), dtype=torch.float64)
    penalty[0] = 0.0
    factor = inverse_factor(design.T @ design + torch.diag(penalty))
    coefficients = factor.T @ (factor @ (design.T @ y))
    residual = (y - design @ coefficients).square().sum() / (len(design) - design.shape[1])
    fitted = {"coefficients": coefficients, "factor": factor, "residual": residual.sqrt().reshape(1)}
    network.load_state_dict({**scaling, **{name: value.float() for name, value in fitted.items()}})
    return network.eval()


def _standardised(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """z-scored float64 features and target, and the scaling as buffers of the network."""
    if features.ndim != 2 or features.shape[1] == 0 or features.shape[1] % FEATURES or len(features) < 2:
        raise ValueError(f"the features must be (samples, {FEATURES} per channel), not {tuple(features.shape)}")
    if target.shape != features.shape[:1]:
        raise ValueError(f"the target must be ({len(features)},), not {tuple(target.shape)}")
    x, y = features.detach().to("cpu", torch.float64), target.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ValueError("the samples hold NaN or infinity")
    scaling: dict[str, Tensor] = {}
    parts = []
    for name, values in (("feature", x), ("target", y[:, None])):
        # rounded first: the fit must see the very numbers that the network will scale with
        mean = values.mean(0).float()
        std = values.std(0, correction=0).float()
        std = torch.where(std > 1e-6 * mean.abs().clamp_min(1e-6), std, torch.ones_like(std))  # constant: left at zero
        scaling |= {f"{name}_mean": mean, f"{name}_std": std}
        parts.append((values - mean) / std)
    return parts[0], parts[1][:, 0], scaling


def _hard_shares(samples: Tensor, components: int, rng: Generator, rounds: int = 25) -> Tensor:
    """(K, N) of zeros and ones: k-means from k-means++ seeds (Arthur and Vassilvitskii 2007), on 20,000 samples."""
    some = samples[torch.randperm(len(samples), generator=rng)[:20_000]]
    centres = some[:1]
    for _ in range(components - 1):
        nearest = torch.cdist(some, centres).square().amin(1) + 1e-12
        centres = torch.cat([centres, some[torch.multinomial(nearest, 1, generator=rng)]])
    for _ in range(rounds):
        owner = torch.cdist(some, centres).argmin(1)
        moved = centres.clone()
        for k in range(components):
            if bool((owner == k).any()):  # a centre without samples stays where it is
                moved[k] = some[owner == k].mean(0)
        if torch.equal(moved, centres):
            break
        centres = moved
    owner = torch.cdist(samples, centres).argmin(1)
    return torch.nn.functional.one_hot(owner, components).T.double()


def _maximise(samples: Tensor, shares: Tensor, added: float, before: Mixture | None) -> Mixture:
    """The M-step: weights, means and covariances plus `added` on the diagonal, given (K, N) shares."""
    diagonal = added * torch.eye(samples.shape[1], dtype=samples.dtype)
    means, covariances = [], []
    for k, share in enumerate(shares):
        count = share.sum()
        if float(count) < 1e-6:  # nobody's: it keeps its place and dies out by its weight
            means.append(samples.mean(0) if before is None else before.means[k])
            covariances.append(
                torch.eye(len(diagonal), dtype=samples.dtype) if before is None else before.covariances[k]
            )
            continue
        mean = share @ samples / count
        centred = samples - mean
        means.append(mean)
        covariances.append((centred * share[:, None]).T @ centred / count + diagonal)
    return Mixture(shares.sum(1) / shares.shape[1], torch.stack(means), torch.stack(covariances))


def _conditional(mixture: Mixture) -> dict[str, Tensor]:
    """The buffers of the network: the target's regression on the features within every component."""
    factors, slopes, variances = [], [], []
    for covariance in mixture.covariances:
        factor = inverse_factor(covariance[:-1, :-1])
        slope = factor.T @ (factor @ covariance[:-1, -1])
        factors.append(factor)
        slopes.append(slope)
        variances.append(covariance[-1, -1] - slope @ covariance[:-1, -1])
    buffers = {
        "log_weights": mixture.weights.clamp_min(math.exp(LEAST_LOG_WEIGHT)).log(),
        "means": mixture.means[:, :-1],
        "factors": torch.stack(factors),
        "target_means": mixture.means[:, -1],
        "slopes": torch.stack(slopes),
        "variances": torch.stack(variances).clamp_min(0.0),
    }
    return {name: value.float().contiguous() for name, value in buffers.items()}
