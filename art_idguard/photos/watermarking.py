"""`art-idguard watermark embed` and `extract`: a payload in every face of a photo, and read from pictures."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable
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
from art_idguard.photos.finding import Found, find_photos
from art_idguard.photos.job import SHOWN, Written, protect_file
from art_idguard.photos.protect import Crop, face_crop, face_frames
from art_idguard.pixels import resize

RESULTS = {"png": ".watermarked.png", "jpeg": ".watermarked.jpg", "webp": ".watermarked.webp"}
"""How the name of a result ends, by its format."""


def embed_files(config: EmbedConfig, *, verbose: bool = True) -> int:
    """Write <name>.watermarked.png for every photo, where it can be read back; returns how many failed.

    What is read back is the file, its faces found anew. Results of earlier runs in folders are no photos.

    Args:
        config: the settings.
        verbose: show a progress bar.

    Raises:
        IDGuardError: the settings, the inputs or the model cannot be used at all.
    """
    watermarker = Watermarker.from_pretrained(config.model, revision=config.revision).requires_grad_(False)
    content = bytes.fromhex(config.payload)
    marker, detector = watermarker.marker(content), FaceDetector()
    sources = _photos(config.inputs)
    targets = _targets(config, sources)
    shared = {target for target, count in Counter(targets.values()).items() if count > 1}

    def embed(path: Path) -> str:
        if (target := targets[path]) in shared:
            raise IDGuardError(f"another photo's result would be {target}, too; name them apart, or embed one by one")
        if target.exists() and not config.overwrite:
            raise IDGuardError(f"{target} is there already; use --overwrite or --output")
        read: list[Payload] = []

        def read_back(done: Written, _: str) -> None:
            found = read_payloads(watermarker, done.written, detector)
            read.extend(payload for payload in found if payload and payload.content == content)
            if not read:
                raise IDGuardError(f"the payload is not read back from {target}, which is not kept")

        done = protect_file(
            path,
            target,
            marker,
            detector,
            whole=config.whole,
            format=config.format,
            quality=config.quality,
            record=read_back,
        )
        faces = f"{len(done.frames)} face(s)" if done.frames else "as a whole"
        back = f"read back from {min(len(read), len(done.frames))} of them" if done.frames else "read back"
        return f"-> {target}: {faces}, changed by at most {done.levels} of 255 levels; payload {content.hex()}, {back}"

    return len(sources.errors) + _each(targets, embed, verbose=verbose)


def extract_files(config: ExtractConfig, *, verbose: bool = True) -> int:
    """Print what is read from every picture, of its faces and of the whole; returns from how many nothing is.

    Args:
        config: the settings.
        verbose: show a progress bar.

    Raises:
        IDGuardError: the settings, the inputs or the model cannot be used at all.
    """
    watermarker = Watermarker.from_pretrained(config.model, revision=config.revision).requires_grad_(False)
    detector = FaceDetector()

    def extract(path: Path) -> str:
        read = read_payloads(watermarker, read_photo(path), detector)
        found: dict[bytes, Payload] = {}
        for payload in sorted(filter(None, read), key=lambda payload: payload.mended):
            found.setdefault(payload.content, payload)
        if not found:
            raise IDGuardError("no payload is read: there is none, or too much of it is lost")
        return "; ".join(_said(payload, looks=len(read)) for payload in found.values())

    found = _photos(config.inputs)
    return len(found.errors) + _each(found.photos, extract, verbose=verbose)


def read_payloads(watermarker: Watermarker, photo: Photo, detector: FaceDetector) -> list[Payload | None]:
    """What is read from each face of a photo, and from the picture as a crop, which a manipulator may have put out."""
    side = watermarker.size
    frames = face_frames(detector.detect(photo.pixels), photo.pixels.shape[:2])
    whole = resize(photo.pixels, (side, side)).transpose(2, 0, 1)[None] / np.float32(127.5) - 1
    crops: list[Crop] = [face_crop(photo.pixels, frame, side) for frame in frames]
    return watermarker.payloads(np.concatenate([*crops, whole]).clip(-1, 1).astype(np.float32))


def _said(found: Payload, *, looks: int) -> str:
    """With how often that much comes by chance where so many crops are looked at."""
    mended = f"{found.mended} of its symbols mended" if found.mended else "nothing mended"
    chance = 1 - (1 - found.chance) ** looks
    return f"payload {found.content.hex()} ({mended}; about {100 * chance:.2g} % of pictures without one read as some)"


def _targets(config: EmbedConfig, sources: Found) -> dict[Path, Path]:
    """Each photo, and where its result goes: in the subfolder in which it lies in an input folder."""
    named = {Path(text) for text in config.inputs}
    return {
        photo: (photo.parent if config.output is None else Path(config.output, within))
        / f"{photo.stem}{RESULTS[config.format]}"
        for photo, within in sources.photos.items()
        if photo in named or not photo.name.endswith(tuple(RESULTS.values()))
    }


def _photos(inputs: Iterable[str]) -> Found:
    """Protected ones, too: a message is read from them, and put into them."""
    found = find_photos(list(inputs), but=[SHOWN])
    for error in found.errors:
        _say(str(error), error=True)
    return found


def _each(paths: Iterable[Path], work: Callable[[Path], str], *, verbose: bool) -> int:
    """A line on each; one failure spares the others."""
    paths, failed = list(paths), 0
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
