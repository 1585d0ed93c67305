"""Noise and a shift of brightness within epsilon: what a bound alone does."""

import torch

from art_idguard.baselines.base import Protection, face_generator
from art_idguard.baselines.setting import Baseline
from art_idguard.data.faces import FaceBatch
from art_idguard.images import project
from art_idguard.types import Images


def uniform_noise(*, epsilon: float, seed: int = 0) -> Protection:
    """Uniform noise in the ball: what a perturbation of this size does without an aim."""

    def protect(batch: FaceBatch) -> Images:
        noise = torch.rand(batch.images.shape, generator=face_generator(batch.images, seed))
        return project(batch.images + epsilon * (2 * noise - 1).to(batch.images), batch.images, epsilon)

    return protect


def brightness(*, epsilon: float) -> Protection:
    """Every pixel brighter by epsilon, clamped: what a tint does that any manipulator passes on."""

    def protect(batch: FaceBatch) -> Images:
        return project(batch.images + epsilon, batch.images, epsilon)

    return protect


def sign_noise(*, epsilon: float, seed: int = 0) -> Protection:
    """Epsilon with a random sign at every pixel and channel, clamped: the strongest noise in the ball."""

    def protect(batch: FaceBatch) -> Images:
        signs = 2 * torch.randint(2, batch.images.shape, generator=face_generator(batch.images, seed)) - 1
        return project(batch.images + epsilon * signs.to(batch.images), batch.images, epsilon)

    return protect


BASELINE = Baseline(lambda setting: {"Uniform noise": uniform_noise(epsilon=setting.epsilon, seed=setting.seed)})
