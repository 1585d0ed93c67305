"""One photo of a batch: protected, written, and measured on the written file."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from art_idguard.attribute_classifier import AttributeClassifier, labels
from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.atomic import replacing
from art_idguard.files.digests import sha256
from art_idguard.files.grid import save_grid
from art_idguard.files.photo import MAX_PIXELS, Photo, difference, read_photo, write_photo
from art_idguard.manipulators import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.effects import AS_IT_IS, effects, effects_left, forge
from art_idguard.photos.manifest import Entry, Manifest, TakenError, place_of
from art_idguard.photos.protect import face_crop, face_frames, protect_photo
from art_idguard.photos.table import Outcome, skipped
from art_idguard.photos.verdict import Judged, figures, least, verdict
from art_idguard.pixels import epsilon_to_levels
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import Frames, Images

SHOWN = ".before-after.png"


def shown_beside(target: Path) -> Path:
    """Where the picture of before and after lies."""
    return target.with_name(target.name.partition(".protected.")[0] + SHOWN)


class Written(NamedTuple):
    """A photo, what the file of its protected version holds, and by how many 8-bit levels that differs at most.

    `frames`, `faces` and `doubtful` are those of `ProtectedPhoto`; no `faces` of a file that was there already.
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


def written_before(path: Path, target: Path, detector: FaceDetector) -> Written:
    """A photo, and the file of its protected version that is there already.

    Raises:
        IDGuardError: one of them cannot be read, or they have different sizes.
    """
    photo, written = read_photo(path), read_photo(target)
    faces = detector.detect(photo.pixels)
    frames = face_frames(faces, photo.pixels.shape[:2])
    doubtful = sum(face.doubtful for face in faces)
    return Written(photo, written, frames, (), difference(photo, written, target), doubtful)


def _read_back(temporary: Path, target: Path) -> Photo:
    try:
        return read_photo(temporary)
    except IDGuardError as error:
        found = str(error).replace(str(temporary), str(target))
        raise IDGuardError(f"the protected file could not be read back and is not kept: {found}") from error


@dataclass(frozen=True, kw_only=True)
class PhotoJob:
    """The models and settings of a batch; one job serves several threads.

    `judges` forge the largest face of the written file (none: no check), and that face alone: what is left of the
    other faces' protection is not measured. With a `classifier`, which says the edits that suit the face, it is
    verified. `gallery` is shown before and after.
    """

    config: ProtectConfig
    protector: Protector
    judges: Sequence[Manipulator]
    recognizer: Recognizer
    classifier: AttributeClassifier | None = None
    gallery: Sequence[Manipulator] = ()

    def run(self, path: Path, target: Path, manifest: Manifest, settings: str) -> tuple[Outcome, str]:
        """Protect `path` into `target`; returns what became of it and a line that says so.

        Nothing is raised for a bad photo: the outcome has the error. `settings` go into the manifest.

        Raises:
            TakenError: meanwhile another run has put another photo's result there.
        """
        start = time.perf_counter()
        try:
            outcome, line = self._protect(path, target, manifest, settings)
            return outcome._replace(seconds=round(time.perf_counter() - start, 2)), line
        except TakenError:
            raise
        except Exception as error:  # one photo that cannot be protected spares the others
            message = str(error) if str(path) in str(error) else f"{path}: {error}"
            if not isinstance(error, (IDGuardError, OSError)):
                message += f" ({type(error).__name__}; please report this)"
            message = " ".join(message.split())
            return Outcome(str(path), str(target), error=message), message

    def _protect(self, path: Path, target: Path, manifest: Manifest, settings: str) -> tuple[Outcome, str]:
        shown = shown_beside(target) if self.gallery else None
        if self.config.verify and not self.config.overwrite and manifest.is_done(target, path, settings, shown=shown):
            done = written_before(path, target, FaceDetector())
            return self._report(done, Outcome(str(path), str(target), error=skipped(target)))
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
        return self._report(done, Outcome(str(path), str(target)))

    def _report(self, done: Written, outcome: Outcome) -> tuple[Outcome, str]:
        """The outcome with all that was found, and the line that says so: first the verdict, last the figures."""
        outcome = outcome._replace(faces=len(done.frames), levels=done.levels)
        said = [self._changed(outcome)]
        if done.doubtful:
            said.append(f"warning: not sure of {done.doubtful} face(s): none, or in another place? See --show")
        if self.judges and done.frames:
            judged, faded = self._judge(done)
            words, worst = verdict(judged, self.config), least(judged)
            outcome = outcome._replace(verdict=words, l2_face=worst.l2_face, similarity=worst.similarity)
            said += ["warning: of the effect less than a quarter is left in the file"] * faded
            said = [words, *said, figures(worst)]
        elif self.judges:
            said.append("there is no face to judge it by")
        if self.gallery and done.frames:
            said.append(f"before and after in {shown_beside(Path(outcome.output))}")
        said += [outcome.error] * bool(outcome.error)
        return outcome, f"{outcome.file} -> {outcome.output}: {'; '.join(said)}"

    def _changed(self, outcome: Outcome) -> str:
        faces = f"{outcome.faces} face(s)" if outcome.faces else "as a whole"
        changed = f"{faces}, changed by at most {outcome.levels} of 255 levels"
        bound = epsilon_to_levels(self.protector.epsilon)
        if outcome.levels is not None and outcome.levels > bound:
            changed += f", more than the protector's {bound}, because {self.config.format} is lossy"
        return changed

    def _judge(self, done: Written) -> tuple[list[Judged], bool]:
        """What is left to each judge of the largest face in the written file; whether the file lost most of the effect.

        The effect of which it is most is that in the protector's own frame, on the first judge.
        """
        side = self.protector.prior.shape[-1]
        clean, crop = (face_crop(p.pixels, done.frames[0], side) for p in (done.photo, done.written))
        *ideal, real = effects(clean, [*done.faces[:1], crop], self.judges[0], self.recognizer)
        faded = any(real.l2_face < effect.l2_face / 4 for effect in ideal)
        if self.classifier is None:
            return [Judged(type(self.judges[0]).__name__, {AS_IT_IS: real})], faded
        attributes = labels(self.classifier, clean)
        return [
            Judged(type(judge).__name__, effects_left(clean, crop, judge, self.recognizer, attributes))
            for judge in self.judges
        ], faded

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
