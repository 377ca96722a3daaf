"""The battery on every translation network, and their parameter counts as published or computed beforehand."""

from __future__ import annotations

from typing import ClassVar

import network_battery as battery
import pytest
import torch
from network_battery import Case, count

from SynthGANLib.errors import ModelError
from SynthGANLib.networks.registry import TRANSLATORS, build

_STAGE = {"downs": 3, "base": 4, "dropout": 0.0}
CASES = {
    "cnn-3d": Case("ConvStack", {"layers": [[3, 4], [3, 4], [1, 1]]}, dims=3, extent=8),
    "cnn-sigmoid": Case("ConvStack", {"dims": 2, "layers": "li2014", "activation": "sigmoid", "output": "tanh"}),
    "fcn-3d": Case(
        "ConvStack",
        {"in_channels": 2, "layers": [[3, 4, "valid"], [3, 4, "same"], [3, 2]], "out_channels": 2, "norm": "instance"},
        inputs=2,
        outputs=2,
        dims=3,
        extent=8,
    ),
    "fcn-batch": Case("ConvStack", {"dims": 2, "layers": [[5, 6], [3, 1, "same"]], "norm": "batch"}, coupled=True),
    "decnn": Case("EmbeddingStack", {"width": 4, "blocks": 2, "convs": 1}, coupled=True),
    "decnn-3d": Case(
        "EmbeddingStack",
        {"dims": 3, "in_channels": 3, "out_channels": 2, "width": 4, "blocks": 1, "norm": "instance"},
        inputs=3,
        outputs=2,
        dims=3,
        extent=8,
    ),
    "han": Case("HanUNet", {"widths": [4, 6, 8]}, coupled=True),
    "han-3d": Case("HanUNet", {"dims": 3, "in_channels": 2, "widths": [4, 6], "norm": "none"}, 2, 1, 3, 8),
    "residual-unet": Case("ResidualUNet", {"widths": [4, 6, 8]}, inputs=3, outputs=3, low=-1, high=1, needs="monai"),
    "volume-unet": Case(
        "VolumeUNet", {"in_channels": 2, "widths": [4, 6, 8]}, inputs=2, dims=3, extent=8, needs="monai"
    ),
    "frea": Case("FreaUNet", {"widths": [4, 6, 8, 8]}),
    "frea-3d": Case("FreaUNet", {"dims": 3, "widths": [4, 4, 6, 6], "out_channels": 2}, outputs=2, dims=3),
    "pix2pix": Case("StridedUNet", {"downs": 4, "base": 4}, low=-1, high=1),
    "low-dose-k3": Case("StridedUNet", {"dims": 3, "downs": 3, "base": 4, "kernel": 3, "output": "linear"}, dims=3),
    "no-skips": Case("StridedUNet", {"downs": 3, "base": 4, "skips": False, "norm": "batch"}, coupled=True),
    "costa": Case("CostaUNet", {"base": 2, "downs": 4, "norm": "batch"}, 1, 3, 2, 32, -1, 1, coupled=True),
    "costa-3d": Case("CostaUNet", {"dims": 3, "base": 2, "downs": 2, "out_channels": 1}, dims=3, extent=8),
    "resnet": Case("ResNetTranslator", {"base": 4, "blocks": 2}, low=-1, high=1),
    "resnet-transposed": Case(
        "ResNetTranslator", {"base": 4, "blocks": 1, "up": "transposed", "out_channels": 3}, 1, 3
    ),
    "resnet-3d-batch": Case(
        "ResNetTranslator", {"dims": 3, "base": 4, "blocks": 1, "downs": 1, "norm": "batch"}, 1, 1, 3, 8, coupled=True
    ),
    "pan": Case("PanResNet", {"base": 4, "blocks": 1}, dims=3, extent=8, low=-1),
    "dense": Case("DenseSR", {"blocks": 2, "units": 2, "growth": 4, "width": 4}, dims=3, extent=6, coupled=True),
    "fcn4s": Case("FcnTranslator", {"widths": [4, 4, 6, 6, 6]}, extent=32),
    "casnet": Case("Cascade", {"stages": [{"name": "StridedUNet", "arguments": _STAGE}] * 2}, low=-1, high=1),
    "auto-context": Case(
        "Cascade",
        {
            "stages": [
                {"name": "ConvStack", "arguments": {"dims": 2, "in_channels": n, "out_channels": 1, "layers": "li2014"}}
                for n in (2, 3, 4)
            ],
            "inputs": "source+all",
        },
        inputs=2,
    ),
    "inpainter": Case(
        "Inpainter", {"stage": {"name": "StridedUNet", "arguments": {**_STAGE, "in_channels": 2}}}, inputs=2
    ),
}
UNITS = {
    "unit": Case("UnitTranslator", {"channels": [1, 3], "base": 4, "blocks": 1}, inputs=1, outputs=3),
    "unit-shared": Case("UnitTranslator", {"base": 4, "blocks": 2, "share": 1}),
    "unit-paper": Case("PaperUnit", {"channels": [3, 1], "base": 4, "blocks": 1}, inputs=3),
    "unit-paper-reverse": Case("ReversePaperUnit", {"channels": [3, 1], "base": 4, "blocks": 1}, outputs=3),
    "unit-reverse": Case("ReverseUnit", {"channels": [1, 3], "base": 4, "blocks": 1}, inputs=3, outputs=1),
}
ALL = {**CASES, **UNITS}


class TestTranslators(battery.ImageBattery):
    CASES = ALL
    WITHOUT: ClassVar = {"test_every_parameter_learns": frozenset(UNITS)}


def test_every_translator_is_in_the_battery():
    assert {case.name for case in ALL.values()} == set(TRANSLATORS)


