from __future__ import annotations

import pytest
import torch
from torch import nn

from lohi_edge.errors import UsageError
from lohi_export.networks import (
    GENERATORS,
    LoHiResGenerator,
    PatchDiscriminator,
    Pix2PixGenerator,
    ResnetGenerator,
    UNet,
    build_generator,
)
from lohi_export.networks.lohiresgan import ResidualBlock


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def blocks(module: nn.Module) -> int:
    return sum(isinstance(m, ResidualBlock) for m in module.modules())


@pytest.mark.parametrize("name", sorted(GENERATORS))
@pytest.mark.parametrize(("channels", "depth"), [(1, 3), (5, 3), (1, 2)])
def test_a_generator_maps_slices_to_one_slice_within_tanh(
    name: str, channels: int, depth: int
) -> None:
    generator = build_generator(name, 4, depth, channels)
    output = generator(10 * torch.randn(2, channels, 24, 40))
    assert output.shape == (2, 1, 24, 40)
    assert output.abs().max() <= 1


def test_edge_width_fits_the_device_and_study_width_has_the_study_size() -> None:
    edge = LoHiResGenerator(width=16).eval()
    macs = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            macs += output.numel() * module.weight[0].numel()

    for module in edge.modules():
        module.register_forward_hook(count)
    with torch.inference_mode():
        edge(torch.zeros(1, 1, 192, 240))
    assert parameters(edge) == 688_705
    assert macs <= 2.2e9
    assert 10e6 < parameters(LoHiResGenerator(width=64)) < 12e6


def test_generators_of_the_papers_sizes_have_the_papers_parameters() -> None:
    # The authors' programs report 54.414 and 11.378 million for images of three colours; two
    # colours less, in and out, are 2 x 2 x 64 4 x 4 and 2 x 2 x 64 7 x 7 filters (and biases).
    millions = {
        "cgan": (Pix2PixGenerator(64, 8), 54.414 - 0.004 - 0.002),
        "cyclegan": (ResnetGenerator(64, 2), 11.378 - 0.0125),
        "unet": (UNet(64, 4), 31.037),  # 31.031 of the plain one and 0.006 of its BatchNorm
    }
    for generator, wanted in millions.values():
        assert parameters(generator) / 1e6 == pytest.approx(wanted, abs=0.002)


def test_the_ablation_has_no_residual_blocks_and_fewer_parameters() -> None:
    full, plain = (build_generator(n, 8, 3, 1) for n in ("lohiresgan", "lohiresgan-plain"))
    assert blocks(full) == 6
    assert blocks(plain) == 0
    assert parameters(plain) < parameters(full) / 3


def test_a_fresh_residual_block_passes_its_input_on() -> None:
    x = torch.rand(2, 8, 6, 6)
    torch.testing.assert_close(ResidualBlock(8)(x), x)


@pytest.mark.parametrize("name", ["lohiresgan", "lohiresgan-plain", "unet"])
def test_a_young_generator_shows_what_is_bright(name: str) -> None:
    """Whose bias began at 0, the brightest that it shows after as many steps is about -0.1."""
    torch.manual_seed(0)
    generator = build_generator(name, 4, 2, 1)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-3, betas=(0.5, 0.999))
    truth = torch.full((4, 1, 32, 32), -1.0)
    truth[:, :, 8:24, 8:24] = -0.3
    truth[:, :, 14:18, 8:24] = 0.9
    for _ in range(150):
        output = generator(truth + 0.3 * torch.randn_like(truth))
        optimizer.zero_grad()
        nn.functional.l1_loss(output, truth).backward()
        optimizer.step()
    with torch.inference_mode():
        assert generator.eval()(truth)[truth > 0.5].mean() > 0.4


def test_output_of_a_constant_input_shows_no_checkerboard() -> None:
    torch.manual_seed(0)
    generator = LoHiResGenerator(width=8).eval()
    with torch.inference_mode():
        inner = generator(torch.full((1, 1, 256, 256), 0.5))[..., 100:156, 100:156]
    assert inner.std() < 1e-6 * max(1.0, float(inner.abs().mean()))


def test_patches_of_the_study_discriminator_are_70_pixels_wide() -> None:
    discriminator = PatchDiscriminator(width=2)
    for module in discriminator.modules():  # normalisation sees the whole image
        if isinstance(module, nn.Sequential):
            for index, layer in enumerate(module):
                if isinstance(layer, nn.InstanceNorm2d):
                    module[index] = nn.Identity()
    image = torch.zeros(1, 1, 192, 192, requires_grad=True)
    scores = discriminator(torch.zeros(1, 1, 192, 192), image)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    assert image.grad is not None
    seen = image.grad[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [70, 70]


def test_the_discriminator_sees_its_condition() -> None:
    torch.manual_seed(0)
    discriminator, image = PatchDiscriminator(3, 4), torch.randn(1, 1, 64, 64)
    one, other = (discriminator(torch.randn(1, 3, 64, 64), image) for _ in range(2))
    assert not torch.allclose(one, other)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UsageError, match=r"lohiresgan.*got 'unet2'"):
        build_generator("unet2", 4, 3, 1)


@pytest.mark.parametrize("name", ["lohiresgan", "cgan", "cyclegan", "unet", "discriminator"])
@pytest.mark.parametrize("batch", [1, 2])
def test_gradients_do_not_depend_on_the_memory_layout(name: str, batch: int) -> None:
    torch.manual_seed(0)
    judge = name == "discriminator"
    network = PatchDiscriminator(0, 4) if judge else build_generator(name, 4, 2, 1)
    images = torch.randn(batch, 1, 32, 32)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        inputs = [images.clone(memory_format=layout).requires_grad_()]
        network = network.to(memory_format=layout)  # type: ignore[call-overload]
        network.zero_grad()
        output = network(*([inputs[0][:, :0]] if judge else []), *inputs)
        ((output - 0.3) ** 2).mean().backward()
        gradients.append([inputs[0].grad, *(p.grad for p in network.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
