"""RelGAN (Wu et al., ICCV 2019): edits are differences of labels, normalisation is switchable."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.manipulators.base import Manipulator
from art_idguard.manipulators.layers import InstanceNorm, halving_convolutions, moments, scale_and_shift
from art_idguard.manipulators.stargan_family import edited_labels
from art_idguard.types import ATTRIBUTES, Attributes, Edit, Images, Manipulation


class SwitchNorm(nn.Module):
    """Switchable normalisation (Luo et al., ICLR 2019): instance, layer and batch statistics mixed.

    The batch statistics are the running ones, whatever the mode, unless `use_batch_statistics` is
    set: then they are the batch's own, and the running ones follow with momentum 0.9.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(1, channels, 1))
        self.register_buffer("running_var", torch.zeros(1, channels, 1))
        self.use_batch_statistics = False

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """(x - mean) / sqrt(var + 1e-5) * weight + bias, with the mixed mean and variance."""
        mean_in, var_in = moments(x)
        square_in = var_in + mean_in**2
        mean_ln, var_ln = _pooled(mean_in, square_in, dim=1)
        if self.use_batch_statistics:
            mean_bn, var_bn = _pooled(mean_in, square_in, dim=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean_bn.unsqueeze(-1).to(self.running_mean), 0.1)
                self.running_var.lerp_(var_bn.unsqueeze(-1).to(self.running_var), 0.1)
        else:
            mean_bn, var_bn = self.running_mean[..., 0], self.running_var[..., 0]
        m, v = self.mean_weight.softmax(0), self.var_weight.softmax(0)
        mean = m[0] * mean_in + m[1] * mean_ln + m[2] * mean_bn
        var = v[0] * var_in + v[1] * var_ln + v[2] * var_bn
        scale = self.weight[..., 0, 0] * torch.rsqrt(var + 1e-5)
        return scale_and_shift(x, scale, self.bias[..., 0, 0] - mean * scale)


Norm = Literal["switchable", "instance"]
_NORMS: dict[Norm, Callable[[int], nn.Module]] = {"switchable": SwitchNorm, "instance": InstanceNorm}


def _pooled(
    mean: Float[Tensor, "B C"], square: Float[Tensor, "B C"], *, dim: int
) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Mean and variance over a dimension too, from each map's mean and mean square."""
    pooled = mean.mean(dim, keepdim=True)
    return pooled, square.mean(dim, keepdim=True) - pooled**2


class Residual(nn.Module):
    """x + norm(conv(ReLU(norm(conv(x)))))."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "switchable"
        self.f = nn.Sequential(
            *_stage(nn.Conv2d(channels, channels, 3, padding=1, bias=bias), norm),
            nn.Conv2d(channels, channels, 3, padding=1, bias=bias),
            _NORMS[norm](channels),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The input plus what the block learnt."""
        return x + self.f(x)


def _stage(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: Norm) -> nn.Sequential:
    return nn.Sequential(convolution, _NORMS[norm](convolution.out_channels), nn.ReLU(inplace=True))


