"""What a protection does in the written file, judged by manipulators, and the picture of before and after."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from art_idguard.attribute_classifier import AttributeClassifier, labels
from art_idguard.files.grid import save_grid
from art_idguard.manipulators import Manipulator
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.effects import AS_IT_IS, effects, effects_left, forge
from art_idguard.photos.job import Judgement, Written
from art_idguard.photos.protect import face_crop
from art_idguard.photos.verdict import Judged, figures, holds, least, verdict
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import Images


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Manipulators that forge the largest face of the written file, and that face alone, `side` pixels square.

    What is left of the other faces' protection is not measured. With a `classifier`, which says the edits that suit the
    face, it is verified, with a progress bar if `verbose`.
    """

    config: ProtectConfig
    manipulators: Sequence[Manipulator]
    recognizer: Recognizer
    side: int
    classifier: AttributeClassifier | None = None
    verbose: bool = False

    def __call__(self, done: Written) -> Judgement:
        """The verdict; `faded` compares with the effect in the protector's own frame, on the first manipulator."""
        clean, crop = before_and_after(done, self.side)
        made = map(torch.from_numpy, done.faces[:1])
        *ideal, real = effects(clean, [*made, crop], self.manipulators[0], self.recognizer)
        judged = [Judged(type(self.manipulators[0]).__name__, {AS_IT_IS: real})]
        if self.classifier is not None:
            verified = self._verified(clean, crop)
            number = len(self.manipulators)
            judged = list(tqdm(verified, "verifying", number, unit="tool", disable=not self.verbose, leave=False))
        worst = least(judged)
        faded = any(real.l2_face < effect.l2_face / 4 for effect in ideal)
        return Judgement(verdict(judged, self.config), *worst, figures=figures(worst), faded=faded)

    def hold(self, clean: Images, protected: Images) -> bool:
        """Whether no manipulator makes a recognisable face of one protected crop; the first that does ends it."""
        return all(map(holds, self._verified(clean, protected)))

    def _verified(self, clean: Images, protected: Images) -> Iterator[Judged]:
        assert self.classifier is not None  # without one nothing is verified
        attributes = labels(self.classifier, clean)
        for judge in self.manipulators:
            yield Judged(type(judge).__name__, effects_left(clean, protected, judge, self.recognizer, attributes))


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Writes the picture of before and after: the largest face, protected, and the difference x10.

    Then come each manipulator's forgeries of both.
    """

    manipulators: Sequence[Manipulator]
    side: int

    def __call__(self, done: Written, path: Path) -> None:
        """Write it; it is whole or absent."""
        crops = before_and_after(done, self.side)
        rows = [[*crops, 10 * (crops[1] - crops[0])]]
        for manipulator in self.manipulators:
            forged = forge(manipulator, torch.cat(crops))
            rows.append([*forged.split(1), forged[1:] - forged[:1]])
        captions = ["photo | protected | difference x10"]
        captions += [f"{m.name}: of the photo | of the protected | difference" for m in self.manipulators]
        save_grid(path, [[picture[0] for picture in row] for row in rows], captions=captions, zoom=2)


def before_and_after(done: Written, side: int) -> tuple[Images, Images]:
    """The largest face of a photo and of its protected file, as tensors; see `face_crop`."""
    before, after = (torch.from_numpy(face_crop(p.pixels, done.frames[0], side)) for p in (done.photo, done.written))
    return before, after
