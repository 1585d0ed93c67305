"""Anti-Forgery (Wang et al. 2022): colour is changed, lightness is not."""

from collections.abc import Callable

import torch
from torch import Tensor

from art_idguard.baselines.base import Protection, face_generator, forgeries, forgery_distance
from art_idguard.baselines.setting import Baseline, BaselineSetting, Rows
from art_idguard.data.faces import FaceBatch
from art_idguard.images import project, to_signed, to_unit
from art_idguard.perturbation.gradients import differentiate, is_steep, warn_if_flat
from art_idguard.perturbation.pgd import JITTER
from art_idguard.types import Images

AB_UNIT = 110.0
"""The unit in which Anti-Forgery measures a and b."""


def anti_forgery(
    objective: Callable[[Images], Tensor],
    x: Images,
    *,
    epsilon: float | None = None,
    colour_bound: float = 0.05,
    steps: int = 100,
    lr: float = 2e-3,
    generator: torch.Generator | None = None,
) -> Images:
    """Adam on the a and b channels of CIE Lab (D65, kornia's conversion).

    This does not bound RGB: the default moves a channel by up to 0.7 on the [-1, 1] scale (0.18 on average over
    random colours). Where the new colour is none of sRGB it is clipped, which changes lightness as well.

    Deviates: lr is 2e-3; with the official 1e-4 a hundred steps use at most a fifth of the bound. Starts beside x,
    since the gradient at x itself is zero.

    Args:
        objective: what to maximise, of faces like x: a scalar, or values that are summed.
        x: faces on the [-1, 1] scale.
        epsilon: L-inf bound in RGB on the [-1, 1] scale, kept at every step; the official attack has none.
        colour_bound: of the changes of a and b, in units of 110.
        steps: of Adam.
        lr: of Adam, in units of 110.
        generator: source of the start, on the CPU.

    Returns:
        Faces in [-1, 1], detached. A `NullAttackWarning` says where no step found a gradient.

    Raises:
        IDGuardError: the objective has no gradient at all.
    """
    from kornia.color import lab_to_rgb, rgb_to_lab  # not on every training machine

    lightness, colour = rgb_to_lab(to_unit(x)).split([1, 2], dim=1)
    start = JITTER * (2 * torch.rand(colour.shape, generator=generator) - 1)
    change = start.to(x).requires_grad_()
    optimizer = torch.optim.Adam([change], lr=lr, maximize=True)

    def recoloured() -> Images:
        picture = to_signed(lab_to_rgb(torch.cat((lightness, colour + AB_UNIT * change), dim=1)))
        return picture if epsilon is None else project(picture, x, epsilon)

    steep = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for _ in range(steps):
        with torch.enable_grad():
            change.grad = differentiate(objective(recoloured()), change)
        steep |= is_steep(change.grad)
        optimizer.step()
        change.data.clamp_(-colour_bound, colour_bound)
    if steps:
        warn_if_flat(steep)
    return recoloured().detach()


STEPS = 100
"""The published number, two minutes for a face on a CPU core; epsilon is kept in RGB as well."""


def _rows(setting: BaselineSetting) -> Rows:
    def against(name: str) -> Protection:
        target = setting.targets[name]

        def protect(batch: FaceBatch) -> Images:
            x = batch.images
            return anti_forgery(
                forgery_distance(forgeries(target, target.edits(batch.attributes)), x),
                x,
                epsilon=setting.epsilon,
                steps=STEPS,
                generator=face_generator(x, setting.seed),
            )

        return protect

    return setting.each("Anti-Forgery", against)


BASELINE = Baseline(_rows, lambda setting: {"steps": STEPS})
