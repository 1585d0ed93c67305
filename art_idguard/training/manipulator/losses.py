"""The published losses of the five manipulators, as functions of scores, pictures and kernels.

StarGAN (Choi et al., CVPR 2018; yunjey/stargan), AttentionGAN and Fixed-Point GAN share the first ones, RelGAN
(Wu et al., ICCV 2019; elvisyjlin/RelGAN-PyTorch) has the next, HiSD (Li et al., CVPR 2021; imlixinyang/HiSD) the
last ones. Every function returns what is to be minimised, without its weight.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.types import Images

Loss = Float[Tensor, ""]
Scores = Float[Tensor, "*s"]


def wasserstein(real: Scores, fake: Scores) -> Loss:
    """The critic's loss of WGAN: fake pictures low, real ones high."""
    return fake.mean() - real.mean()


def gradient_penalty(
    critic: Callable[[Images], Scores], real: Images, fake: Images, mix: Float[Tensor, "B 1 1 1"]
) -> Loss:
    """WGAN-GP: the mean of (||gradient of an image's summed scores|| - 1)^2 between real and fake pictures.

    Differentiated twice, so it leaves autocast: in bf16 the second derivative is too coarse.

    Args:
        critic: scores of pictures.
        real: faces on the [-1, 1] scale.
        fake: as many forged ones.
        mix: the share of the real picture in each mixture.
    """
    with torch.autocast(real.device.type, enabled=False):
        mixed = (mix * real + (1 - mix) * fake).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()


def classification(logits: Float[Tensor, "B A"], labels: Float[Tensor, "B A"]) -> Loss:
    """Binary cross-entropy, summed over the attributes and averaged over the faces."""
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)


def least_squares(scores: Scores, target: float) -> Loss:
    """LSGAN: the mean squared distance of scores from what they should be."""
    return ((scores - target) ** 2).mean()


def interpolation(
    alpha: Float[Tensor, "B 1"], between: Float[Tensor, "B 1"], none: Float[Tensor, "B 1"], full: Float[Tensor, "B 1"]
) -> Loss:
    """RelGAN: a face between no edit and the full one should score its distance from the nearer end, the end 0.

    Args:
        alpha: how much of the edit was made.
        between: scores of the faces with that much.
        none: scores of the faces with none of it.
        full: scores of the faces with all of it.
    """
    near = alpha < 0.5
    distance = torch.where(near, alpha, 1 - alpha)
    return ((distance - between) ** 2 + torch.where(near, none, full) ** 2).mean()


def orthogonality(kernels: Iterable[Float[Tensor, "_ _ _ _"]]) -> Loss:
    """RelGAN: squared off-diagonal products of the columns of W, the matrix at each place of each kernel.

    1x1 kernels are left out.
    """
    matrices = [kernel.permute(2, 3, 0, 1) for kernel in kernels if kernel.shape[-1] > 1]
    products = [matrix.mT @ matrix for matrix in matrices]
    return torch.stack([p.square().sum() - p.diagonal(dim1=-2, dim2=-1).square().sum() for p in products]).sum()


def hinge(scores: Scores, sign: int) -> Loss:
    """The discriminator's hinge: scores of real pictures (sign 1) above 1, of fake ones (sign -1) below -1."""
    return F.relu(1 - sign * scores).mean()


def squared_gradient(scores: Float[Tensor, " B"], pictures: Images) -> Loss:
    """R1: the mean over the pictures of the summed squares of the score's gradient by the picture.

    Args:
        scores: one for each picture.
        pictures: leaf that the scores were computed from.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), pictures, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
