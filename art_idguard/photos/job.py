"""One photo of a batch: protected, written, and measured on the written file."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.atomic import replacing
from art_idguard.files.digests import sha256
from art_idguard.files.grid import save_grid
from art_idguard.files.photo import MAX_PIXELS, Photo, difference, read_photo, write_photo
from art_idguard.images import epsilon_to_levels
from art_idguard.manipulators import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.effects import Effect, effects, forge
from art_idguard.photos.manifest import Entry, Manifest, TakenError, place_of
from art_idguard.photos.protect import face_crop, protect_photo
from art_idguard.photos.table import Outcome
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import Frames, Images

SHOWN = ".before-after.png"


def shown_beside(target: Path) -> Path:
    """Where the picture of before and after lies."""
    return target.with_name(target.name.partition(".protected.")[0] + SHOWN)


class Written(NamedTuple):
    """A photo, what the file of its protected version holds, and by how many 8-bit levels that differs at most.

    `frames`, `faces` and `doubtful` are those of `ProtectedPhoto`.
    """

    photo: Photo
    written: Photo
    frames: tuple[Frames, ...]
    faces: tuple[Images, ...]
    levels: int
    doubtful: int


def protect_file(
    path: Path,
    target: Path,
    protector: Protector,
    detector: FaceDetector,
    *,
    whole: bool = False,
    format: str = ProtectConfig.format,
    quality: int = ProtectConfig.quality,
    strip_metadata: bool = False,
    max_pixels: int = MAX_PIXELS,
    record: Callable[[Written, str], object] = lambda done, digest: None,
) -> Written:
    """Protect a photo, write it, and read it back before it takes its name.

    Args:
        path: of the photo.
        target: of the protected file.
        protector: its epsilon is the bound.
        detector: finds the faces.
        whole: protect a photo without a face as a whole.
        format: png, jpeg or webp; see `write_photo`.
        quality: of jpeg and webp.
        strip_metadata: leave EXIF and XMP out.
        max_pixels: that the photo may have.
        record: told what is made and the SHA-256 of the file, just before it is there.

    Raises:
        IDGuardError: no usable photo, no face, a file that cannot be read back, or a PNG beyond the bound, which must
            not happen; what was at `target` before is left as it was.
    """
    photo = read_photo(path, max_pixels=max_pixels)
    protected, frames, faces, doubtful = protect_photo(photo, protector, detector, whole=whole)
    if strip_metadata:
        protected = protected.without_metadata()
    with replacing(target) as temporary:
        write_photo(protected, temporary, format=format, quality=quality)
        del protected  # a large one: what is read back takes its place
        written = _read_back(temporary, target)
        levels, bound = difference(photo, written, target), epsilon_to_levels(protector.epsilon)
        if levels > bound and format == "png":
            raise IDGuardError(f"{target} differs by {levels} levels, more than {bound}; please report this")
        done = Written(photo, written, frames, faces, levels, doubtful)
        record(done, sha256(temporary))
    return done


def _read_back(temporary: Path, target: Path) -> Photo:
    try:
        return read_photo(temporary)
    except IDGuardError as error:
        found = str(error).replace(str(temporary), str(target))
        raise IDGuardError(f"the protected file could not be read back and is not kept: {found}") from error


@dataclass(frozen=True, kw_only=True)
class PhotoJob:
    """The models and settings of a batch; one job serves several threads.

    `manipulator` forges the largest face of the written file (None: no check), and that face alone: what is left of the
    other faces' protection is not measured. `gallery` is shown before and after.
    """

    config: ProtectConfig
    protector: Protector
    manipulator: Manipulator | None
    recognizer: Recognizer
    gallery: Sequence[Manipulator] = ()

    def run(self, path: Path, target: Path, manifest: Manifest, settings: str) -> tuple[Outcome, str]:
        """Protect `path` into `target`; returns what became of it and a line that says so.

        Nothing is raised for a bad photo: the outcome has the error. `settings` go into the manifest.

        Raises:
            TakenError: meanwhile another run has put another photo's result there.
        """
        start = time.perf_counter()
        try:
            outcome, verdict = self._protect(path, target, manifest, settings)
            return outcome._replace(seconds=round(time.perf_counter() - start, 2)), verdict
        except TakenError:
            raise
        except Exception as error:  # one photo that cannot be protected spares the others
            message = str(error) if str(path) in str(error) else f"{path}: {error}"
            if not isinstance(error, (IDGuardError, OSError)):
                message += f" ({type(error).__name__}; please report this)"
            message = " ".join(message.split())
            return Outcome(str(path), str(target), error=message), message

    def _protect(self, path: Path, target: Path, manifest: Manifest, settings: str) -> tuple[Outcome, str]:
        content = sha256(path)

        def record(done: Written, found: str) -> None:
            with self._showing(shown_beside(target), done) as shown:
                manifest.add(Entry(target.name, place_of(path), content, settings, found, shown))

        done = protect_file(
            path,
            target,
            self.protector,
            FaceDetector(),
            whole=self.config.whole,
            format=self.config.format,
            quality=self.config.quality,
            strip_metadata=self.config.strip_metadata,
            record=record,
        )
        outcome = Outcome(str(path), str(target), len(done.frames), done.levels)
        verdict = f"{path} -> {target}: {self._changed(outcome)}"
        if done.doubtful:
            verdict += f"; warning: not sure of {done.doubtful} face(s): none, or in another place? See --show"
        if self.manipulator is not None and done.frames:
            ideal, real = self._effects(self.manipulator, done)
            outcome = outcome._replace(l2_face=real.l2_face, similarity=real.similarity)
            verdict += (
                f"; {self.manipulator.name}: L2_face {real.l2_face:.4f} (in the protector's own frame "
                f"{ideal.l2_face:.4f}), "
                f"identity similarity {real.similarity:.2f} ({ideal.similarity:.2f})"
            )
            if real.l2_face < ideal.l2_face / 4:
                verdict += "; warning: of L2_face less than a quarter is left in the file"
        if self.gallery and done.frames:
            verdict += f"; before and after in {shown_beside(target)}"
        return outcome, verdict

    def _changed(self, outcome: Outcome) -> str:
        faces = f"{outcome.faces} face(s)" if outcome.faces else "as a whole"
        changed = f"{faces}, changed by at most {outcome.levels} of 255 levels"
        bound = epsilon_to_levels(self.protector.epsilon)
        if outcome.levels is not None and outcome.levels > bound:
            changed += f", more than the protector's {bound}, because {self.config.format} is lossy"
        return changed

    def _effects(self, manipulator: Manipulator, done: Written) -> tuple[Effect, Effect]:
        """The effect on the largest face in the protector's own frame, and in the written file."""
        side = self.protector.prior.shape[-1]
        clean, crop = (face_crop(p.pixels, done.frames[0], side) for p in (done.photo, done.written))
        ideal, real = effects(clean, [done.faces[0], crop], manipulator, self.recognizer)
        return ideal, real

    @contextmanager
    def _showing(self, path: Path, done: Written) -> Iterator[str | None]:
        """The `Entry.shown` of the picture of before and after, which is there when the block ends, if it is asked for.

        Rows: the largest face, protected, and the difference x10; then each manipulator's forgeries of both.
        """
        if not (self.gallery and done.frames):
            yield "" if self.gallery else None
            return
        side = self.protector.prior.shape[-1]
        crops = [face_crop(p.pixels, done.frames[0], side) for p in (done.photo, done.written)]
        rows = [[*crops, 10 * (crops[1] - crops[0])]]
        for manipulator in self.gallery:
            forged = forge(manipulator, torch.cat(crops))
            rows.append([*forged.split(1), forged[1:] - forged[:1]])
        captions = ["photo | protected | difference x10"]
        captions += [f"{m.name}: of the photo | of the protected | difference" for m in self.gallery]
        with replacing(path) as temporary:
            save_grid(temporary, [[picture[0] for picture in row] for row in rows], captions=captions, zoom=2)
            yield sha256(temporary)
