"""What a validation says in training: numbers by protocol, how they were measured, and what was left out."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from SynthGANLib.evaluation.metrics import MEASURES, evaluate
from SynthGANLib.image.volume import Volume
from SynthGANLib.recipes.registry import RECIPES
from SynthGANLib.training.cards import About, make_card
from SynthGANLib.training.state import built
from SynthGANLib.training.validate import VolumeValidator, error_report, measure, similarity_of, way_of_measuring
from SynthGANLib.training.wrapping import exported

UNITS = {"HU": "synthrad2025", "SUVbw": "suv", "RGB": "rgb", "1": "mr"}


@pytest.fixture(scope="module")
def parts():
    """A pix2pix that was not trained: its card and its networks."""
    torch.manual_seed(0)
    setup = RECIPES["pix2pix"].tiny()
    networks, regime = built(setup)
    side = {"modality": "MR", "unit": "1", "channels": 1, "sequence": ""}
    data = {
        "sides": {"source": side, "target": {**side, "modality": "CT", "unit": "HU"}},
        "normalisers": {name: {"kind": "window", "low": -1000.0, "high": 1000.0} for name in ("source", "target")},
        "spatial": {"orientation": "LPS", "spacing": [None, None, None], "axis": "axial", "neighbours": 0},
        "mask": "none",
    }
    net, network = exported(setup, networks, regime.eval(), data)["forward"]
    return make_card(About("a-b", "t", "d"), setup, data, "forward", net, network), {"forward": network.eval()}


def volume(seed: int, unit: str = "HU", shape: tuple[int, ...] = (9, 24, 26)) -> Volume:
    random = np.random.default_rng(seed)
    return Volume(random.uniform(0, 200, size=shape).astype(np.float32), np.eye(4), unit)


def ball(shape: tuple[int, ...]) -> np.ndarray:
    z, y, x = np.indices(shape)
    return ((z - 4) / 5) ** 2 + ((y - 12) / 11) ** 2 + ((x - 13) / 12) ** 2 < 1


@pytest.mark.parametrize(("unit", "protocol"), UNITS.items())
def test_numbers_are_those_of_the_protocol_of_the_unit(unit, protocol):
    colour = (3,) if unit == "RGB" else ()
    real, fake = volume(0, unit, (9, 24, 26, *colour)), volume(1, unit, (9, 24, 26, *colour))
    body, limits = ball((9, 24, 26)), (-50.0, 250.0)
    found = measure(fake, real, body, limits)
    wanted = ("MAE", "ME", "PSNR", "MS-SSIM" if protocol == "synthrad2025" else "SSIM")
    same = evaluate(fake, real, body, protocol, wanted, data_range=limits if unit == "1" else None)
    assert found == {name: same[name].value for name in wanted}
    assert set(found) <= set(MEASURES)


@pytest.mark.parametrize(("unit", "protocol"), UNITS.items())
def test_the_way_of_measuring_is_what_the_metrics_did(parts, unit, protocol):
    """The sentence is the same for all cases; each metric's own account of itself has nothing else in it."""
    card = parts[0]
    channels = 3 if unit == "RGB" else 1
    target = replace(card.target, unit=unit, range=(-50.0, 250.0), background=-50.0, channels=channels)
    card = replace(card, target=target)
    shape = (9, 24, 26, 3) if unit == "RGB" else (9, 24, 26)
    name = similarity_of(protocol)
    limits = card.target.range if unit == "1" else None
    metric = evaluate(volume(0, unit, shape), volume(1, unit, shape), ball((9, 24, 26)), protocol, [name], limits)[name]
    said = way_of_measuring(card, "body")
    low, high = metric.data_range
    assert said.startswith(
        f"{protocol}, mask: {metric.region}, PSNR and {name} of values clipped to {low:g} to {high:g}"
    )
    assert (
        f"{metric.outside:g} outside the mask, offset {metric.offset:+g}, window {max(metric.window)}, {metric.note}"
        in said
    )
    assert (min(metric.window) == 7) or "less along an axis" in said


def test_every_validation_tells_its_numbers_and_how_they_were_measured(parts):
    card, networks = parts
    cases = [
        SimpleNamespace(source=volume(n, "1"), target=volume(n + 9), source_body=ball((9, 24, 26)), target_body=None)
        for n in (0, 1)
    ]
    report = VolumeValidator(card, cases)(networks, torch.device("cpu"))
    assert report.score == report.metrics["MAE"]
    assert list(report.metrics) == ["MAE", "ME", "PSNR", "MS-SSIM"]
    m = report.metrics
    assert report.text == (
        f"MAE {m['MAE']:.4g} HU, ME {m['ME']:.4g} HU, PSNR {m['PSNR']:.4g} dB, MS-SSIM {m['MS-SSIM']:.4g} "
        f"over 2 volumes ({way_of_measuring(card, 'body')})"
    )
    cases[1].source_body = None
    assert "mask: body or whole volume," in VolumeValidator(card, cases)(networks, torch.device("cpu")).text


def test_numbers_that_are_not_finite_for_some_are_the_mean_of_the_others(parts):
    rows = [
        {"MAE": 1.0, "ME": 0.5, "PSNR": 30.0, "MS-SSIM": math.nan},
        {"MAE": 0.0, "ME": 0.0, "PSNR": math.inf, "MS-SSIM": math.nan},
        {"MAE": 2.0, "ME": -1.0, "PSNR": 20.0, "MS-SSIM": math.nan},
    ]
    report = error_report(rows, parts[0], "holes", {})
    assert report.score == 1.0
    assert report.metrics == {"MAE": 1.0, "ME": pytest.approx(-1 / 6), "PSNR": 25.0}
    assert report.text.endswith("; PSNR of 1 left out: not finite; MS-SSIM of 3 left out: not finite)")


def test_a_score_that_lacks_a_volume_says_nothing(parts):
    """Else networks that fail on the hardest volume would be the best ones."""
    row = {"MAE": 1.0, "ME": 0.0, "PSNR": 30.0, "MS-SSIM": 0.5}
    report = error_report([row, {**row, "MAE": math.nan}], parts[0], "body", {})
    assert math.isnan(report.score)
    assert "MAE of 1 left out: not finite" in report.text
