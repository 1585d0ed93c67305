"""`art-idguard protect`: photos in, protected photos and a report of each out; one failure spares the others."""

import sys
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path

import torch
from tqdm import tqdm

from art_idguard import manipulators, recognizers
from art_idguard.errors import IDGuardError
from art_idguard.faces import FaceDetector
from art_idguard.grid import save_grid
from art_idguard.hub import shipped
from art_idguard.images import epsilon_to_levels
from art_idguard.manipulators import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.photos import (
    Photo,
    ProtectedPhoto,
    effects,
    face_crop,
    forge,
    largest_difference,
    protect_photo,
    read_photo,
    write_photo,
)
from art_idguard.sources import SUFFIXES

PROTECTED, SHOWN = ".protected.png", ".before-after.png"
_PICTURES = (*SUFFIXES, ".gif", ".tif", ".tiff")


def find_photos(inputs: Sequence[str]) -> list[Path]:
    """The files that files, folders (their pictures, recursively) and quoted globs stand for, each once.

    Raises:
        IDGuardError: an input stands for nothing.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        matches = sorted(_pictures(path)) if path.is_dir() else [path] if path.is_file() else _glob(text)
        if not matches:
            raise IDGuardError(f"no photo at {text}; expected a picture, a folder of pictures or a quoted glob")
        found |= dict.fromkeys(matches)
    return list(found)


def _pictures(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix.lower() in _PICTURES and not _ours(path):
            yield path


def _ours(path: Path) -> bool:
    return path.name.endswith((PROTECTED, SHOWN)) or path.name.startswith(".")


def _glob(pattern: str) -> list[Path]:
    return [path for path in map(Path, sorted(glob(pattern, recursive=True))) if path.is_file() and not _ours(path)]


def protect_files(
    inputs: Sequence[str],
    *,
    output: Path | None = None,
    model: str | None = None,
    revision: str | None = None,
    check: str | None = None,
    show: bool = False,
    whole: bool = False,
    overwrite: bool = False,
) -> int:
    """Write <name>.protected.png for every photo and print a line on each; returns how many failed.

    Args:
        inputs: files, folders and globs.
        output: folder for the results; by default each lies beside its photo.
        model: folder or Hub id of a protector; by default the one that ships.
        revision: of the Hub model.
        check: manipulator whose forgery of the written file is measured; by default the shipped StarGAN,
            "none" for no check.
        show: also write <name>.before-after.png with what each shipped manipulator makes of both, if a face was found.
        whole: protect a photo without a findable face as a whole.
        overwrite: replace results that are there already.

    Raises:
        IDGuardError: the inputs or the models cannot be used at all.
    """
    photos = find_photos(inputs)
    protector = Protector.from_pretrained(model, revision=revision).requires_grad_(False)
    detector = FaceDetector()
    judge = _judge(check)
    gallery = _shipped_manipulators() if show else []
    failed, taken = 0, set[Path]()
    for path in tqdm(photos, unit="photo", disable=len(photos) < 2):
        target = (output or path.parent) / f"{path.stem}{PROTECTED}"
        try:
            if target in taken or (target.exists() and not overwrite):
                raise IDGuardError(f"{target} is there already; use --overwrite or another --output")
            photo = read_photo(path)
            protected = protect_photo(photo, protector, detector, whole=whole)
            write_photo(protected.photo, target)
            taken.add(target)
            tqdm.write(f"{path} -> {target}: {_verdict(photo, protected, target, protector, judge)}")
            if show and protected.frames:
                picture = target.with_name(f"{path.stem}{SHOWN}")
                _save_before_after(picture, photo, protected, protector, gallery)
                tqdm.write(f"{path}: before and after in {picture}")
        except (IDGuardError, OSError) as error:
            failed += 1
            message = str(error) if str(path) in str(error) else f"{path}: {error}"
            tqdm.write(f"art-idguard: error: {' '.join(message.split())}", file=sys.stderr)
    return failed


def _judge(check: str | None) -> Manipulator | None:
    if check == "none":
        return None
    return manipulators.load(check or shipped("manipulators/stargan-celeba128"))


def _verdict(
    photo: Photo, protected: ProtectedPhoto, target: Path, protector: Protector, judge: Manipulator | None
) -> str:
    """What holds in the written 8-bit file: the bound, and the effect on the largest face."""
    levels = largest_difference(photo, target)
    bound = epsilon_to_levels(protector.epsilon)
    if levels > bound:
        target.unlink()
        raise IDGuardError(f"{target} differs by {levels} levels, more than {bound}; please report this")
    faces = f"{len(protected.frames)} face(s)" if protected.frames else "as a whole"
    verdict = f"{faces}, changed by at most {levels} of 255 levels"
    if judge is None or not protected.frames:
        return verdict
    side = protector.prior.shape[-1]
    clean = face_crop(photo.pixels, protected.frames[0], side)
    ideal_crop = protector(clean).specific
    written = face_crop(read_photo(target).pixels, protected.frames[0], side)
    ideal, real = effects(clean, [ideal_crop, written], judge, recognizers.default())
    return (
        f"{verdict}; {judge.name}: L2_face {real.l2_face:.4f} (in the protector's own frame {ideal.l2_face:.4f}), "
        f"identity similarity {real.similarity:.2f} ({ideal.similarity:.2f})"
    )


def _shipped_manipulators() -> list[Manipulator]:
    folders = sorted(shipped("manipulators").glob("*/config.json"))
    return [manipulators.load(folder.parent) for folder in folders]


def _save_before_after(
    path: Path, photo: Photo, protected: ProtectedPhoto, protector: Protector, gallery: Sequence[Manipulator]
) -> None:
    """Rows: the largest face, protected, and the difference x10; then each manipulator's forgeries of both."""
    side = protector.prior.shape[-1]
    crops = [face_crop(p.pixels, protected.frames[0], side) for p in (photo, protected.photo)]
    rows = [[*crops, 10 * (crops[1] - crops[0])]]
    for manipulator in gallery:
        forged = forge(manipulator, torch.cat(crops))
        rows.append([*forged.split(1), forged[1:] - forged[:1]])
    captions = ["photo | protected | difference x10"]
    captions += [f"{m.name}: of the photo | of the protected | difference" for m in gallery]
    save_grid(path, [[picture[0] for picture in row] for row in rows], captions=captions, zoom=2)
