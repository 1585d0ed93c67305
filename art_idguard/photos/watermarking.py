"""`art-idguard watermark embed` and `extract`: a payload in every face of a photo, and read from pictures."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.names import printable
from art_idguard.files.photo import Photo, read_photo
from art_idguard.forensics.payload import Payload
from art_idguard.forensics.watermarker import Watermarker
from art_idguard.photos.config import EmbedConfig, ExtractConfig
from art_idguard.photos.finding import find_photos
from art_idguard.photos.job import protect_file
from art_idguard.photos.protect import Crop, Frame, face_crop, face_frames
from art_idguard.pixels import resize

RESULTS = {"png": ".watermarked.png", "jpeg": ".watermarked.jpg", "webp": ".watermarked.webp"}
"""How the name of a result ends, by its format."""


def embed_files(config: EmbedConfig, *, verbose: bool = True) -> int:
    """Write <name>.watermarked.png for every photo, and read it back; returns how many failed.

    Args:
        config: the settings.
        verbose: show a progress bar.

    Raises:
        IDGuardError: the settings, the inputs or the model cannot be used at all.
    """
    watermarker = Watermarker.from_pretrained(config.model, revision=config.revision).requires_grad_(False)
    content = bytes.fromhex(config.payload)
    marker = watermarker.marker(content)

    def embed(path: Path) -> str:
        folder = path.parent if config.output is None else Path(config.output)
        target = folder / f"{path.stem}{RESULTS[config.format]}"
        if target.exists() and not config.overwrite:
            raise IDGuardError(f"{target} is there already; use --overwrite or --output")
        done = protect_file(
            path,
            target,
            marker,
            FaceDetector(),
            whole=config.whole,
            format=config.format,
            quality=config.quality,
        )
        found = read_payload(watermarker, done.written, done.frames)
        if found is None or found.content != content:
            read = "nothing" if found is None else found.content.hex()
            raise IDGuardError(f"{target} is written, but {read} is read from it")
        faces = f"{len(done.frames)} face(s)" if done.frames else "as a whole"
        return f"-> {target}: {faces}, changed by at most {done.levels} of 255 levels; {_said(found)}"

    return _each(_photos(config.inputs), embed, verbose=verbose)


def extract_files(config: ExtractConfig, *, verbose: bool = True) -> int:
    """Print what is read from every picture, of its faces or of the whole; returns from how many nothing is.

    Args:
        config: the settings.
        verbose: show a progress bar.

    Raises:
        IDGuardError: the settings, the inputs or the model cannot be used at all.
    """
    watermarker = Watermarker.from_pretrained(config.model, revision=config.revision).requires_grad_(False)
    detector = FaceDetector()

    def extract(path: Path) -> str:
        photo = read_photo(path)
        frames = face_frames(detector.detect(photo.pixels), photo.pixels.shape[:2])
        if (found := read_payload(watermarker, photo, frames)) is None:
            raise IDGuardError("no payload is read: there is none, or too much of it is lost")
        return _said(found)

    return _each(_photos(config.inputs), extract, verbose=verbose)


def read_payload(watermarker: Watermarker, photo: Photo, frames: Sequence[Frame]) -> Payload | None:
    """The payload in the faces of a photo, or in the picture as a face crop, which a manipulator may have put out."""
    side = watermarker.size
    whole = resize(photo.pixels, (side, side)).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
    crops: list[Crop] = [face_crop(photo.pixels, frame, side) for frame in frames]
    return watermarker.find(np.concatenate([*crops, whole]).clip(-1, 1).astype(np.float32))


def _said(found: Payload) -> str:
    mended = f"{found.mended} of its symbols mended" if found.mended else "nothing mended"
    return f"payload {found.content.hex()} ({mended}; of pictures without one {found.chance:.2%} read as some)"


def _photos(inputs: Sequence[str]) -> list[Path]:
    """In order; the results of earlier runs are photos like others, since they may be read."""
    found = find_photos(inputs)
    for error in found.errors:
        _say(str(error), error=True)
    return list(found.photos)


def _each(paths: Sequence[Path], work: Callable[[Path], str], *, verbose: bool) -> int:
    """A line on each; one failure spares the others."""
    failed = 0
    for path in tqdm(paths, unit="picture", disable=len(paths) < 2 or not verbose):
        try:
            _say(f"{path}: {work(path)}")
        except (IDGuardError, OSError) as error:
            failed += 1
            _say(str(error) if str(path) in str(error) else f"{path}: {error}", error=True)
    return failed


def _say(line: str, *, error: bool = False) -> None:
    line = printable(line)
    tqdm.write(f"art-idguard: error: {line}" if error else line, file=sys.stderr if error else sys.stdout)