COUNTS = {
    "Li 2014": ("ConvStack", {}, 37_761),
    "Nie 2016": ("ConvStack", {"layers": "nie2016", "norm": "batch"}, 2_166_289),
    "Nie 2017": ("ConvStack", {"layers": "nie2017", "norm": "batch"}, 1_877_665),
    "Nie 2017 context": ("ConvStack", {"in_channels": 2, "layers": "nie2017", "norm": "batch"}, 1_900_993),
    "Nie 2017 slices": (
        "ConvStack",
        {"dims": 2, "in_channels": 5, "layers": "nie2017_slice", "norm": "batch"},
        1_993_473,
    ),
    "Han": ("HanUNet", {}, 34_937_345),
    "Han without norm": ("HanUNet", {"norm": "none"}, 34_920_449),
    "residual U-Net": ("ResidualUNet", {}, 31_737_283),
    "volume U-Net": ("VolumeUNet", {}, 22_577_793),
    "pix2pix": ("StridedUNet", {}, 54_407_809),
    "pix2pix batch": ("StridedUNet", {"norm": "batch"}, 54_407_809),
    "pix2pix RGB": ("StridedUNet", {"in_channels": 3, "out_channels": 3}, 54_413_955),
    "pix2pix 128": ("StridedUNet", {"downs": 7}, 41_822_849),
    "low dose": ("StridedUNet", {"dims": 3, "downs": 6}, 116_934_273),
    "low dose kernel 3": ("StridedUNet", {"dims": 3, "downs": 6, "kernel": 3}, 49_334_977),
    "sketcher": ("StridedUNet", {"dims": 3, "downs": 6, "base": 32, "cap": 256}, 29_238_081),
    "sketcher of four": ("StridedUNet", {"dims": 3, "downs": 6, "base": 32, "cap": 256, "in_channels": 4}, 29_244_225),
    "Costa 256": ("CostaUNet", {}, 4_607_075),
    "Costa 512": ("CostaUNet", {"base": 64, "downs": 8}, 22_869_187),
    "vess2ret's own check": ("CostaUNet", {"base": 3, "downs": 8, "out_channels": 2}, 51_197),
    "CycleGAN": ("ResNetTranslator", {"up": "transposed"}, 11_365_633),
    "CycleGAN resizing": ("ResNetTranslator", {"up": "resize"}, 11_365_633),
    "CycleGAN RGB": ("ResNetTranslator", {"up": "transposed", "in_channels": 3, "out_channels": 3}, 11_378_179),
    "CycleGAN 128": ("ResNetTranslator", {"up": "transposed", "blocks": 6}, 7_825_153),
    "Pan": ("PanResNet", {}, 206_753),
    "Pan 16": ("PanResNet", {"base": 16}, 814_401),
    "UNIT": ("UnitTranslator", {}, 2 * 11_127_937),
    "UNIT RGB": ("UnitTranslator", {"channels": [3, 3]}, 2 * 11_140_483),
    "UNIT mixed": ("UnitTranslator", {"channels": [1, 3]}, 11_127_937 + 11_140_483),
    "mDCSRN": ("DenseSR", {}, 411_648),
    "FCN-4s": ("FcnTranslator", {}, 14_714_688 + 256 + 512 + 512 + 3),
    "CasNet": ("Cascade", {"stages": [{"name": "StridedUNet", "arguments": {}}] * 6}, 326_446_854),
}


@pytest.mark.parametrize(("name", "arguments", "expected"), COUNTS.values(), ids=COUNTS)
def test_parameter_count(name, arguments, expected):
    if name in ("ResidualUNet", "VolumeUNet"):
        pytest.importorskip("monai")
    assert count(name, arguments) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("ConvStack", {"layers": [[4, 1]]}, "odd kernel"),
        ("ConvStack", {"layers": [[3, 8]]}, "out_channels = 1"),
        ("ConvStack", {"layers": []}, "out_channels = 1"),
        ("ConvStack", {"layers": "li2015"}, "li2014"),
        ("ConvStack", {"activation": "gelu"}, "relu"),
        ("ConvStack", {"norm": "group"}, "'instance'"),
        ("ConvStack", {"padding": "zero"}, "replicate"),
        ("ConvStack", {"output": "softmax"}, "'tanh'"),
        ("HanUNet", {"dims": 1}, "dimensions"),
        ("FreaUNet", {"widths": [4, 4, 4]}, "at least 4 widths"),
        ("StridedUNet", {"kernel": 5}, "3 or 4"),
        ("StridedUNet", {"downs": 0}, "at least one"),
        ("CostaUNet", {"downs": 0}, "at least one"),
        ("ResNetTranslator", {"up": "shuffle", "base": 2}, "'resize'"),
        ("UnitTranslator", {"blocks": 2, "share": 3}, "0 to 2"),
        ("UnitTranslator", {"channels": [1]}, "two numbers"),
        ("VolumeUNet", {"widths": [4, 4]}, "three widths"),
        ("FcnTranslator", {"widths": [4, 4]}, "5 widths"),
        ("Cascade", {"stages": []}, "at least one"),
        ("Cascade", {"stages": [{"name": "PanResNet"}]}, "stage 1"),
        ("Cascade", {"stages": [{"name": "PanResNet", "arguments": {}}], "inputs": "all"}, "source\\+prev"),
        ("Cascade", {"stages": [{"name": "Nothing", "arguments": {}}]}, "Nothing"),
    ],
)
def test_arguments_that_make_no_sense_are_named(name, arguments, reason):
    with pytest.raises(ModelError, match=reason), torch.device("meta"):
        build(name, arguments)
