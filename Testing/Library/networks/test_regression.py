"""Statistical regression against closed forms, and the whole way from a fit to a synthetic CT of the phantom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_folders import edit_json
from torch.nn import functional as F

from SynthGANLib.errors import CancelledError, InputError, ModelError, UnfitInputError
from SynthGANLib.image.volume import Volume
from SynthGANLib.inference.pipeline import synthesize
from SynthGANLib.model.model import Model
from SynthGANLib.networks import registry
from SynthGANLib.networks.regression import GaussianMixtureRegression, RidgeRegression, local_features, polynomial
from SynthGANLib.phantom.anatomy import body_of
from SynthGANLib.phantom.draw import draw_head
from SynthGANLib.phantom.simulate import simulate_ct, simulate_mr
from SynthGANLib.training.fit_classical import Case, fit
from SynthGANLib.training.regression_fit import fit_mixture, fit_ridge

SPACING = 5.0


def two_gaussians(count: int, seed: int = 0):
    """Samples (N, 4) of a joint mixture of features and target, and its parameters."""
    rng = np.random.default_rng(seed)
    weights = np.array([0.35, 0.65])
    means = np.array([[-2.0, 1.0, 0.5, 3.0], [2.5, -1.0, -0.5, -4.0]])
    roots = rng.normal(0, 0.5, (2, 4, 4)) + np.eye(4)
    covariances = roots @ roots.transpose(0, 2, 1)
    owner = rng.random(count) < weights[1]
    drawn = means[owner.astype(int)] + np.einsum("nij,nj->ni", roots[owner.astype(int)], rng.normal(size=(count, 4)))
    return drawn, (weights, means, covariances)


def conditional_mean(x: np.ndarray, weights, means, covariances) -> np.ndarray:
    """The analytic E[y | x] of a joint Gaussian mixture, y last."""
    densities, lines = [], []
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        inner = covariance[:-1, :-1]
        off = x - mean[:-1]
        solved = np.linalg.solve(inner, off.T).T
        densities.append(weight * np.exp(-0.5 * (off * solved).sum(1)) / np.sqrt(np.linalg.det(inner)))
        lines.append(mean[-1] + solved @ covariance[:-1, -1])
    share = np.array(densities) / np.sum(densities, axis=0)
    return (share * np.array(lines)).sum(0)


def tensors(samples: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(samples[:, :-1]).float(), torch.from_numpy(samples[:, -1]).float()


def close(one: torch.Tensor, two: torch.Tensor, atol: float = 1e-5, rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(one.numpy(), two.numpy(), atol=atol, rtol=rtol)


# features


@pytest.mark.parametrize("shape", [(2, 2, 3, 4, 2), (1, 1, 1, 3, 1), (2, 3, 4, 3), (1, 1, 1, 1)])
def test_features_are_value_mean_and_deviation_of_the_neighbourhood(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    found = local_features(x)
    assert found.shape == (shape[0], 3 * shape[1], *shape[2:])
    padded = F.pad(x, [1] * (2 * (len(shape) - 2)), mode="replicate")
    for index in np.ndindex(*shape[2:]):
        window = padded[(slice(None), slice(None), *(slice(i, i + 3) for i in index))].flatten(2)
        expected = torch.cat([x[(..., *index)], window.mean(2), window.std(2, correction=0)], 1)
        np.testing.assert_allclose(found[(..., *index)].numpy(), expected.numpy(), atol=1e-12)


def test_flat_image_has_no_deviation_however_bright() -> None:
    assert float(local_features(torch.full((1, 1, 4, 4, 4), 3000.3))[:, 2].max()) < 1e-3


# the mixture


@pytest.mark.parametrize("components", [1, 2, 5])
def test_likelihood_never_falls(components: int) -> None:
    samples, _ = two_gaussians(3000, seed=1)
    samples[:, :-1] += np.random.default_rng(0).exponential(0.5, (3000, 3))  # not a mixture of that many
    trace = fit_mixture(*tensors(samples), components, seed=3, tolerance=0.0, iterations=60).log_likelihood
    assert len(trace) == 60
    assert min(np.diff(trace)) >= -1e-6
    assert components == 1 or trace[-1] > trace[0] + 1e-3


def test_known_mixture_gives_its_analytic_conditional_mean() -> None:
    samples, parameters = two_gaussians(40_000)
    fitted = fit_mixture(*tensors(samples), 2, seed=0, tolerance=1e-7)
    assert fitted.converged
    fresh, _ = two_gaussians(2000, seed=9)
    found = fitted.network.predict(tensors(fresh)[0]).numpy()
    expected = conditional_mean(fresh[:, :-1], *parameters)
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()
    assert np.abs(found - expected).mean() < 0.05 * expected.std()


def test_one_component_equals_least_squares() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(5000, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.4], [0, 0, 1]]) + 7
    y = x @ np.array([2.0, -1.0, 0.5]) + 3 + 0.1 * rng.normal(size=5000)
    design = np.column_stack([x, np.ones(len(x))])
    expected = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    given = tensors(np.column_stack([x, y]))
    bare = fit_mixture(*given, 1, ridge=1e-9).network.predict(given[0]).numpy()
    assert np.abs(bare - expected).max() < 1e-3 * y.std()
    usual = fit_mixture(*given, 1).network.predict(given[0]).numpy()
    assert np.abs(usual - expected).mean() < 0.01 * y.std()


def test_gain_and_offset_of_the_features_do_not_matter() -> None:
    samples, _ = two_gaussians(2000)
    x, y = tensors(samples)
    one = fit_mixture(x, y, 3, seed=2).network.predict(x)
    two = fit_mixture(x * 40 - 300, y, 3, seed=2).network.predict(x * 40 - 300)
    close(one, two, atol=2e-3, rtol=1e-3)


def test_a_feature_that_never_changes_does_no_harm() -> None:
    samples, _ = two_gaussians(2000)
    samples[:, 1] = 5.0
    fitted = fit_mixture(*tensors(samples), 4, seed=0)
    assert bool(torch.isfinite(fitted.network.predict(tensors(samples)[0])).all())
    assert min(np.diff(fitted.log_likelihood)) >= -1e-6


def test_fit_is_the_same_for_the_same_seed() -> None:
    given = tensors(two_gaussians(2000)[0])
    one, two, other = (fit_mixture(*given, 6, seed=seed).network.state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_predictive_deviation_covers_what_it_promises() -> None:
    """Two components far apart in HU at the same features: the deviation is that of a coin's two sides."""
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 20_000)
    samples = np.column_stack([rng.normal(size=(20_000, 3)), np.where(side, 10.0, -10.0) + rng.normal(size=20_000)])
    network = fit_mixture(*tensors(samples), 2, seed=0).network
    image = torch.randn(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    middle = local_features(image)[0].flatten(1)
    network.feature_mean.copy_(middle.mean(1))  # so that the image's own features are typical
    network.feature_std.copy_(middle.std(1))
    deviation = network.predictive_std(image)
    assert deviation.shape == image.shape
    assert float(deviation.median()) == pytest.approx(np.sqrt(101.0), rel=0.05)
    assert float(network(image).abs().median()) < 1.0


def test_shares_sum_to_one_far_from_everything() -> None:
    network = fit_mixture(*tensors(two_gaussians(1000)[0]), 4, seed=0).network
    far = torch.tensor([[0.0, 50.0, -1e4]] * 3)
    share = network.posterior(far)
    close(share.sum(0), torch.ones(3))


@pytest.mark.parametrize(
    ("features", "target", "word"),
    [
        (torch.zeros(9, 4), torch.zeros(9), "per channel"),
        (torch.zeros(9, 3), torch.zeros(8), "target"),
        (torch.full((9, 3), torch.nan), torch.zeros(9), "NaN"),
        (torch.zeros(2, 3), torch.zeros(2), "more samples"),
    ],
)
def test_samples_that_make_no_sense_are_refused(features: torch.Tensor, target: torch.Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        fit_mixture(features, target, 4)
    with pytest.raises(ValueError, match=word):
        fit_ridge(features, target)


def test_a_fit_can_be_cancelled() -> None:
    asked = iter([False, False, True])
    with pytest.raises(CancelledError):
        fit_mixture(*tensors(two_gaussians(500)[0]), 3, tolerance=0.0, cancel=lambda: next(asked))


# the polynomial


def test_ridge_recovers_a_polynomial_and_its_noise() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4000, 3)) * [1, 20, 0.1] + [5, -100, 0]
    z = (x - [5, -100, 0]) / [1, 20, 0.1]
    truth = 3 + 2 * z[:, 0] - z[:, 1] * z[:, 2] + 0.5 * z[:, 2] ** 2
    given = tensors(np.column_stack([x, truth + 0.2 * rng.normal(size=4000)]))
    network = fit_ridge(*given, ridge=1e-6)
    assert np.abs(network.predict(given[0]).numpy() - truth).mean() < 0.02
    assert float(network.residual * network.target_std) == pytest.approx(0.2, rel=0.05)


