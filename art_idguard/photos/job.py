"""One photo of a batch: protected, written, and measured on the written file."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.atomic import replacing
from art_idguard.files.digests import sha256
from art_idguard.files.photo import MAX_PIXELS, Photo, difference, read_photo, write_photo
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.manifest import Entry, Manifest, TakenError, place_of
from art_idguard.photos.protect import Crop, FaceProtector, Frame, face_frames, protect_photo
from art_idguard.photos.table import Outcome, skipped
from art_idguard.pixels import epsilon_to_levels

SHOWN = ".before-after.png"


def shown_beside(target: Path) -> Path:
    """Where the picture of before and after lies."""
    return target.with_name(target.name.rpartition(".protected.")[0] + SHOWN)


class Written(NamedTuple):
    """A photo, what the file of its protected version holds, and by how many 8-bit levels that differs at most.

    `frames`, `faces` and `doubtful` are those of `ProtectedPhoto`; no `faces` of a file that was there already.
    """

    photo: Photo
    written: Photo
    frames: tuple[Frame, ...]
    faces: tuple[Crop, ...]
    levels: int
    doubtful: int


class Judgement(NamedTuple):
    """What is left of a protection in the written file: the fields of `Outcome`, and in words.

    `faded`: that is less than a quarter of what the protector did to the face.
    """

    verdict: str
    l2_face: float
    similarity: float
    figures: str
    faded: bool


def protect_file(
    path: Path,
    target: Path,
    protector: FaceProtector,
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
    """The models and settings of a batch; one job serves several threads, each of which begins with `begin`.

    `judge` says what is left in the written file, and `show` writes the picture of before and after; both are asked
    only where a face was found, and see the largest.
    """

    config: ProtectConfig
    protector: FaceProtector
    judge: Callable[[Written], Judgement] | None = None
    show: Callable[[Written, Path], None] | None = None
    begin: Callable[[], None] | None = None

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
        shown = shown_beside(target) if self.show else None
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
        if self.judge and done.frames:
            found = self.judge(done)
            outcome = outcome._replace(verdict=found.verdict, l2_face=found.l2_face, similarity=found.similarity)
            said += ["warning: of the effect less than a quarter is left in the file"] * found.faded
            said = [found.verdict, *said, found.figures]
        elif self.judge:
            said.append("there is no face to judge it by")
        if self.show and done.frames:
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

    @contextmanager
    def _showing(self, path: Path, done: Written) -> Iterator[str | None]:
        """The `Entry.shown` of the picture of before and after, if it is asked for; it is there when the block ends."""
        if self.show is None or not done.frames:
            yield None if self.show is None else ""
            return
        with replacing(path) as temporary:
            self.show(done, temporary)
            yield sha256(temporary)
