"""Layers of recognisers that are frozen and gone back through all the time."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights


class PReLU(nn.PReLU):
    """PyTorch's, whose way back on a CPU finds the slopes' gradient, too; where they are frozen, six times as fast."""

    def forward(self, x: Float[Tensor, "B C *s"]) -> Float[Tensor, "B C *s"]:
        """Positive values as they are, others times their channel's slope."""
        if self.weight.requires_grad or not x.requires_grad or x.device.type != "cpu":
            return super().forward(x)
        return _FrozenPReLU.apply(x, self.weight)


class _FrozenPReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(x, slopes)
        return F.prelu(x, slopes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Vectorised, as `where` is not: the gradient where x > 0, plus the rest of it times the slopes."""
        x, slopes = ctx.saved_tensors
        positive = torch.ops.aten.threshold_backward(gradient, x, 0)
        slopes = slopes.to(gradient).reshape(-1, *(1,) * (x.ndim - 2))
        return positive.addcmul(gradient - positive, slopes), None


class Normalised(nn.Sequential):
    """Convolution without bias, BatchNorm, and what follows; frozen, the first two are one convolution."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """As the layers one by one, to rounding."""
        convolution, norm, *others = self
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        if norm.training or convolution.weight.requires_grad:
            return super().forward(x)
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        fused = fuse_conv_bn_weights(convolution.weight, None, mean, variance, norm.eps, norm.weight, norm.bias)
        x = convolution._conv_forward(x, *fused)
        for layer in others:
            x = layer(x)
        return x