def test_ridge_deviation_is_the_textbook_one() -> None:
    """sigma sqrt(1 + v' (X'X + lambda)^-1 v), v the polynomial's terms at the voxel."""
    given = tensors(two_gaussians(300)[0])
    network = fit_ridge(*given, degree=1)
    z = ((given[0] - network.feature_mean) / network.feature_std).T
    design = torch.stack(polynomial(z, 1), 1).double()
    normal = design.T @ design + torch.diag(torch.tensor([0.0, 1, 1, 1])) * 0.3
    expected = network.residual * (1 + (design @ torch.linalg.inv(normal) * design).sum(1)).sqrt()
    close(network.spread(z), expected.float(), rtol=1e-4, atol=1e-6)


# as networks


@pytest.mark.parametrize(
    "network",
    [GaussianMixtureRegression(3, 2, 4), RidgeRegression(3, 2), GaussianMixtureRegression(2, 1, 3), RidgeRegression(2)],
    ids=lambda network: f"{type(network).__name__}{network.dims}",
)
def test_any_extent_is_taken_and_kept(network: GaussianMixtureRegression | RidgeRegression) -> None:
    for extents in ((1, 1, 1), (3, 1, 7), (5, 6, 4)):
        x = torch.randn(2, network.channels, *extents[-network.dims :])
        for answer in (network(x), network.predictive_std(x)):
            assert answer.shape == (2, 1, *x.shape[2:])
            assert bool(torch.isfinite(answer).all())
    with pytest.raises(ValueError, match="batch"):
        network(torch.zeros(1, network.channels + 1, *[4] * network.dims))


