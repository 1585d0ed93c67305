"""Beyond the paper: PGD on Eq. (9) for the very face at hand, from the generator's answer on.

The paper protects in one forward pass. Here that pass is the start of an attack on the photo itself, in every step, and
on one manipulator after the other. The photo, Eq. (7) alone, costs a thirteenth of a manipulator, and what recognisers
no longer see in it, GANs that keep most of a face pass on. What is added is a fine pattern that survives no resampling,
unless every step looks through another one (`augment`; expectation over transformations, Athalye et al., ICML 2018).
`refined_in_photo` does.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from art_idguard import attribute_classifier as attributes_
from art_idguard import recognizers as recognizers_
from art_idguard.data.faces import FaceBatch
from art_idguard.data.reading import find_landmarks
from art_idguard.distortions import NOTHING, Distortion, blur, require_known, sample_distortion
from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import celeba_landmarks, nudged
from art_idguard.images import to_uint8
from art_idguard.losses import LOG, LossConfig
from art_idguard.manipulators.base import Manipulator
from art_idguard.manipulators.photo import Photo
from art_idguard.objective import Reference, distorted, objective, reference
from art_idguard.perturbation import UNNOTICED, Protector, Visibility
from art_idguard.perturbation.precision import Precision, autocast
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import MaskedFaces, masked_faces
from art_idguard.types import ATTRIBUTES, Attributes, Edit, Images, Protected

MOMENTUM = 0.4
"""What a step keeps of the directions before it (Dong et al., CVPR 2018), which were other edits'.

On two faces of CelebA's test split 20 steps from 0.06 with it came to a similarity of 0.60 and 0.53 (two recognisers
that were attacked) and 0.70 (one that was not), 40 steps from 0.02 with 0.7 to 0.62, 0.55 and 0.69.
"""

MOST, HALVINGS, GAIN = 200, 3, 0.02
"""Steps "auto": at most `MOST`. Where a round, of all edits of all manipulators, has won less than `GAIN` a step, the
step size is halved, and after so many halvings it is done. Met thresholds win nothing, see `losses.LOG`."""

IN_PHOTO = replace(LOG, mask_weight=0.0, similarity_floor=-1.0)
"""Of the photo itself: Eq. (7), past the threshold as well, since manipulators pass on a part of it only."""

NUDGE = 0.05
"""How far recognisers look beside the face's frame, another way in each step, since others find its points elsewhere.

Without, an attack is on one way to sample the pixels: on eight faces of CelebA's test split ten steps on the photo left
a similarity of 0.73 on a recogniser that was not attacked, with it 0.69, and 0.74 and 0.70 in other frames.
"""

SMOOTHING = 1.0
"""Sigma in pixels of the Gaussian that gradients go through in a photo (Dong et al., CVPR 2019), whose finest
pattern no resampling leaves.

Three whole photos, twelve steps on the photo alone: similarity on the four GANs' forgeries 0.80, without it 0.83; at
half the size 0.88 and 0.92. In aligned faces it costs StarGAN's L2_face, so `evaluate` goes without.
"""

PHOTO = ("crop", "crop", "resize")
"""What a face goes through from the photo to a manipulator: framed by others, and resampled."""

UNNOTICED_IN_PHOTO = replace(UNNOTICED, lowpass=17)
"""Of finer patterns half the size leaves nothing: on the README's portrait similarity then is 0.92, with this 0.88."""


