"""The compact form of every recipe: the task it is shown on, its size and its budget.

Sizes are settings on the recipe's tiny setup, the same that `synthgan train RECIPE --tiny --set ...` takes, so that
every line of the table can be run by hand. Steps are what about twenty seconds of one core allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from Tools.Zoo.tasks import TASKS

G, D = "networks.generator.arguments.", "networks.discriminator.arguments."
PLANE = {"patch": "64,64", "batch": "2", "augment.affine": "0"}
# Two patches at least: PyTorch gives a single small volume to its slow convolution on CPUs.
CUBE = {"patch": "32,32,32", "batch": "2", "augment.affine": "0"}
LESS = {"patch": "24,24,24", "batch": "2", "augment.affine": "0"}
LOCAL = {"patch": "20,20,20", "batch": "2", "augment.affine": "0"}
FAST = {"optimisers.generator.rate": "1e-3"}
"""So few steps of so small networks want larger ones; the discriminator keeps the recipe's rate."""
BATCH = {G + "norm": "batch"}
"""As in the papers: a norm of each patch by itself takes away how bright it is, which small fields of view need."""
SURE = {"optimisers.*.rate": "1e-3"}
JUDGE = {D + "base": "16", D + "layers": "2"}
DEEP = {G + "base": "12", G + "downs": "4", G + "cap": "96"}
STRIDED = {G + "base": "16", G + "downs": "5"}
BLOCK = (
    '{"name": "StridedUNet", "arguments": {"downs": 5, "base": 12, "dropout": 0.0, "in_channels": %d, '
    '"out_channels": 1}}'
)
CASNET = {G + "stages": f"[{BLOCK % 1}, {BLOCK % 1}]"}
CUBE_BLOCK = (
    '{"name": "StridedUNet", "arguments": {"dims": 3, "downs": 4, "base": 12, "cap": 96, "dropout": 0.0, '
    '"in_channels": %d, "out_channels": 1}}'
)
VALID = '[[5, 12, "valid"], [3, 12, "same"], [3, 12, "same"], [3, 1, "same"]]'
NIE_STAGE = '{"name": "ConvStack", "arguments": {"layers": %s, "norm": "batch", "in_channels": %d, "out_channels": 1}}'
SMALL = {"patch": "32,32", "batch": "8", "augment.affine": "0", "optimisers.*.rate": "5e-4"}
NOISE = {**SMALL, G + "size": "32", G + "code": "32", G + "base": "16", "config.code": "32"}

AUTO = {"normalisers": '{"source": "auto", "target": "auto"}'}
"""For what depends on the usual range: bins of intensity, or the uptake from which a voxel counts more."""
ATLAS = {"spacing": "3", "deformable": "demons"}
CRITIC = {
    "networks.critic.arguments.size": "32", "networks.critic.arguments.base": "16", "config.schedule.turns": "3",
    "config.schedule.first": "0", "config.schedule.every": "0",
}  # fmt: skip
"""Three steps of the critic to one of the generator, from the start: the paper's hundred would be the whole budget."""

WINDOWED = '{"source": "auto", "target": {"kind": "window", %s}}'
CENTRED = {
    "HU": {"normalisers": WINDOWED % '"low": -1200, "high": 1300'},
    "SUVbw": {"normalisers": WINDOWED % '"low": -9.0, "high": 11.0'},
}
"""By the target's unit: soft tissue lies near zero, which is what networks begin with. Else the first hundred steps,
which are much of the budget here, go into learning an offset."""


def both(part: str, **arguments: str) -> dict[str, str]:
    """Settings of the two networks `part`_ab and `part`_ba, or `part`_a and `part`_b."""
    ends = ("ab", "ba") if part == "generator" else ("a", "b")
    return {f"networks.{part}_{end}.arguments.{name}": value for end in ends for name, value in arguments.items()}