def test_constructor_refuses_what_cannot_be() -> None:
    for name, arguments in (
        ("GaussianMixtureRegression", {"dims": 4}),
        ("GaussianMixtureRegression", {"components": 0}),
        ("RidgeRegression", {"degree": 3}),
        ("RidgeRegression", {"channels": 0}),
    ):
        with pytest.raises(ModelError, match=name):
            registry.build(name, arguments)


def test_channel_two_is_used_where_it_tells() -> None:
    rng = torch.Generator().manual_seed(0)
    image = torch.randn(1, 2, 12, 12, 12, generator=rng)
    flat = local_features(image)[0].flatten(1).T
    network = fit_ridge(flat, image[0, 1].flatten() * 2 - 1, degree=1, ridge=1e-6)
    close(network(image)[0, 0], image[0, 1] * 2 - 1, atol=1e-3, rtol=1e-3)


# from cases to a synthetic CT


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    heads = [draw_head(seed, SPACING) for seed in (1, 2)]
    return [Case(simulate_mr(h, "T1", 1), simulate_ct(h, 1), body_of(h.array)) for h in heads]


@pytest.fixture(scope="module")
def unseen():
    head = draw_head(7, SPACING)
    return simulate_mr(head, "T1", 7), simulate_ct(head, 7), body_of(head.array)


OPTIONS = {"mixture": {"components": 8, "samples": 8000}, "ridge": {"samples": 8000}}


