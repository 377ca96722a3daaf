"""Generation from a code: GAN, DCGAN, Wasserstein, conditional, autoregressive, progressive, pyramids."""

from __future__ import annotations

from typing import Any

from SynthGANLib.recipes.base import Net, Optimiser, Pick, Recipe, Setup
from SynthGANLib.recipes.paired import patch_critic
from SynthGANLib.regimes.autoregressive import Autoregressive, AutoregressiveConfig
from SynthGANLib.regimes.noise import Noise, NoiseConfig
from SynthGANLib.regimes.progressive import Progressive, ProgressiveConfig
from SynthGANLib.regimes.pyramid import JointPyramid, Pyramid, PyramidConfig
from SynthGANLib.regimes.wasserstein import CriticSchedule, Wasserstein, WassersteinConfig


def decoder(pick: Pick, size: int = 64, **others: Any) -> Net:
    """The DCGAN generator for images of `size`."""
    return Net("NoiseDecoder", {"size": pick(size, 16), "code": pick(100, 8), "base": pick(64, 8), **others})


def critic(pick: Pick, size: int = 64, **others: Any) -> Net:
    """The DCGAN discriminator for images of `size`."""
    return Net("ImageDiscriminator", {"size": pick(size, 16), "base": pick(64, 8), **others})


def noise_setup(pick: Pick, size: int = 64, classes: int = 0, channels: int = 1, start: int = 4) -> Setup:
    """DCGAN networks for images of `size` with `channels`, given one of `classes` labels where there are any.

    The generator's first map has `start` pixels along each axis.
    """
    return Setup(
        networks={
            "generator": decoder(pick, size, classes=classes, out_channels=channels, start=pick(start, 4)),
            "discriminator": critic(pick, size, classes=classes, in_channels=channels),
        },
        regime=Noise, config=NoiseConfig(code=pick(100, 8), labelled=classes > 0), dims=2, channels=(1, channels),
        patch=pick((size, size), (16, 16)), batch=pick(64, 4), steps=100_000, schedule="constant",
    )  # fmt: skip


def gan(pick: Pick) -> Setup:
    """Fully connected networks (Goodfellow 2014)."""
    shape, code = pick([1, 28, 28], [1, 16, 16]), pick(100, 8)
    generator = Net("MlpGenerator", {"shape": shape, "code": code, "widths": pick([256, 512, 1024], [16, 32])})
    judge = Net("MlpDiscriminator", {"shape": shape, "widths": pick([1024, 512, 256], [32, 16])})
    return Setup(
        networks={"generator": generator, "discriminator": judge},
        regime=Noise, config=NoiseConfig(code=pick(100, 8)), dims=2, patch=pick((28, 28), (16, 16)),
        batch=pick(64, 4), steps=100_000, schedule="constant", initialise="default",
    )  # fmt: skip


def dcgan(pick: Pick) -> Setup:
    """Strided convolutions both ways (Radford 2016)."""
    return noise_setup(pick)


def dcgan_pet(pick: Pick) -> Setup:
    """One DCGAN for the PET slices of each class of patients (Islam 2020)."""
    return noise_setup(pick, 128)


def dcgan_nodules(pick: Pick) -> Setup:
    """DCGAN on 56-pixel patches of lung nodules (Chuquicuma 2018)."""
    return noise_setup(pick, 56, start=7)


def dcgan_skin(pick: Pick) -> Setup:
    """DCGAN on colour images of 256 pixels, the first of the three compared by Baur 2018."""
    return noise_setup(pick, 256, channels=3)


def augmentation(pick: Pick) -> Setup:
    """Image and label map generated together, as two channels (Bowles 2018)."""
    return noise_setup(pick, 64, channels=2)


def cgan_label(pick: Pick) -> Setup:
    """The class goes into both networks (Mirza 2014): e.g. one network for the PET of three classes of patients."""
    return noise_setup(pick, 64, classes=3)