CYCLE = {
    **PLANE, "batch": "1", "optimisers.generators.rate": "1e-3", **both("generator", base="8", blocks="3"),
    **both("discriminator", base="12", layers="2"),
}  # fmt: skip
STAGED = {name: value for number in (1, 2) for name, value in {
    f"networks.discriminator_{number}.arguments.base": "12", f"networks.discriminator_{number}.arguments.layers": "2",
}.items()}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A recipe on a task: `settings` on its tiny setup, `steps`, names of settings that grow with the steps.

    `note` is a sentence for the table about what is special here.
    """

    recipe: str
    task: str
    steps: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    grows: tuple[str, ...] = ()
    note: str = ""

    @property
    def key(self) -> str:
        """Names the entry's files."""
        return f"{self.recipe}--{self.task}"

    def scaled(self, factor: float) -> dict[str, str]:
        """The settings with a budget of `factor` times the steps."""
        task = TASKS[self.task]
        centred = CENTRED.get(task.target_side["unit"], {}) if self.steps and not task.generates else {}
        settings = {**centred, **self.settings}
        if self.steps:
            settings["steps"] = str(max(1, round(self.steps * factor)))
        for name in self.grows:
            settings[name] = str(max(1, round(int(settings[name]) * factor)))
        return settings


def ucgan(task: str, **more: str) -> Entry:
    """The 3D conditional GAN on one of the six directions between MR, CT and PET."""
    return Entry("ucgan", task, 220, {**CUBE, **FAST, **DEEP, D + "base": "12", D + "layers": "2"})


def unit(recipe: str) -> Entry:
    """UNIT with the weights of its released program or of its paper."""
    size = {G + "base": "8", G + "blocks": "1", **both("discriminator", base="8")}
    short = {"batch": "1", "decay": "0", "optimisers.generator.rate": "5e-4"}  # nothing to be halved in so few steps
    return Entry(recipe, "t1-t2-unpaired", 220, {**PLANE, **short, **size})