class RelGAN(Manipulator):
    """A generator told what to change: +1 adds an attribute, -1 removes it, 0 leaves it.

    Layout of elvisyjlin/RelGAN-PyTorch 8e432d01b5 (CC BY-NC 4.0).

    Args:
        channels: width of the first layer.
        blocks: residual blocks; E_k ends after the first half of them.
        sign: +1 if the weights were trained on target - source vectors, as in the paper; -1 if on
            source - target, as the PyTorch repository does. Edits mean target - source either way.
        norm: switchable, or instance without biases: the variant of the paper's gray box (Table VI).
    """

    name: ClassVar[str] = "relgan"
    multiple = 4

    def __init__(
        self, *, channels: int = 64, blocks: int = 6, sign: Literal[1, -1] = 1, norm: Norm = "switchable"
    ) -> None:
        super().__init__()
        c = channels
        self.sign = sign
        conv = partial(nn.Conv2d, bias=norm == "switchable")
        transposed = partial(nn.ConvTranspose2d, bias=norm == "switchable")
        self.conv_in = _stage(conv(3 + len(ATTRIBUTES), c, 7, padding=3), norm)
        self.down1 = _stage(conv(c, 2 * c, 4, stride=2, padding=1), norm)
        self.down2 = _stage(conv(2 * c, 4 * c, 4, stride=2, padding=1), norm)
        self.resb = nn.Sequential(*(Residual(4 * c, norm) for _ in range(blocks)))
        self.up2 = _stage(transposed(4 * c, 2 * c, 4, stride=2, padding=1), norm)
        self.up1 = _stage(transposed(2 * c, c, 4, stride=2, padding=1), norm)
        self.conv_out = nn.Sequential(conv(c, 3, 7, padding=3))

    def use_batch_statistics(self, enabled: bool = True) -> Self:
        """For training only: normalise by the batch's own statistics and track them.

        Deviates: officially train() and eval() do this; here neither changes the picture.
        """
        for module in self.modules():
            if isinstance(module, SwitchNorm):
                module.use_batch_statistics = enabled
        return self

    def forward(self, x: Images, edit: Edit) -> Manipulation:
        """Eq. (1): the face changed by the relative vector `edit.condition` (target - source)."""
        vector = (self.sign * edit.condition).to(x)[:, :, None, None]
        h = torch.cat((x, vector.expand(len(x), -1, *x.shape[2:])), 1)
        half = len(self.resb) // 2
        features = self.resb[:half](self.down2(self.down1(self.conv_in(h))))
        raw = self.conv_out(self.up1(self.up2(self.resb[half:](features))))
        return Manipulation(raw.to(x.dtype).tanh(), features)

    def edits(self, attributes: Attributes) -> tuple[Edit, ...]:
        """The labels that StarGAN's rule asks for, minus the face's own.

        Deviates: official ID-Guard feeds five fixed vectors, whatever the face shows (Male +1,
        Blond -1, Black -1, Male -1, Young -1 in the source - target sign; no brown hair). The paper
        lists black, blond and brown hair, gender and age.
        """
        return tuple(Edit(name, target - attributes) for name, target in edited_labels(attributes))

    def inverse_edit(self, edit: Edit, x: Images, attributes: Attributes) -> Edit:
        """The opposite direction."""
        return Edit(edit.name, -edit.condition)


class RelGANDiscriminator(nn.Module):
    """RelGAN's three discriminators on one trunk. Layout of elvisyjlin/RelGAN-PyTorch 8e432d01b5.

    Args:
        channels: width of the first layer, doubled by each further one.
        layers: strided convolutions.
    """

    def __init__(self, *, channels: int = 64, layers: int = 6) -> None:
        super().__init__()
        width = channels * 2 ** (layers - 1)
        self.convs = halving_convolutions(channels, layers)
        self.conv_adv = nn.Conv2d(width, 1, 1)
        self.conv_int = nn.Conv2d(width, 16, 1)
        self.convs_cls = nn.Sequential(
            nn.Conv2d(2 * width + len(ATTRIBUTES), width, 1),
            nn.LeakyReLU(0.01, inplace=True),
            nn.Conv2d(width, 1, 1),
        )

    def forward(
        self, source: Images, target: Images, vector: Attributes
    ) -> tuple[Float[Tensor, "B 1 h w"], Float[Tensor, "B 1 h w"]]:
        """Realness of the target, and whether the vector leads from source to target, by patches.

        The vector has the sign that the generator's weights were trained on.
        """
        before, after = self.convs(source), self.convs(target)
        return self.conv_adv(after), self.match(before, after, vector)

    def match(
        self, before: Float[Tensor, "B D h w"], after: Float[Tensor, "B D h w"], vector: Attributes
    ) -> Float[Tensor, "B 1 h w"]:
        """Whether the vector leads from source to target, from the trunk's features of both."""
        tiled = vector.to(after)[:, :, None, None].expand(-1, -1, *after.shape[2:])
        return self.convs_cls(torch.cat((before, after, tiled), 1))

    def degree(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B 1"]:
        """How far a face is from the nearer end of an interpolated edit, from the trunk's features."""
        return self.conv_int(features).mean((1, 2, 3)).unsqueeze(1)

    def interpolation(self, x: Images) -> Float[Tensor, "B 1"]:
        """How far a face is from the nearer end of an interpolated edit."""
        return self.degree(self.convs(x))
