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


class Conv2d(nn.Conv2d):
    """PyTorch's; depthwise and strided, it goes back seven times as fast in bfloat16 on a CPU where it is frozen."""

    def _conv_forward(
        self, x: Float[Tensor, "B C H W"], weight: Float[Tensor, "D c k l"], bias: Float[Tensor, " D"] | None
    ) -> Float[Tensor, "B D h w"]:
        stride, padding = self.stride[0], self.padding[0]
        frozen = not weight.requires_grad and x.requires_grad and x.device.type == "cpu" and x.dtype == torch.bfloat16
        depthwise = self.groups == len(weight) == self.in_channels
        if frozen and depthwise and stride > 1 and padding == (self.kernel_size[0] - 1) / 2:
            return _FrozenDepthwise.apply(x, weight, bias, stride, padding)
        return super()._conv_forward(x, weight, bias)


class _FrozenDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride, ctx.padding = x.shape, stride, padding
        return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """The gradient with zeros between its pixels, convolved by the mirrored kernel: one more forward pass."""
        (weight,), stride = ctx.saved_tensors, ctx.stride
        apart = gradient.new_zeros(ctx.shape).contiguous(memory_format=torch.channels_last)
        apart[:, :, ::stride, ::stride] = gradient
        mirrored = weight.to(gradient).flip(2, 3)
        return F.conv2d(apart, mirrored, padding=ctx.padding, groups=len(weight)), None, None, None, None


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