def wgan(pick: Pick) -> Setup:
    """Clipped critic, RMSprop, 5 critic steps to one (Arjovsky 2017)."""
    return Setup(
        networks={"generator": decoder(pick), "critic": critic(pick)},
        regime=Wasserstein, config=WassersteinConfig(code=pick(100, 8), clip=0.01, penalty=0.0), dims=2,
        patch=pick((64, 64), (16, 16)), batch=pick(64, 4), steps=500_000,
        optimisers={"*": Optimiser("rmsprop", rate=5e-5)}, schedule="constant",
    )  # fmt: skip


def wgan_gp(pick: Pick) -> Setup:
    """Gradient penalty 10, no batch norm in the critic (Gulrajani 2017)."""
    return Setup(
        networks={"generator": decoder(pick), "critic": critic(pick, norm="layer")},
        regime=Wasserstein,
        # The hundred critic steps at first are the clipped critic's.
        config=WassersteinConfig(code=pick(100, 8), schedule=CriticSchedule(first=0, every=0)),
        dims=2, patch=pick((64, 64), (16, 16)),
        batch=pick(64, 4), steps=500_000, optimisers={"*": Optimiser(rate=1e-4, betas=(0.0, 0.9))},
        schedule="constant",
    )  # fmt: skip


def argan(pick: Pick) -> Setup:
    """Features foretold one after another instead of a classifier (Yazici 2018)."""
    judge = Net("AutoregressiveDiscriminator", {"size": pick(32, 16), "base": pick(64, 8), "hidden": pick(512, 16)})
    return Setup(
        networks={"generator": decoder(pick, 32), "discriminator": judge},
        regime=Autoregressive, config=AutoregressiveConfig(code=pick(100, 8)), dims=2, patch=pick((32, 32), (16, 16)),
        batch=pick(64, 4), steps=100_000, schedule="constant",
    )  # fmt: skip


def pargan(pick: Pick) -> Setup:
    """ARGAN beside a PatchGAN (Yazici 2018)."""
    base = argan(pick)
    return Setup(
        networks={**base.networks, "patch": patch_critic(pick, 1, layers=pick(2, 1))},
        regime=base.regime, config=base.config, dims=2, patch=base.patch, batch=base.batch, steps=base.steps,
        schedule="constant",
    )  # fmt: skip


def pggan(pick: Pick) -> Setup:
    """Image and segmentation grown together from 4 pixels up, WGAN-GP with drift (Beers 2018)."""
    size = pick(256, 16)
    widths: dict[str, int] = pick({}, {"base": 64, "cap": 8})  # the paper's are the networks' own
    networks = {"out_channels": 2, "size": size, "code": pick(512, 8), **widths}
    judge = {"in_channels": 2, "size": size, **widths}
    return Setup(
        networks={"generator": Net("ProgressiveGenerator", networks), "critic": Net("ProgressiveDiscriminator", judge)},
        regime=Progressive, config=ProgressiveConfig(stable=pick(600_000, 16), fade=pick(600_000, 16)), dims=2,
        channels=(1, 2), patch=(size, size), batch=pick(16, 4), steps=500_000,
        optimisers={"*": Optimiser(rate=1e-3, betas=(0.0, 0.99))}, schedule="constant", initialise="default",
        ema=0.999,
    )  # fmt: skip


def lapgan(pick: Pick) -> Setup:
    """Residuals of a Laplacian pyramid, each level by itself (Denton 2015; Baur 2018; Calimeri 2017)."""
    return _pyramid(pick, Pyramid, conditional=True)


def ddgan(pick: Pick) -> Setup:
    """The levels together, each image judged (Baur 2018)."""
    return _pyramid(pick, JointPyramid, conditional=False)


def _pyramid(pick: Pick, regime: type[Pyramid], *, conditional: bool) -> Setup:
    """Generators and discriminators of all levels; `conditional` ones see the enlarged coarser image beside theirs."""
    size, coarsest = pick(256, 32), pick(16, 8)
    generator = {"size": size, "coarsest": coarsest, "code": pick(100, 8), "base": pick(64, 8),
                 "widths": pick([64, 128, 64], [8, 8])}  # fmt: skip
    judge = {"size": size, "coarsest": coarsest, "base": pick(64, 8), "widths": pick([64, 128, 256], [8, 8]),
             "conditional": conditional}  # fmt: skip
    return Setup(
        networks={"generator": Net("PyramidGenerator", generator), "discriminator": Net("PyramidDiscriminator", judge)},
        regime=regime, config=PyramidConfig(code=pick(100, 8)), dims=2, patch=(size, size), batch=pick(16, 4),
        steps=100_000, schedule="constant",
    )  # fmt: skip


