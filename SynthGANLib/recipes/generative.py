"""Generation from a code: GAN, DCGAN, Wasserstein, conditional, autoregressive."""

from __future__ import annotations

from SynthGANLib.recipes.base import Optimiser, Recipe, Setup, net
from SynthGANLib.regimes.autoregressive import Autoregressive, AutoregressiveConfig
from SynthGANLib.regimes.noise import Noise, NoiseConfig
from SynthGANLib.regimes.wasserstein import CriticSchedule, Wasserstein, WassersteinConfig

YAZICI = "Yazici Y, Yap K-H, Winkler S. Autoregressive generative adversarial networks. ICLR workshop 2018"

DCGAN_TINY = {
    "networks.generator.arguments.size": 16,
    "networks.generator.arguments.code": 8,
    "networks.generator.arguments.base": 8,
    "networks.discriminator.arguments.size": 16,
    "networks.discriminator.arguments.base": 8,
    "config.code": 8,
    "patch": (16, 16),
    "batch": 4,
}

WGAN_TINY = {
    "networks.generator.arguments.size": 16,
    "networks.generator.arguments.code": 8,
    "networks.generator.arguments.base": 8,
    "networks.critic.arguments.size": 16,
    "networks.critic.arguments.base": 8,
    "config.code": 8,
    "patch": (16, 16),
    "batch": 4,
}

ARGAN_TINY = {
    "networks.generator.arguments.size": 16,
    "networks.generator.arguments.code": 8,
    "networks.generator.arguments.base": 8,
    "networks.discriminator.arguments.size": 16,
    "networks.discriminator.arguments.base": 8,
    "networks.discriminator.arguments.hidden": 16,
    "config.code": 8,
    "patch": (16, 16),
    "batch": 4,
}

