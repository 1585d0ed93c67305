"""Beyond the paper: PGD on Eq. (9) for the very face at hand, from the generator's answer on.

The paper protects in one forward pass. Here that pass is the start of an attack on all manipulators together. It takes
seconds for a face where the pass takes milliseconds, and does far more to the manipulators that it knows. What it adds
is a fine pattern that survives no resampling, unless every step looks through another one (`augment`; expectation over
transformations, Athalye et al., ICML 2018).
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from art_idguard import recognizers
from art_idguard.data import FaceBatch, find_points
from art_idguard.errors import IDGuardError
from art_idguard.faces import arcface_frame, celeba_points
from art_idguard.images import project, to_uint8
from art_idguard.losses import LossConfig
from art_idguard.manipulators.base import Manipulator
from art_idguard.objective import Reference, distorted, objective, reference
from art_idguard.perturbation import Protector
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import Scene, heat_map, scene
from art_idguard.robustness import NOTHING, Distortion, draw, require_known
from art_idguard.types import ATTRIBUTES, Edit, Images, Protected

LOSS = LossConfig(mask_weight=1000.0, identity_weight=1.0, feature_weight=0.01)
"""On 10 faces of CelebA's training split, 20 steps without momentum, networks in bf16: mean L2_face 0.0259, the worst
model's 0.0037, similarity 0.458; with mask weight 700, 0.0253, 0.0034, 0.391."""

POWER = 0.25
"""A manipulator's gradient counts by this power of its length: at 1 StarGAN's drowns the others', 0 makes all equal."""

MOMENTUM = 0.5
"""What a step keeps of the directions before it (Dong et al., CVPR 2018), which were other edits'.

On 12 faces of CelebA's test split, networks in bf16: mean L2_face 0.0178, the worst model's 0.0027, similarity 0.511;
with `POWER` 1, 0.0250, 0.0016, 0.756; with both at 0, 0.0147, 0.0044, 0.474.
"""

PHOTO = ("crop", "crop", "resize")
"""What a face goes through from the photo to a manipulator: framed by others, and resampled."""


class RefinedProtector(Protector):
    """A protector whose protected faces are improved by PGD against manipulators that are at hand.

    Protects as a `Protector` does, wherever one is asked for, such as in `IDGuardAttack` and `evaluate`.
    The manipulators' edits take turns, one a step; one manipulator's graph lives at a time. Faces need not have
    labels; where no face is found, CelebA's framing is assumed. P-Pert stays as it is.

    Args:
        protector: where to begin; its epsilon is the bound.
        manipulators: frozen; those to protect against.
        recognizer: frozen; whom it must not recognise. By default the one that ships.
        steps: of sign ascent on all L_k^adv of Eq. (9); see `POWER` and `MOMENTUM`.
        step_size: length of the first step in every pixel, on the [-1, 1] scale; it falls linearly.
        augment: what faces go through on their way to the manipulators, names of `robustness.OPERATIONS`, one a step;
            by default they arrive as they are. For photos, see `PHOTO`.
        verbose: show a progress bar.

    Raises:
        IDGuardError: no manipulators, a negative number of steps, or an unknown operation.
    """

    def __init__(
        self,
        protector: Protector,
        manipulators: Sequence[Manipulator],
        recognizer: Recognizer | None = None,
        *,
        steps: int = 20,
        step_size: float = 0.05,
        augment: Sequence[str] = (),
        verbose: bool = False,
    ) -> None:
        if not manipulators or steps < 0:
            raise IDGuardError(f"expected manipulators and at least 0 steps, found {len(manipulators)} and {steps}")
        require_known(augment)
        nn.Module.__init__(self)  # the weights are the other's
        self.start, self.prior, self.epsilon = protector, protector.prior, protector.epsilon
        self.manipulators = nn.ModuleList(manipulators)
        self.recognizer = recognizers.default() if recognizer is None else recognizer
        self.steps, self.step_size, self.augment, self.verbose = steps, step_size, augment, verbose

    @torch.no_grad()
    def forward(self, x: Images) -> Protected:
        """Both protected versions; the generator's is refined, detached."""
        start = self.start(x)
        objectives = _Objectives(list(self.manipulators), self.recognizer, _faces(x))  # type: ignore[arg-type]  # all Manipulators
        refined, direction = start.specific, torch.zeros_like(x)
        for step in tqdm(range(self.steps), "refining", disable=not self.verbose, leave=False):
            direction = MOMENTUM * direction + objectives.ascent(refined, step, draw(self.augment, seed=step))
            length = self.step_size * (1 - step / self.steps)
            refined = project(refined + length * direction.sign(), x, self.epsilon)
        return start._replace(specific=refined)

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Raises IDGuardError: there are no weights of its own."""
        raise IDGuardError("a refined protector has no weights of its own; save the one that it begins with, .start")


class _Objectives:
    """The objectives of all manipulators on some faces; what they make of the clean ones is made once."""

    def __init__(self, manipulators: Sequence[Manipulator], recognizer: Recognizer, batch: FaceBatch) -> None:
        self.recognizer, self.scene = recognizer, _scene(batch, recognizer)
        self.edits = [(manipulator, manipulator.edits(batch.attributes)) for manipulator in manipulators]
        self.known: dict[tuple[int, str], Reference] = {}

    def ascent(self, protected: Images, step: int, distortion: Distortion) -> Images:
        """The direction in which the L_k^adv rise together, each manipulator with this step's edit."""
        ascent = torch.zeros_like(protected).flatten(1)
        view = distorted(self.scene, distortion)
        for k, (manipulator, edits) in enumerate(self.edits):
            edit = edits[step % len(edits)]
            known = self._reference(k, manipulator, edit) if distortion is NOTHING else None
            with torch.enable_grad():
                leaf = protected.detach().requires_grad_()
                task = objective(manipulator, edit, self.recognizer, view, [distortion.images(leaf)], LOSS, known)
                (gradient,) = torch.autograd.grad(task.total, leaf)
            gradient = gradient.flatten(1)
            ascent += F.normalize(gradient) * gradient.norm(dim=1, keepdim=True) ** POWER
        return F.normalize(ascent).view_as(protected)

    def _reference(self, k: int, manipulator: Manipulator, edit: Edit) -> Reference:
        if (k, edit.name) not in self.known:
            self.known[k, edit.name] = reference(manipulator, edit, self.recognizer, self.scene, LOSS)
        return self.known[k, edit.name]


def _faces(x: Images) -> FaceBatch:
    points = find_points(to_uint8(x).cpu()).to(x)
    points = points.where(points.isfinite(), celeba_points((x.shape[-2], x.shape[-1])).to(x))
    return FaceBatch(x, x.new_zeros(len(x), len(ATTRIBUTES)), points, None, None)


def _scene(batch: FaceBatch, recognizer: Recognizer) -> Scene:
    frame = arcface_frame(batch.points, (batch.images.shape[-2], batch.images.shape[-1]))
    return scene(batch._replace(heat=heat_map(batch.images, recognizer, frame)))
