"""`art-idguard protect`: photos in, protected photos and a report of each out; one failure spares the others."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from glob import glob
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from art_idguard import manipulators, recognizers
from art_idguard.data.sources import SUFFIXES
from art_idguard.errors import IDGuardError
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import PHOTO, RefinedProtector
from art_idguard.photos.job import SHOWN, PhotoJob
from art_idguard.photos.table import SKIPPED, Outcome, PhotoTable

PROTECTED = ".protected.png"
_RESULTS = {"png": PROTECTED, "jpeg": ".protected.jpg", "webp": ".protected.webp"}
_OURS = (*_RESULTS.values(), SHOWN)
_PICTURES = (*SUFFIXES, ".gif", ".tif", ".tiff")


class NoPhotosError(IDGuardError):
    """The inputs stand for nothing."""


def find_photos(inputs: Sequence[str]) -> list[Path]:
    """The files that files, folders (their pictures, recursively) and quoted globs stand for, each once.

    Raises:
        NoPhotosError: an input stands for nothing.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text)
        matches = sorted(_pictures(path)) if path.is_dir() else [path] if path.is_file() else _glob(text)
        if not matches:
            raise NoPhotosError(f"no photo at {text}; expected a picture, a folder of pictures or a quoted glob")
        found |= dict.fromkeys(matches)
    return list(found)


def _pictures(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix.lower() in _PICTURES and not _ours(path):
            yield path


def _ours(path: Path) -> bool:
    return path.name.endswith(_OURS) or path.name.startswith(".")


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
    refine: int | Literal["auto"] = 0,
    overwrite: bool = False,
    format: str = "png",
    quality: int = 95,
    strip_metadata: bool = False,
    workers: int = 1,
    csv: Path | None = None,
) -> int:
    """Write <name>.protected.png for every photo and print a line on each; returns how many failed.

    A photo whose result is there already is skipped, so a batch that was cut off goes on where it was. At most
    `workers` photos are in memory.

    Args:
        inputs: files, folders and globs.
        output: folder for the results; by default each lies beside its photo.
        model: folder or Hub id of a protector; by default the one that ships.
        revision: of the Hub model.
        check: manipulator whose forgery of the written file is measured; by default the shipped StarGAN,
            "none" for no check.
        show: also write <name>.before-after.png with what each shipped manipulator makes of both, if a face was found.
        whole: protect a photo without a findable face as a whole.
        refine: steps of PGD against the shipped manipulators behind the protector's pass, see `RefinedProtector`.
        overwrite: replace results that are there already.
        format: png, or jpeg or webp, which are lossy.
        quality: of jpeg and webp, 1 to 100.
        strip_metadata: leave EXIF and XMP out.
        workers: photos that are worked on at the same time, each by a thread.
        csv: file that gets a row on each photo, see `PhotoTable`.

    Raises:
        IDGuardError: the inputs or the models cannot be used at all.
    """
    if workers < 1 or not 1 <= quality <= 100:
        raise IDGuardError(f"expected at least one worker and a quality of 1 to 100, found {workers} and {quality}")
    targets = _targets(find_photos(inputs), output, _RESULTS[format])
    table = PhotoTable(csv)
    protector = Protector.from_pretrained(model, revision=revision).requires_grad_(False)
    if refine:
        protector = RefinedProtector(
            protector,
            [manipulators.load(spec) for spec in manipulators.shipped_manipulators()],
            steps=refine,
            augment=PHOTO,
            verbose=len(targets) == 1,
        )
    job = PhotoJob(
        protector=protector,
        judge=_judge(check),
        recognizer=recognizers.default(),
        gallery=[manipulators.load(spec) for spec in manipulators.shipped_manipulators()] if show else (),
        whole=whole,
        format=format,
        quality=quality,
        strip_metadata=strip_metadata,
    )
    todo, failed = _left_to_do(targets, table, overwrite=overwrite)
    with tqdm(total=len(targets), initial=len(targets) - len(todo), unit="photo", disable=len(targets) < 2) as bar:
        for outcome, line in _outcomes(job, todo, workers):
            table.add(outcome)
            failed += bool(outcome.error)
            _say(line, error=bool(outcome.error))
            bar.update()
    return failed


def _targets(photos: Sequence[Path], output: Path | None, suffix: str) -> dict[Path, Path]:
    """Where each photo's result goes."""
    return {path: (output or path.parent) / f"{path.stem}{suffix}" for path in photos}


def _left_to_do(targets: dict[Path, Path], table: PhotoTable, *, overwrite: bool) -> tuple[dict[Path, Path], int]:
    """The photos without a result, and how many cannot have one because it would be another photo's."""
    todo: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    clashes = 0
    for path, target in targets.items():
        if (owner := owners.setdefault(target, path)) != path:
            error = f"{path}: {target} is the result of {owner}; use another --output for one of them"
            table.add(Outcome(str(path), str(target), error=error))
            _say(error, error=True)
            clashes += 1
        elif target.exists() and not overwrite:
            reason = f"{target} is there already; use --overwrite to make it anew"
            _say(f"{path}: {SKIPPED}{reason}")
            if table.lacks(str(path)):
                table.add(Outcome(str(path), str(target), error=SKIPPED + reason))
        else:
            todo[path] = target
    return todo, clashes


def _outcomes(job: PhotoJob, todo: dict[Path, Path], workers: int) -> Iterator[tuple[Outcome, str]]:
    """What became of each photo, as it is done."""
    threads = max(1, torch.get_num_threads() // workers)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        try:
            for done in as_completed([pool.submit(job.run, *pair) for pair in todo.items()]):
                yield done.result()
        finally:  # Ctrl-C: the photos in hand are finished, no others are begun
            pool.shutdown(cancel_futures=True)


def _say(line: str, *, error: bool = False) -> None:
    tqdm.write(f"art-idguard: error: {line}" if error else line, file=sys.stderr if error else sys.stdout)


def _judge(check: str | None) -> Manipulator | None:
    if check == "none":
        return None
    return manipulators.load(check or shipped("manipulators/stargan-celeba128"))
