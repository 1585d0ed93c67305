"""Layers that are faster where they are frozen do what PyTorch's do."""

import pytest
import torch
from torch import nn

from art_idguard.recognizers import SFace
from art_idguard.recognizers.layers import Normalised, PReLU


def through(layer, x, gradient):
    x = x.detach().requires_grad_()
    y = layer(x)
    return y, *torch.autograd.grad(y, x, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5, 4, 4), (3, 5), (3, 5, 2, 6)])
@pytest.mark.parametrize("slopes", [1, 5])
def test_frozen_prelu_is_pytorchs_bit_for_bit(dtype, shape, slopes):
    x = torch.randn(shape).to(dtype)
    x[0, 0], x[1, 1] = 0.0, -0.0
    theirs, ours = nn.PReLU(slopes), PReLU(slopes)
    for layer in (theirs, ours):
        layer.to(dtype).requires_grad_(False).weight.copy_(torch.linspace(-0.3, 1.4, slopes))
    for a, b in zip(through(ours, x, g := torch.randn_like(x)), through(theirs, x, g), strict=True):
        assert torch.equal(a, b)


def test_prelu_that_is_trained_finds_its_slopes_gradient():
    layer, x = PReLU(4), torch.randn(2, 4, 3, 3)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.clamp(max=0).sum((0, 2, 3)))


def test_prelu_under_autocast_keeps_the_dtype_of_the_gradient():
    layer = PReLU(4).requires_grad_(False)
    x = torch.randn(2, 4, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    (gradient,) = torch.autograd.grad(y.float().sum(), x)
    assert gradient.dtype == torch.bfloat16


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 6)])
def test_a_frozen_convolution_takes_its_normalisation_in(stride, groups):
    layer = Normalised(
        nn.Conv2d(6, 6, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(6, eps=1e-3), PReLU(6)
    ).double()
    for _ in range(3):
        layer(torch.randn(4, 6, 8, 8, dtype=torch.float64))  # statistics that are not 0 and 1
    nn.init.normal_(layer[1].weight)
    nn.init.normal_(layer[1].bias)
    layer.eval().requires_grad_(False)
    x, g = (
        torch.randn(2, 6, 8, 8, dtype=torch.float64),
        torch.randn(2, 6, 8 // stride, 8 // stride, dtype=torch.float64),
    )
    asked = []
    handle = layer[1].register_forward_hook(lambda *_: asked.append(1))
    ours = through(layer, x, g)
    assert not asked
    handle.remove()
    for a, b in zip(ours, through(nn.Sequential(*layer), x, g), strict=True):
        torch.testing.assert_close(a, b)


def test_a_recogniser_that_is_fine_tuned_gets_its_gradients():
    recognizer = SFace(width=2).requires_grad_()
    recognizer(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in recognizer.parameters())