RECIPES = (
    # Fully connected networks (Goodfellow 2014).
    Recipe(
        name="gan",
        review="vanilla GAN",
        table="Section II-C, figures 1 and 6",
        citation="Goodfellow I et al. Generative adversarial nets. NeurIPS 2014",
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("MlpGenerator", shape=[1, 28, 28], code=100, widths=[256, 512, 1024]),
                "discriminator": net("MlpDiscriminator", shape=[1, 28, 28], widths=[1024, 512, 256]),
            },
            regime=Noise,
            config=NoiseConfig(code=100),
            dims=2,
            patch=(28, 28),
            batch=64,
            steps=100_000,
            schedule="constant",
            initialise="default",
        ),
        tiny_settings={
            "networks.generator.arguments.shape": [1, 16, 16],
            "networks.generator.arguments.code": 8,
            "networks.generator.arguments.widths": [16, 32],
            "networks.discriminator.arguments.shape": [1, 16, 16],
            "networks.discriminator.arguments.widths": [32, 16],
            "config.code": 8,
            "patch": (16, 16),
            "batch": 4,
        },
    ),
    # Strided convolutions both ways (Radford 2016).
    Recipe(
        name="dcgan",
        review="DCGAN",
        table="Section II-C",
        citation=(
            "Radford A, Metz L, Chintala S. Unsupervised representation learning with deep convolutional "
            "generative adversarial networks. ICLR 2016"
        ),
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=64, code=100, base=64, classes=0, out_channels=1, start=4),
                "discriminator": net("ImageDiscriminator", size=64, base=64, classes=0, in_channels=1),
            },
            regime=Noise,
            config=NoiseConfig(code=100),
            dims=2,
            patch=(64, 64),
            batch=64,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings=DCGAN_TINY,
    ),
    # Clipped critic, RMSprop, 5 critic steps to one (Arjovsky 2017).
    Recipe(
        name="wgan",
        review="Wasserstein GAN",
        table="Section II-C.1",
        citation="Arjovsky M, Chintala S, Bottou L. Wasserstein GAN. ICML 2017",
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=64, code=100, base=64),
                "critic": net("ImageDiscriminator", size=64, base=64),
            },
            regime=Wasserstein,
            config=WassersteinConfig(code=100, clip=0.01, penalty=0.0),
            dims=2,
            patch=(64, 64),
            batch=64,
            steps=500_000,
            optimisers={"*": Optimiser(kind="rmsprop", rate=5e-5)},
            schedule="constant",
        ),
        tiny_settings=WGAN_TINY,
    ),
    # Gradient penalty 10, no batch norm in the critic (Gulrajani 2017).
    Recipe(
        name="wgan-gp",
        review="Wasserstein GAN (gradient penalty)",
        table="Section II-C.1",
        citation="Gulrajani I et al. Improved training of Wasserstein GANs. NeurIPS 2017",
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=64, code=100, base=64),
                "critic": net("ImageDiscriminator", size=64, base=64, norm="layer"),
            },
            regime=Wasserstein,
            # The hundred critic steps at first are the clipped critic's.
            config=WassersteinConfig(code=100, schedule=CriticSchedule(first=0, every=0)),
            dims=2,
            patch=(64, 64),
            batch=64,
            steps=500_000,
            optimisers={"*": Optimiser(rate=1e-4, betas=(0.0, 0.9))},
            schedule="constant",
        ),
        tiny_settings=WGAN_TINY,
    ),
    # The class goes into both networks (Mirza 2014): e.g. one network for the PET of three classes of patients.
    Recipe(
        name="cgan-label",
        review="Conditional GAN",
        table="Section II-C.2",
        citation="Mirza M, Osindero S. Conditional generative adversarial nets. arXiv 1411.1784, 2014",
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        aliases=("cGAN", "conditional GAN (label)"),
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=64, code=100, base=64, classes=3, out_channels=1, start=4),
                "discriminator": net("ImageDiscriminator", size=64, base=64, classes=3, in_channels=1),
            },
            regime=Noise,
            config=NoiseConfig(code=100, labelled=True),
            dims=2,
            patch=(64, 64),
            batch=64,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings=DCGAN_TINY,
    ),
    # Features foretold one after another instead of a classifier (Yazici 2018).
    Recipe(
        name="argan",
        review="Autoregressive GAN",
        table="Section II-C.3",
        citation=YAZICI,
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=32, code=100, base=64),
                "discriminator": net("AutoregressiveDiscriminator", size=32, base=64, hidden=512),
            },
            regime=Autoregressive,
            config=AutoregressiveConfig(code=100),
            dims=2,
            patch=(32, 32),
            batch=64,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings=ARGAN_TINY,
    ),
    # ARGAN beside a PatchGAN (Yazici 2018).
    Recipe(
        name="pargan",
        review="Autoregressive GAN (with patches)",
        table="Section II-C.3",
        citation=YAZICI,
        certainty=0.7,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=32, code=100, base=64),
                "discriminator": net("AutoregressiveDiscriminator", size=32, base=64, hidden=512),
                "patch": net("PatchDiscriminator", dims=2, in_channels=1, base=64, layers=2, norm="instance"),
            },
            regime=Autoregressive,
            config=AutoregressiveConfig(code=100),
            dims=2,
            patch=(32, 32),
            batch=64,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings={
            **ARGAN_TINY,
            "networks.patch.arguments.base": 8,
            "networks.patch.arguments.layers": 1,
        },
    ),
    # One DCGAN for the PET slices of each class of patients (Islam 2020).
    Recipe(
        name="dcgan-pet",
        review="DCGAN",
        table="Table III, MRI-PET",
        citation="Islam J, Zhang Y. GAN-based synthetic brain PET image generation. Brain Inform 2020;7:3",
        certainty=0.9,
        directions=("generation",),
        data="unconditional",
        aliases=("DCGAN per class",),
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=128, code=100, base=64, classes=0, out_channels=1, start=4),
                "discriminator": net("ImageDiscriminator", size=128, base=64, classes=0, in_channels=1),
            },
            regime=Noise,
            config=NoiseConfig(code=100),
            dims=2,
            patch=(128, 128),
            batch=64,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings=DCGAN_TINY,
    ),
    # DCGAN on 56-pixel patches of lung nodules (Chuquicusma 2018).
    Recipe(
        name="dcgan-nodules",
        review="DCGAN (lung nodules)",
        table="Reference 11",
        citation=(
            "Chuquicusma MJM et al. How to fool radiologists with generative adversarial networks? A visual "
            "Turing test for lung cancer diagnosis. ISBI 2018"
        ),
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        aliases=("lung-nodule DCGAN",),
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=56, code=100, base=64, classes=0, out_channels=1, start=7),
                "discriminator": net("ImageDiscriminator", size=56, base=64, classes=0, in_channels=1),
            },
            regime=Noise,
            config=NoiseConfig(code=100),
            dims=2,
            patch=(56, 56),
            batch=64,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings={**DCGAN_TINY, "networks.generator.arguments.start": 4},
    ),
    # DCGAN on color images of 256 pixels, the first of the three compared by Baur 2018.
    Recipe(
        name="dcgan-skin",
        review="MelanoGANs (DCGAN)",
        table="Reference 4",
        citation="Baur C et al. MelanoGANs: high resolution skin lesion synthesis with GANs. arXiv 1804.04338, 2018",
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=256, code=100, base=64, classes=0, out_channels=3, start=4),
                "discriminator": net("ImageDiscriminator", size=256, base=64, classes=0, in_channels=3),
            },
            regime=Noise,
            config=NoiseConfig(code=100),
            dims=2,
            patch=(256, 256),
            channels=(1, 3),
            batch=64,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings=DCGAN_TINY,
    ),
    # Image and label map generated together, as two channels (Bowles 2018).
    Recipe(
        name="augmentation",
        review="GAN augmentation",
        table="Reference 7",
        citation=(
            "Bowles C et al. GAN augmentation: augmenting training data using generative adversarial networks. "
            "arXiv 1810.10863, 2018"
        ),
        certainty=1.0,
        directions=("generation",),
        data="unconditional",
        aliases=("augmentation with joint image and label",),
        setup=Setup(
            networks={
                "generator": net("NoiseDecoder", size=64, code=100, base=64, classes=0, out_channels=2, start=4),
                "discriminator": net("ImageDiscriminator", size=64, base=64, classes=0, in_channels=2),
            },
            regime=Noise,
            config=NoiseConfig(code=100),
            dims=2,
            patch=(64, 64),
            channels=(1, 2),
            batch=64,
            steps=100_000,
            schedule="constant",
        ),
        tiny_settings=DCGAN_TINY,
    ),
)