@pytest.fixture(scope="module", params=sorted(OPTIONS))
def written(request: pytest.FixtureRequest, cases: list[Case], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("fits") / request.param
    return fit(request.param, cases, folder, **OPTIONS[request.param])


def test_fitted_model_beats_the_best_constant(written, unseen) -> None:
    mr, ct, body = unseen
    model = Model.load(written.folder)
    result = synthesize(mr, model, mask=body, device="cpu")
    assert result.grid.same_as(mr.grid, tolerance=1e-9)
    assert result.unit == "HU"
    error = np.sqrt(((result.array - ct.array)[body] ** 2).mean())  # what a conditional mean keeps small
    assert error < 0.92 * ct.array[body].std()
    assert (result.array[~body] == -1000).all()


def test_saved_and_loaded_model_answers_bit_for_bit(written, unseen, tmp_path: Path) -> None:
    mr, _, body = unseen
    loaded = Model.load(written.folder)
    loaded.save(tmp_path / "again")
    again = Model.load(tmp_path / "again")
    results = [synthesize(mr, model, mask=body, device="cpu").array for model in (written.model, loaded, again)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_same_cases_and_seed_write_the_same_weights(written, cases: list[Case], tmp_path: Path) -> None:
    recipe = written.folder.name
    again = fit(recipe, cases, tmp_path / "m", **OPTIONS[recipe])
    assert again.model.card.weights_sha256 == written.model.card.weights_sha256


def test_tiles_change_next_to_nothing(written, unseen) -> None:
    """A voxel's neighbours are all that it depends on: only a tile's outermost voxels, which count little, differ."""
    mr, _, body = unseen
    model = Model.load(written.folder)
    small = replace(model.card, spatial=replace(model.card.spatial, tile_max=(16, 16, 16)))
    whole = synthesize(mr, model, mask=body, device="cpu")
    cut = synthesize(mr, Model(small, model.network), mask=body, device="cpu")
    assert cut.meta["tiles"] > 8 * whole.meta["tiles"]
    assert np.abs(cut.array - whole.array)[body].mean() < 2.0


def test_changed_factor_is_noticed(written, tmp_path: Path) -> None:
    model = Model.load(written.folder)
    model.network.target_mean.add_(0.1)
    with pytest.raises(ModelError, match="test vector"):
        model.verify()


def test_poor_cases_are_told(cases: list[Case], tmp_path: Path) -> None:
    source, target, mask = cases[0].source, cases[0].target, cases[0].mask
    out = tmp_path / "m"
    for bad, kind, word in (
        ([], InputError, "at least one case"),
        ([Case(source, target.with_array(target.array, unit="1"), mask)], InputError, "in HU"),
        ([Case(source, target, np.zeros_like(mask))], UnfitInputError, "marks no voxel"),
        ([Case(source, target, mask[1:])], InputError, "does not lie"),
        ([cases[0], Case(source.with_array(np.stack([source.array] * 2, -1)), target, mask)], InputError, "channels"),
    ):
        with pytest.raises(kind, match=word):
            fit("ridge", bad, out, samples=500)
    few = np.zeros_like(mask)
    few[20, 20, 18:24] = True
    with pytest.raises(UnfitInputError, match="too few"):
        fit("mixture", [Case(source, target, few)], out)
    for options, word in (({"degree": 3}, "degree"), ({"wings": 2}, "wings"), ({"spacing": 0.0}, "spacing")):
        with pytest.raises(InputError, match=word):
            fit("ridge", cases, out, **options)
    with pytest.raises(InputError, match="known: atlas, mixture, ridge, tissue"):
        fit("magic", cases, out)
    with pytest.raises(CancelledError):
        fit("ridge", cases, out, cancel=lambda: True)
    assert not list(tmp_path.iterdir())


def test_target_on_a_grid_of_its_own(cases: list[Case], tmp_path: Path) -> None:
    """A CT that is flipped and reaches further is brought to the MR: the same voxels meet."""
    mr, ct, mask = cases[0].source, cases[0].target, cases[0].mask
    wider = np.pad(ct.array, 3, constant_values=-1000.0)[:, :, ::-1]
    affine = np.array(ct.affine)
    affine[:3, 3] += affine[:3, :3] @ [ct.shape[2] + 2, -3, -3]  # voxel (0, 0, 0) is now the far end of x
    affine[:3, 0] *= -1
    other = Volume(wider, affine, "HU")
    one, two = (
        fit("ridge", [Case(mr, target, mask)], tmp_path / name, samples=4000).model.network
        for name, target in (("one", ct), ("two", other))
    )
    close(one.coefficients, two.coefficients, atol=1e-4, rtol=1e-3)


def test_hostile_arguments_of_a_fitted_model_are_refused(written, tmp_path: Path) -> None:
    Model.load(written.folder).save(tmp_path / "m")
    edit_json(tmp_path / "m", lambda content: content["method"]["arguments"].update(channels=4096))
    with pytest.raises(ModelError, match=r"too big|shape"):
        Model.load(tmp_path / "m")
