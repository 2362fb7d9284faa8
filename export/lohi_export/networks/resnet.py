"""The CycleGAN generator: residual blocks at a quarter of the resolution.

Zhu et al., ICCV 2017, section 7.2, after Johnson et al., ECCV 2016.
"""

from __future__ import annotations

from torch import Tensor, nn

from lohi_export.networks.instancenorm import InstanceNorm


class ReflectedBlock(nn.Module):
    """x + F(x), F being two 3 x 3 convolutions with InstanceNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_conv_norm(nn.Conv2d(channels, channels, 3)),
            nn.ReflectionPad2d(1),
            *_conv_norm(nn.Conv2d(channels, channels, 3))[:2],
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class ResnetGenerator(nn.Module):
    """(N, channels, H, W) in [-1, 1] -> (N, 1, H, W) in [-1, 1]; H and W multiples of 2**depth.

    c7s1-w, depth times d, `blocks` residual blocks, depth times u, c7s1-1: reflection padding,
    InstanceNorm, transposed convolutions up.

    Args:
        width: channels at full resolution; 64 in the paper.
        depth: number of stride-2 levels; 2 in the paper.
        channels: 1, or an odd number of neighbouring slices.
        blocks: residual blocks; 9 in the paper for images of 256 x 256.
    """

    def __init__(self, width: int = 64, depth: int = 2, channels: int = 1, blocks: int = 9) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        layers = [nn.ReflectionPad2d(3), *_conv_norm(nn.Conv2d(channels, width, 7))]
        for fine in widths[:-1]:
            layers += _conv_norm(nn.Conv2d(fine, 2 * fine, 3, 2, 1))
        layers += [ReflectedBlock(widths[-1]) for _ in range(blocks)]
        for fine in reversed(widths[:-1]):
            layers += _conv_norm(nn.ConvTranspose2d(2 * fine, fine, 3, 2, 1, output_padding=1))
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def _conv_norm(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, InstanceNorm(convolution.out_channels), nn.ReLU()]
