"""The systems of the study: what each is, where it comes from, and its paper's settings.

The generators themselves are in `networks.GENERATORS` and the training in `objective.build`, by
the same names; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lohi_edge.errors import UsageError

LOSSES = ("adversarial", "l1", "ssim", "cycle", "identity")


@dataclass(frozen=True)
class Model:
    """A system of the study.

    Attributes:
        title: a few words for tables.
        citation: the paper whose losses and rates the defaults are.
        losses: the losses it has; the others' weights must be 0.
        paired: learns from pairs; otherwise from two heaps of slices.
        conditional: its discriminator sees the generator's input as well.
        defaults: configuration keys whose default differs from `TrainConfig`'s.
    """

    title: str
    citation: str
    losses: tuple[str, ...] = ("adversarial", "l1", "ssim")
    paired: bool = True
    conditional: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)


_ISOLA = "Isola et al., Image-to-image translation with conditional adversarial networks, CVPR 2017"
_PIX2PIX = {"depth": 4, "lr": 2e-4, "ssim": 0.0, "gan_loss": "logistic"}

MODELS: dict[str, Model] = {
    "lohiresgan": Model(
        "LoHiResGAN",
        "Islam et al., Improving portable low-field MRI image quality through image-to-image "
        "translation using paired low- and high-field images, Sci Rep 13, 21183, 2023",
    ),
    "lohiresgan-plain": Model(
        "LoHiResGAN without ResNet components",
        "Islam et al., Sci Rep 13, 21183, 2023 (ablation)",
    ),
    "cgan": Model("cGAN (pix2pix)", _ISOLA, defaults=_PIX2PIX),
    "gan": Model(
        "GAN with an unconditional discriminator",
        f"Goodfellow et al., Generative adversarial nets, NIPS 2014; L1 + GAN of {_ISOLA}",
        conditional=False,
        defaults=_PIX2PIX,
    ),
    "cyclegan": Model(
        "CycleGAN",
        "Zhu et al., Unpaired image-to-image translation using cycle-consistent adversarial "
        "networks, ICCV 2017",
        losses=("adversarial", "cycle", "identity"),
        paired=False,
        conditional=False,
        defaults={
            "depth": 2,
            "batch": 1,
            "crop": 0,
            "lr": 2e-4,
            "l1": 0.0,
            "ssim": 0.0,
            "cycle": 10.0,
            "identity": 5.0,
        },
    ),
    "unet": Model(
        "U-Net",
        "Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, "
        "MICCAI 2015",
        losses=("l1", "ssim"),
        defaults={"depth": 4, "adversarial": 0.0},
    ),
}


def find(name: str) -> Model:
    """The model of that name.

    Raises:
        UsageError: there is none; names those that are.
    """
    if name not in MODELS:
        raise UsageError(f"expected a model of {sorted(MODELS)}, got {name!r}")
    return MODELS[name]