BAUR = "Baur C et al. MelanoGANs: high resolution skin lesion synthesis with GANs. arXiv 1804.04338, 2018"
MIRZA = "Mirza M, Osindero S. Conditional generative adversarial nets. arXiv 1411.1784, 2014"
YAZICI = "Yazici Y, Yap K-H, Winkler S. Autoregressive generative adversarial networks. ICLR workshop 2018"
ANY = ("generation",)
RECIPES = (
    Recipe(
        "gan", "vanilla GAN", "Section II-C, figures 1 and 6",
        "Goodfellow I et al. Generative adversarial nets. NeurIPS 2014", 1.0, ANY, "unconditional", gan,
    ),
    Recipe(
        "dcgan", "DCGAN", "Section II-C",
        "Radford A, Metz L, Chintala S. Unsupervised representation learning with deep convolutional generative "
        "adversarial networks. ICLR 2016",
        1.0, ANY, "unconditional", dcgan,
    ),
    Recipe(
        "wgan", "Wasserstein GAN", "Section II-C.1", "Arjovsky M, Chintala S, Bottou L. Wasserstein GAN. ICML 2017",
        1.0, ANY, "unconditional", wgan,
    ),
    Recipe(
        "wgan-gp", "Wasserstein GAN (gradient penalty)", "Section II-C.1",
        "Gulrajani I et al. Improved training of Wasserstein GANs. NeurIPS 2017", 1.0, ANY, "unconditional", wgan_gp,
    ),
    Recipe(
        "cgan-label", "Conditional GAN", "Section II-C.2", MIRZA, 1.0, ANY, "unconditional", cgan_label,
        aliases=("cGAN", "conditional GAN (label)"),
    ),
    Recipe("argan", "Autoregressive GAN", "Section II-C.3", YAZICI, 1.0, ANY, "unconditional", argan),
    Recipe("pargan", "Autoregressive GAN (with patches)", "Section II-C.3", YAZICI, 0.7, ANY, "unconditional", pargan),
    Recipe(
        "dcgan-pet", "DCGAN", "Table III, MRI-PET",
        "Islam J, Zhang Y. GAN-based synthetic brain PET image generation. Brain Inform 2020;7:3",
        0.9, ANY, "unconditional", dcgan_pet, aliases=("DCGAN per class",),
    ),
    Recipe(
        "dcgan-nodules", "DCGAN (lung nodules)", "Reference 11",
        "Chuquicusma MJM et al. How to fool radiologists with generative adversarial networks? A visual "
        "Turing test for lung cancer diagnosis. ISBI 2018",
        1.0, ANY, "unconditional", dcgan_nodules, aliases=("lung-nodule DCGAN",),
    ),
    Recipe(
        "pggan", "progressive growing GAN", "Reference 5",
        "Beers A et al. High-resolution medical image synthesis using progressively grown generative "
        "adversarial networks. arXiv 1805.03144, 2018; Karras T et al. ICLR 2018",
        1.0, ANY, "unconditional", pggan,
    ),
    Recipe("dcgan-skin", "MelanoGANs (DCGAN)", "Reference 4", BAUR, 1.0, ANY, "unconditional", dcgan_skin),
    Recipe("lapgan", "MelanoGANs (LAPGAN)", "Reference 4", BAUR, 1.0, ANY, "unconditional", lapgan),
    Recipe("ddgan", "MelanoGANs (DDGAN)", "Reference 4", BAUR, 1.0, ANY, "unconditional", ddgan),
    Recipe(
        "augmentation", "GAN augmentation", "Reference 7",
        "Bowles C et al. GAN augmentation: augmenting training data using generative adversarial networks. arXiv "
        "1810.10863, 2018",
        1.0, ANY, "unconditional", augmentation, aliases=("augmentation with joint image and label",),
    ),
)  # fmt: skip
