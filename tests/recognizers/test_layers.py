"""Layers that are faster where they are frozen do what PyTorch's do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from art_idguard.recognizers import SFace
from art_idguard.recognizers.layers import Conv2d, Normalised, PReLU


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


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 4)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_frozen_depthwise_convolution_goes_back_as_pytorchs(dtype, stride, kernel, size):
    theirs, ours = (layer(6, 6, kernel, stride, kernel // 2, groups=6) for layer in (nn.Conv2d, Conv2d))
    ours.load_state_dict(theirs.state_dict())
    for layer in (theirs, ours):
        layer.to(dtype).requires_grad_(False)
    x = torch.randn(2, 6, *size, dtype=dtype)
    gradient = torch.randn_like(theirs(x))  # of which a wrong pixel would show
    (y, a), (expected, b) = (through(layer, x, gradient) for layer in (ours, theirs))
    assert torch.equal(y, expected)
    assert (a - b).norm() <= (1e-2 if dtype == torch.bfloat16 else 0) * b.norm()


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_a_convolution_that_is_trained_finds_its_weights_gradient(groups):
    layer, x = Conv2d(6, 6, 3, 2, 1, groups=groups), torch.randn(2, 6, 8, 8, requires_grad=True)
    layer(x).square().sum().backward()
    expected = torch.autograd.grad(
        F.conv2d(x, layer.weight, layer.bias, 2, 1, groups=groups).square().sum(), [x, *layer.parameters()]
    )
    for found, wanted in zip((x, *layer.parameters()), expected, strict=True):
        torch.testing.assert_close(found.grad, wanted)


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 6)])
def test_a_frozen_convolution_takes_its_normalisation_in(stride, groups):
    layer = Normalised(
        Conv2d(6, 6, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(6, eps=1e-3), PReLU(6)
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
