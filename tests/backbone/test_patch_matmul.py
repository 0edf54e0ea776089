"""The patch embedding as a matrix product."""

import torch
from tiny import make_tiny_model

from stages.backbone.patches import PatchMatmul
from stages.backbone.qwen import encode_images


def test_the_tower_sees_the_same_with_and_without() -> None:
    visual = make_tiny_model().model.visual
    images = torch.randint(0, 256, (2, 3, 56, 84), dtype=torch.uint8)
    convolved = encode_images(visual, images)
    with PatchMatmul():
        multiplied = encode_images(visual, images)
    torch.testing.assert_close(multiplied, convolved, atol=2e-6, rtol=1e-5)


def test_the_weight_gets_the_same_gradient() -> None:
    patches = torch.randn(5, 3, 2, 4, 4)
    kernel = torch.nn.Conv3d(3, 7, (2, 4, 4))
    kernel(patches).square().sum().backward()
    convolved = kernel.weight.grad.clone()
    kernel.zero_grad()
    with PatchMatmul():
        out = kernel(patches)
    out.square().sum().backward()
    assert out.shape == (5, 7, 1, 1, 1)
    torch.testing.assert_close(kernel.weight.grad, convolved, atol=1e-4, rtol=1e-4)


def test_a_kernel_that_slides_is_left_to_the_convolution() -> None:
    image = torch.randn(1, 1, 2, 5, 5)
    kernel = torch.nn.Conv3d(1, 1, (2, 2, 2))
    with PatchMatmul():
        assert torch.equal(kernel(image), kernel(image))
        assert kernel(image).shape == (1, 1, 1, 4, 4)