class RefinedProtector(Protector):
    """A protector whose protected faces are improved by PGD against manipulators that are at hand.

    Protects as a `Protector` does, wherever one is asked for, such as in `IDGuardAttack` and `evaluate`. Within the
    protector's epsilon it maximises `IN_PHOTO` of the photo itself, in every step, and `losses.LOG`, the criterion of
    section IV-A4, of the manipulators, which take turns, and so do the edits that are plausible for a face. Faces need
    not have labels: the attribute classifier that ships says what they show. Where no face is found, CelebA's framing
    is assumed. P-Pert stays as it is.

    Examples:
        >>> from art_idguard import manipulators
        >>> refined = RefinedProtector(Protector.from_pretrained(), [manipulators.load("stargan")])
        >>> protected = refined(faces).specific  # doctest: +SKIP

    Args:
        protector: where to begin; its epsilon is the bound.
        manipulators: frozen; those to protect against. None, or `Photo` alone: no more than the photo itself, which
            takes a second where manipulators take a minute.
        recognizers: frozen; who must not recognise the face. By default the one that ships.
        steps: of sign ascent, see `MOMENTUM`; or "auto", until the thresholds are met or no more is won, see `MOST`.
        step_size: length of the first step in every pixel, on the [-1, 1] scale; it falls linearly to 0.
        augment: what faces go through on their way to the manipulators, names of `distortions.OPERATIONS`, one a step;
            by default they arrive as they are.
        visibility: what of the result may be seen, whatever the protector's own is.
        smoothing: sigma of the Gaussian that gradients go through, in pixels, see `SMOOTHING`; 0: none.
        precision: of the networks that are attacked; losses and the result are float32. See `refined_in_photo`.
        verbose: show a progress bar.
        on_step: told before each step how many are done, and of how many at most; what it raises ends the work.
        enough: asked at first and after each round of all edits of all manipulators, with the faces and the protected
            ones; True ends the work.
        seconds: for each call; the steps' lengths fall to 0 with what is left of them, too.

    Raises:
        IDGuardError: a negative number of steps or smoothing, or an unknown operation.
    """

    def __init__(
        self,
        protector: Protector,
        manipulators: Sequence[Manipulator],
        recognizers: Sequence[Recognizer] = (),
        *,
        steps: int | Literal["auto"] = 20,
        step_size: float = 0.06,
        augment: Sequence[str] = (),
        visibility: Visibility = UNNOTICED,
        smoothing: float = 0.0,
        precision: Precision = "no",
        verbose: bool = False,
        on_step: Callable[[int, int], object] = lambda done, most: None,
        enough: Callable[[Images, Images], bool] = lambda x, protected: False,
        seconds: float = math.inf,
    ) -> None:
        if steps != "auto" and steps < 0:
            raise IDGuardError(f"expected at least 0 steps, found {steps}")
        if smoothing < 0:
            raise IDGuardError(f"expected a smoothing of 0 pixels or more, found {smoothing}")
        require_known(augment)
        nn.Module.__init__(self)  # the weights are the other's
        self.start, self.prior, self.epsilon = protector, protector.prior, protector.epsilon
        self.visibility, self.smoothing, self.precision = visibility, smoothing, precision
        self.manipulators = nn.ModuleList(m for m in manipulators if not isinstance(m, Photo))
        self.recognizers = nn.ModuleList(recognizers or [recognizers_.default()])
        self.classifier = attributes_.default()
        self.steps, self.step_size, self.augment = steps, step_size, augment
        self.verbose, self.on_step, self.enough, self.seconds = verbose, on_step, enough, seconds

    @torch.no_grad()
    def forward(self, x: Images, attributes: Attributes | None = None) -> Protected:
        """Both protected versions; the generator's is refined, detached.

        Args:
            x: faces on the [-1, 1] scale.
            attributes: their labels; rows of zeros, or None, where nothing is known.
        """
        start = self.start(x)
        if not self.steps:
            return start
        labels = x.new_zeros(len(x), len(ATTRIBUTES)) if attributes is None else attributes.to(x)
        attributes = labels.where(labels.any(dim=1, keepdim=True), attributes_.labels(self.classifier, x))
        objectives = _Objectives(
            list(self.manipulators),  # type: ignore[arg-type]  # all what they should be
            list(self.recognizers),  # type: ignore[arg-type]
            _faces(x, attributes),
            self.precision,
        )
        free, direction = start.specific - x, torch.zeros_like(x)
        turns = objectives.turns
        lengths, begun = _Lengths(self.steps, self.step_size, turns), time.monotonic()
        for step, length in enumerate(self._progress(lengths)):
            left = 1 - (time.monotonic() - begun) / self.seconds if self.seconds else 0.0
            if left <= 0 or (step % turns == 0 and self.enough(x, self._protected(free, x))):
                break
            self.on_step(step, lengths.most)
            with torch.enable_grad():
                protected = self._protected(free.requires_grad_(), x)
            value, ascent = objectives.ascent(protected, step, sample_distortion(self.augment, seed=step))
            if self.smoothing:  # before the limit, whose slope differs from pixel to pixel
                ascent = blur(ascent, sigma=self.smoothing)
            (ascent,) = torch.autograd.grad(protected, free, ascent)
            direction = MOMENTUM * direction + ascent / ascent.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
            free = (free.detach() + left * length * direction.sign()).clamp(-self.epsilon, self.epsilon)
            lengths.note(value)
        return start._replace(specific=self._protected(free, x))

    def _protected(self, free: Float[Tensor, "B 3 H W"], x: Images) -> Images:
        """The faces with a perturbation in the ball, less what of it may not be seen."""
        return (x + self.visibility.limit(free, x, self.epsilon)).clamp(-1, 1)

    def _progress(self, lengths: "_Lengths") -> tqdm:
        """A bar; of one that may end before its last step, the steps alone, and not how long all would take."""
        limit = "" if self.seconds == math.inf else f" (at most {self.seconds:g} s)"
        total = lengths.most if self.steps != "auto" and not limit else None
        return tqdm(lengths, f"refining{limit}", total, unit="step", disable=not self.verbose, leave=False)

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Raises IDGuardError: there are no weights of its own."""
        raise IDGuardError("a refined protector has no weights of its own; save the one that it begins with, .start")


def refined_in_photo(protector: Protector, manipulators: Sequence[Manipulator], **options: Any) -> RefinedProtector:
    """One for faces of photos, which others will frame and resample: `PHOTO`, `UNNOTICED_IN_PHOTO` and `SMOOTHING`.

    In bfloat16 where that is faster: less than half of the time where the processor has AMX. On four faces of CelebA's
    test split 12 steps came to a similarity of 0.625 in it, to 0.630 in float32.

    Args:
        protector: as `RefinedProtector` takes it, and so are the others.
        manipulators: those to protect against.
        options: the others, and any of the four in place of what is said here.
    """
    framed = dict[str, Any](augment=PHOTO, visibility=UNNOTICED_IN_PHOTO, smoothing=SMOOTHING, precision="auto")
    return RefinedProtector(protector, manipulators, **framed | options)


class _Lengths:
    """The lengths of the steps: falling linearly, or halved where a round of `turns` no longer wins enough."""

    def __init__(self, steps: int | Literal["auto"], first: float, turns: int) -> None:
        self.auto, self.first, self.turns = steps == "auto", first, turns
        self.most = MOST if steps == "auto" else steps
        self.halvings, self.values = 0, list[float]()

    def __iter__(self) -> Iterator[float]:
        for step in range(self.most):
            if self.halvings > HALVINGS:
                return
            yield self.first * (0.5**self.halvings if self.auto else 1 - step / self.most)

    def note(self, value: float) -> None:
        """Take the objective before a step: of the edit whose turn it was."""
        self.values.append(value)
        turns = self.turns
        rounds = [sum(self.values[-n:][:turns]) / turns for n in (turns, 2 * turns)]
        if len(self.values) % turns == 0 and len(self.values) >= 2 * turns and rounds[0] < rounds[1] + GAIN:
            self.halvings += 1


class _Objectives:
    """The objectives on some faces, of the photo itself and of the manipulators; of the clean ones all is made once."""

    def __init__(
        self,
        manipulators: Sequence[Manipulator],
        recognizers: Sequence[Recognizer],
        batch: FaceBatch,
        precision: Precision,
    ) -> None:
        self.recognizers, self.masked, self.precision = recognizers, _masked(batch), precision
        self.photo = Photo(), Photo().edits(batch.attributes)[0]
        edits = [manipulator.edits(batch.attributes) for manipulator in manipulators]
        most = max(map(len, edits), default=0)
        self.order = [(m, own[i % len(own)]) for i in range(most) for m, own in zip(manipulators, edits, strict=True)]
        """A round: every manipulator with its first edit, then with its second, and so on."""
        self.clean: dict[tuple[int, str], Reference] = {}

    @property
    def turns(self) -> int:
        """Steps of a round; of the photo alone, all of whose steps are alike, some."""
        return len(self.order) or len(ATTRIBUTES)

    def ascent(self, protected: Images, step: int, distortion: Distortion) -> tuple[float, Images]:
        """L_k^adv of the photo and of the manipulator whose turn it is, and its gradient by the protected faces."""
        value, ascent = 0.0, torch.zeros_like(protected)
        others = nudged(self.masked.frame, NUDGE, seed=step)  # type: ignore[arg-type]  # there is one, see _masked
        view = distorted(self.masked._replace(frame=others), distortion)
        turn = [(*self.order[step % len(self.order)], LOG)] if self.order else []
        for manipulator, edit, loss in [(*self.photo, IN_PHOTO), *turn]:
            clean = self._reference(manipulator, edit, loss) if distortion is NOTHING else None
            with torch.enable_grad():
                leaf = protected.detach().requires_grad_()
                arriving = [distortion.images(leaf)]  # not under autocast: bf16 is as coarse as the perturbation
                with autocast(self.precision, leaf.device):
                    task = objective(manipulator, edit, self.recognizers, view, arriving, loss, clean)
                (gradient,) = torch.autograd.grad(task.total, leaf)
            value, ascent = value + task.total.item(), ascent + gradient
        return value, ascent

    def _reference(self, manipulator: Manipulator, edit: Edit, loss: LossConfig) -> Reference:
        key = id(manipulator), edit.name
        if key not in self.clean:
            with autocast(self.precision, self.masked.images.device):
                self.clean[key] = reference(manipulator, edit, self.recognizers, self.masked, loss)
        return self.clean[key]


def _faces(x: Images, attributes: Attributes) -> FaceBatch:
    landmarks = find_landmarks(to_uint8(x).cpu()).to(x)
    landmarks = landmarks.where(landmarks.isfinite(), celeba_landmarks((x.shape[-2], x.shape[-1])).to(x))
    return FaceBatch(x, attributes, landmarks, None, None)


def _masked(batch: FaceBatch) -> MaskedFaces:
    """The objective has no use for a heat map."""
    return masked_faces(batch._replace(heat=batch.images.new_zeros(len(batch.images), 1, 7, 7)))
