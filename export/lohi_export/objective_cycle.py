"""Learning from two heaps of slices without pairs: CycleGAN (Zhu et al., ICCV 2017)."""

from __future__ import annotations

import torch
from numpy.random import Generator as Random
from torch import Tensor, nn
from torch.nn import functional as F

from lohi_export import processes
from lohi_export.adversary import fooled, judge
from lohi_export.config import TrainConfig
from lohi_export.updates import Networks

POOL = 50  # generated images kept, as in the paper


class ImagePool(nn.Module):
    """Generated images of the last steps, to show a discriminator some that are older.

    After Shrivastava et al., CVPR 2017, as CycleGAN does it: until the pool is full every image is
    kept and shown; then half of the images are swapped against one drawn from the pool.
    Its buffers are its whole state.

    Args:
        size: images (1, height, width) kept; 0 shows what comes.
    """

    def __init__(self, height: int, width: int, size: int = POOL) -> None:
        super().__init__()
        self.images: Tensor
        self.count: Tensor
        self.register_buffer("images", torch.zeros(size, 1, height, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor, rng: Random) -> Tensor:
        """Images (N, 1, H, W) in, as many to be judged out."""
        shown = []
        for image in images:
            number = int(self.count)
            if number < len(self.images):
                self.images[number] = image
                self.count += 1
            elif number and rng.random() < 0.5:
                place = int(rng.integers(number))
                older = self.images[place].clone()
                self.images[place] = image
                image = older
            shown.append(image)
        return torch.stack(shown)


class CycleGan:
    """Two generators, low field to high and back, each against a discriminator of its images.

    Generators: adversarial (least squares) + cycle * L1 of there and back again + identity * L1 of
    what each makes of its own kind, both ways summed. The paper's weights are 1, 10 and 5 (half of
    the cycle's). Discriminators: half the sum of their losses on real and pooled images.
    """

    def __init__(self, networks: Networks, config: TrainConfig) -> None:
        self.networks, self.config = networks, config
        height, width = (config.crop or side for side in (config.height, config.width_px))
        device = next(networks.modules["generator"].parameters()).device
        self.memory: dict[str, nn.Module] = {
            name: ImagePool(height, width).to(device) for name in ("pool", "pool_back")
        }

    def step(self, source: Tensor, target: Tensor, rng: Random) -> dict[str, float]:
        # InstanceNorm keeps the images of a batch apart, so a generator takes two in one pass.
        high, same_high = self.networks("generator", torch.cat([source, target])).chunk(2)
        low, same_low = self.networks("generator_back", torch.cat([target, source])).chunk(2)
        high_again = self.networks("generator", low)
        low_again = self.networks("generator_back", high)
        losses = {
            "cycle": F.l1_loss(low_again, source) + F.l1_loss(high_again, target),
            "identity": F.l1_loss(same_high, target) + F.l1_loss(same_low, source),
            "adversarial": self._fooled("discriminator", high)
            + self._fooled("discriminator_back", low),
        }
        losses["generator"] = torch.stack(
            [getattr(self.config, name) * loss for name, loss in losses.items()]
        ).sum()
        self.networks.update(losses["generator"], "generator", "generator_back")
        losses["discriminator"] = self._judge("discriminator", "pool", target, high, rng)
        losses["discriminator_back"] = self._judge(
            "discriminator_back", "pool_back", source, low, rng
        )
        return {name: loss.item() for name, loss in losses.items()}

    def _fooled(self, name: str, images: Tensor) -> Tensor:
        return fooled(self.networks, name, images[:, :0], images, self.config.gan_loss)

    def _judge(self, name: str, pool: str, real: Tensor, fake: Tensor, rng: Random) -> Tensor:
        # One pool for all processes: the same as that of one process with the whole batch.
        shown = processes.share(self.memory[pool](processes.gathered(fake.detach()), rng))
        return judge(self.networks, name, real[:, :0], real, shown, self.config.gan_loss)