ENTRIES: tuple[Entry, ...] = (
    # Paired regression
    Entry("cnn", "heads-mr-ct", 400, {**LESS, G + "layers": "[[7, 10], [7, 10], [1, 1]]"}),
    Entry("decnn", "mr-ct", 320, {**PLANE, **SURE, **BATCH, G + "width": "16", G + "blocks": "3",
                                  G + "convs": "2"}),
    Entry("fcnn", "heads-mr-ct", 320, {**LESS, **SURE, **BATCH, G + "layers": VALID}),
    Entry("unet-han", "mr-ct", 330, {**PLANE, G + "widths": "[12, 24, 48, 64]"}),
    Entry("unet-3d", "heads-mr-ct", 120, {**CUBE, **SURE, G + "widths": "[8, 16, 32, 64]"}),
    Entry("frea-unet", "heads-mr-pet", 330, {**PLANE, **SURE, G + "widths": "[12, 24, 48, 64]"}),
    Entry("unet-ct-mr", "ct-t2", 330, {**PLANE, G + "widths": "[12, 24, 48, 64]"}),
    # Paired with an adversary
    Entry("pix2pix", "mr-ct", 450, {**PLANE, **FAST, **STRIDED, **JUDGE}),
    Entry("pix2pix-pet-mr", "pet-mr", 450, {**PLANE, **FAST, **STRIDED, **JUDGE}),
    Entry("cgan-emami", "mr-ct", 300, {**PLANE, **FAST, G + "base": "12", G + "blocks": "3", **JUDGE}),
    Entry("gan-nie", "meat-mr-ct", 300, {
        **LOCAL, "batch": "4", **FAST, **BATCH, G + "layers": VALID, D + "size": "16", D + "widths": "[8, 16, 32]",
    }),
    ucgan("heads-mr-pet"), ucgan("heads-mr-ct"), ucgan("heads-ct-mr"), ucgan("heads-pet-mr"), ucgan("heads-ct-pet"),
    ucgan("heads-pet-ct"),
    Entry("cgan-image", "mr-spect", 500, {**PLANE, **FAST, **STRIDED, **JUDGE}),
    Entry("medgan-mr-pet", "brainweb-mr-pet", 380, {**PLANE, **FAST, **CASNET, **JUDGE}),
    Entry("medgan-pet-ct", "heads-pet-ct", 380, {**PLANE, **FAST, **CASNET, **JUDGE}),
    Entry("medgan-motion", "heads-motion", 380, {**PLANE, **FAST, **CASNET, **JUDGE}),
    Entry("medgan-denoise", "heads-dose", 380, {**PLANE, **FAST, **CASNET, **JUDGE}),
    # Stages and flows
    Entry("cascade-gan", "heads-mr-ct", 300, {
        **LOCAL, "batch": "4", **FAST, G + "stages": f"[{NIE_STAGE % (VALID, 1)}, {NIE_STAGE % (VALID, 2)}]",
        **{f"networks.discriminator_{n}.arguments.{name}": value for n in (1, 2)
           for name, value in (("size", "16"), ("widths", "[8, 16, 32]"))},
    }),
    Entry("sketcher-refiner", "heads-4mr-pet", 260, {
        **CUBE, **FAST, G + "stages": f"[{CUBE_BLOCK % 4}, {CUBE_BLOCK % 5}]", **STAGED,
    }),
    Entry("low-dose-pet", "heads-dose", 280, {
        **CUBE, **FAST, G + "stages": f"[{CUBE_BLOCK % 1}, {CUBE_BLOCK % 1}]", **STAGED,
    }),
    Entry("fcn-cgan", "heads-ct-pet", 500, {
        **AUTO, **PLANE, **FAST,
        G + "stages": '[{"name": "FcnTranslator", "arguments": {"in_channels": 1, "out_channels": 1, '
        '"widths": [12, 16, 24, 32, 32], "output": "linear"}}, ' + BLOCK % 2 + "]",
        "networks.discriminator_2.arguments.base": "16", "networks.discriminator_2.arguments.layers": "2",
    }),
    Entry("dual-glow", "heads-mr-pet", 260, {**LESS, **AUTO, G + "depths": "[1, 2]", G + "width": "16"}),
    # Two domains
    Entry("cyclegan", "mr-ct-unpaired", 260, CYCLE),
    Entry("cyclegan-wolterink", "heads-mr-ct-unpaired", 260, {**CYCLE, "spatial.axis": "sagittal"}),
    Entry("cyclegan-gradient", "heads-mr-ct-unpaired", 260, CYCLE),
    Entry("cyclegan-3d", "heads-mr-pet", 90, {
        **LESS, **both("generator", base="4", blocks="2"), **both("discriminator", base="6"),
    }),
    Entry("cyclegan-masks", "heads-ct-mr-brain-unpaired", 240, CYCLE),
    Entry("mr-gan", "ct-mr-mixed", 170, {
        **PLANE, "batch": "1", **both("generator", base="12", blocks="3"), **both("discriminator", base="16"),
    }),
    unit("unit"), unit("unit-paper"),
    # Generation
    Entry("gan", "small-mr", 800, {
        **SMALL, G + "shape": "[1, 32, 32]", G + "code": "32", G + "widths": "[128, 256, 512]", "config.code": "32",
        D + "shape": "[1, 32, 32]", D + "widths": "[256, 128]",
    }),
    Entry("dcgan", "small-mr", 600, {**NOISE, D + "size": "32", D + "base": "16"}),
    Entry("wgan", "small-mr", 1000, {**NOISE, **CRITIC}),
    Entry("wgan-gp", "small-mr", 800, {**NOISE, **CRITIC, "optimisers.*.rate": "1e-3"}),
    Entry("cgan-label", "small-pet-classes", 600, {**NOISE, D + "size": "32", D + "base": "16"}),
    Entry("argan", "small-mr", 550, {**NOISE, D + "size": "32", D + "base": "16", D + "hidden": "32"}),
    Entry("pargan", "small-mr", 400, {
        **NOISE, D + "size": "32", D + "base": "16", D + "hidden": "32", "networks.patch.arguments.base": "16",
        "networks.patch.arguments.layers": "2",
    }),
    Entry("dcgan-pet", "small-pet", 600, {**NOISE, D + "size": "32", D + "base": "16"}),
    Entry("dcgan-nodules", "small-ct", 600, {**NOISE, D + "size": "32", D + "base": "16"},
          note="There are no lung nodules in the data: whole CT slices instead."),
    Entry("pggan", "small-mr-brain", 600, {
        **SMALL, G + "size": "32", G + "code": "32", G + "base": "256", G + "cap": "48", "ema": "0.99",
        "networks.critic.arguments.size": "32", "networks.critic.arguments.base": "256",
        "networks.critic.arguments.cap": "48", "config.stable": "600", "config.fade": "600",
        "optimisers.*.rate": "1e-3",
    }, ("config.stable", "config.fade")),
    Entry("dcgan-skin", "small-photographs", 600, {**NOISE, D + "size": "32", D + "base": "16"},
          note="There are no photographs of skin in the data: of the fundus instead."),
    Entry("lapgan", "small-mr", 400, {
        **SMALL, G + "code": "32", G + "base": "16", G + "widths": "[16, 16]", "config.code": "32", D + "base": "16",
        D + "widths": "[16, 16]",
    }, note="There are no photographs of skin in the data: MR slices instead."),
    Entry("ddgan", "small-mr", 400, {
        **SMALL, G + "code": "32", G + "base": "16", G + "widths": "[16, 16]", "config.code": "32", D + "base": "16",
        D + "widths": "[16, 16]",
    }, note="There are no photographs of skin in the data: MR slices instead."),
    Entry("augmentation", "small-mr-brain", 600, {**NOISE, D + "size": "32", D + "base": "16"}),
    # Fundus
    Entry("cyclegan-fundus", "vessels-fundus-unpaired", 150, {**CYCLE, "patch": "96,96", "batch": "1"}),
    Entry("pix2pix-fundus", "vessels-fundus", 300, {**PLANE, "patch": "96,96", **FAST, **STRIDED, **JUDGE}),
    Entry("pix2pix-resunet", "vessels-fundus", 220, {
        **PLANE, "patch": "96,96", **FAST, G + "widths": "[12, 24, 48, 64]", **JUDGE,
    }),
    Entry("mcml", "landmarks-fundus", 220, {
        **PLANE, "patch": "96,96", **FAST, G + "widths": "[12, 24, 48, 64]", **JUDGE,
        "augment.channel_dropout": "0.2",
    }),
    Entry("vessels-fundus", "vessels-fundus", 500, {
        **PLANE, "patch": "96,96", **FAST, G + "base": "12", G + "downs": "5", D + "base": "16",
    }),
    Entry("retina", "vessels-fundus-64", 350, {
        **PLANE, **FAST, "networks.autoencoder.arguments.size": "64", "networks.autoencoder.arguments.base": "12",
        "networks.autoencoder.arguments.code": "16", "networks.code_discriminator.arguments.code": "16",
        "networks.renderer.arguments.base": "12", "networks.renderer.arguments.downs": "5", D + "base": "16",
    }, note="Measured: the renderer on true vessels, as it is exported."),
    # Restoration
    Entry("inpainting", "heads-inpainting", 450, {
        **PLANE, **FAST, G + "stages": f"[{BLOCK % 2}, {BLOCK % 1}]", **JUDGE, "config.extent": "16",
    }),
    Entry("super-resolution", "heads-resolution", 250, {
        "patch": "16,16,16", "batch": "2", "augment.affine": "0", **SURE, G + "blocks": "2", G + "units": "3",
        G + "growth": "6", G + "width": "12", D + "base": "6", D + "dense": "16", "config.pretrain": "130",
        "config.critic_pretrain": "15",
    }, ("config.pretrain", "config.critic_pretrain")),
    # Fitted at once
    Entry("tissue", "heads-mr-ct"),
    Entry("tissue-echoes", "heads-ute-ct"),
    Entry("atlas-single", "heads-few-mr-ct", settings=ATLAS),
    Entry("atlas-mean", "heads-few-mr-ct", settings=ATLAS),
    Entry("atlas-median", "heads-few-mr-ct", settings=ATLAS),
    Entry("atlas-lncc", "heads-few-mr-ct", settings=ATLAS),
    Entry("gaussian-mixture", "heads-mr-ct", settings={"spacing": "3", "samples": "40000"}),
    Entry("ridge", "heads-mr-ct", settings={"spacing": "3"}),
)  # fmt: skip
