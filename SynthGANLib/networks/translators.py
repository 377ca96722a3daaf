"""Translation networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from SynthGANLib.networks.cascade import Cascade, Inpainter
from SynthGANLib.networks.conv_stack import ConvStack
from SynthGANLib.networks.costa import CostaUNet
from SynthGANLib.networks.dense_sr import DenseSR
from SynthGANLib.networks.embedding import EmbeddingStack
from SynthGANLib.networks.frea import FreaUNet
from SynthGANLib.networks.han_unet import HanUNet
from SynthGANLib.networks.monai_nets import ResidualUNet, VolumeUNet
from SynthGANLib.networks.resnet import PanResNet, ResNetTranslator
from SynthGANLib.networks.strided_unet import StridedUNet
from SynthGANLib.networks.unit import PaperUnit, ReversePaperUnit, ReverseUnit, UnitTranslator
from SynthGANLib.networks.vgg import FcnTranslator

TRANSLATORS: Mapping[str, Callable[..., nn.Module]] = {
    "Cascade": Cascade,
    "ConvStack": ConvStack,
    "CostaUNet": CostaUNet,
    "DenseSR": DenseSR,
    "EmbeddingStack": EmbeddingStack,
    "FcnTranslator": FcnTranslator,
    "FreaUNet": FreaUNet,
    "HanUNet": HanUNet,
    "Inpainter": Inpainter,
    "PanResNet": PanResNet,
    "PaperUnit": PaperUnit,
    "ResNetTranslator": ResNetTranslator,
    "ResidualUNet": ResidualUNet,
    "ReversePaperUnit": ReversePaperUnit,
    "ReverseUnit": ReverseUnit,
    "StridedUNet": StridedUNet,
    "UnitTranslator": UnitTranslator,
    "VolumeUNet": VolumeUNet,
}
