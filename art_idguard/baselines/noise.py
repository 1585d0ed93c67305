"""Noise and a shift of brightness within epsilon: what a bound alone does."""

import torch

from art_idguard.baselines.base import Protection, face_generator
from art_idguard.baselines.setting import Baseline
from art_idguard.data.faces import FaceBatch
from art_idguard.images import project
from art_idguard.types import Images


def uniform_noise(*, epsilon: float, seed: int = 0) -> Protection:
    """Uniform noise in the ball: what a perturbation of this size does without an aim.

    Examples:
        >>> batch = FaceBatch(torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), torch.zeros(1, 5, 2), None, None)
        >>> bool(uniform_noise(epsilon=0.05)(batch).abs().max() < 0.0501)
        True
    """

    def protect(batch: FaceBatch) -> Images:
        noise = torch.rand(batch.images.shape, generator=face_generator(batch.images, seed))
        return project(batch.images + epsilon * (2 * noise - 1).to(batch.images), batch.images, epsilon)

    return protect


def brightness(*, epsilon: float) -> Protection:
    """Every pixel brighter by epsilon, clamped: what a tint does that any manipulator passes on.

    Examples:
        >>> batch = FaceBatch(torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), torch.zeros(1, 5, 2), None, None)
        >>> brightness(epsilon=0.05)(batch).unique()
        tensor([0.0500])
    """

    def protect(batch: FaceBatch) -> Images:
        return project(batch.images + epsilon, batch.images, epsilon)

    return protect


def sign_noise(*, epsilon: float, seed: int = 0) -> Protection:
    """Epsilon with a random sign at every pixel and channel, clamped: the strongest noise in the ball.

    Examples:
        >>> batch = FaceBatch(torch.zeros(1, 3, 32, 32), torch.zeros(1, 5), torch.zeros(1, 5, 2), None, None)
        >>> sign_noise(epsilon=0.05)(batch).unique()
        tensor([-0.0500,  0.0500])
    """

    def protect(batch: FaceBatch) -> Images:
        signs = 2 * torch.randint(2, batch.images.shape, generator=face_generator(batch.images, seed)) - 1
        return project(batch.images + epsilon * signs.to(batch.images), batch.images, epsilon)

    return protect


BASELINE = Baseline(lambda setting: {"Uniform noise": uniform_noise(epsilon=setting.epsilon, seed=setting.seed)})
