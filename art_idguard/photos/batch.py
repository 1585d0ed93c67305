"""`art-idguard protect`: photos in, protected photos and a report of each out; one failure spares the others."""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from art_idguard import manipulators, recognizers
from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.digests import digest
from art_idguard.files.names import printable
from art_idguard.hub.model import HubModel
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators import Manipulator
from art_idguard.perturbation import Protector
from art_idguard.perturbation.refined import PHOTO, RefinedProtector
from art_idguard.photos.finding import RESULTS, Found, find_photos, phrase
from art_idguard.photos.job import PhotoJob, shown_beside
from art_idguard.photos.manifest import Manifest, TakenError, settings_digest
from art_idguard.photos.table import SKIPPED, Outcome, PhotoTable
from art_idguard.types import float32


@dataclass(kw_only=True)
class _Batch:
    """Of a run: where results go, what they are made with, and the records of the folders."""

    output: Path | None
    suffix: str
    settings: str
    overwrite: bool
    show: bool
    table: PhotoTable
    taken: set[Path] = field(default_factory=set)
    """Names that the run gives its results."""
    manifests: dict[Path, Manifest] = field(default_factory=dict)

    def manifest(self, folder: Path) -> Manifest:
        """The one of this folder."""
        if folder not in self.manifests:
            self.manifests[folder] = Manifest(folder)
        return self.manifests[folder]


@float32()
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
    """Write <name>.protected.png for every photo, print a line on each and a summary; returns how many failed.

    A photo is skipped where the very result that is there was made of its bytes with these settings and weights
    (`photos.manifest`), so a batch that was cut off goes on where it was; anything else is made anew. A result of
    another photo is never replaced: the second photo of a name gets a longer one. At most `workers` photos are in
    memory.

    Args:
        inputs: files, folders and globs.
        output: folder for the results, in which subfolders of input folders are kept; by default each result lies
            beside its photo.
        model: folder or Hub id of a protector; by default the one that ships.
        revision: of the Hub model.
        check: manipulator whose forgery of the written file is measured; by default the shipped StarGAN,
            "none" for no check.
        show: also write <name>.before-after.png with what each shipped manipulator makes of both, if a face was found.
        whole: protect a photo without a findable face as a whole.
        refine: steps of PGD against the shipped manipulators behind the protector's pass, see `RefinedProtector`.
        overwrite: replace results that are there already, also those that nothing is recorded of.
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
    found = find_photos(inputs)
    table = PhotoTable(csv)
    protector, made_with = _protector(model, revision, refine, verbose=len(found.photos) == 1)
    made_with |= {"whole": whole, "format": format, "strip_metadata": strip_metadata, "faces": FaceDetector.revision}
    if format != "png":
        made_with["quality"] = quality
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
    batch = _Batch(
        output=output,
        suffix=RESULTS[format],
        settings=settings_digest(made_with),
        overwrite=overwrite,
        show=show,
        table=table,
    )
    todo, failed = _left_to_do(found, batch)
    number, protected = len(found.photos), 0
    with tqdm(total=number, initial=number - len(todo), unit="photo", disable=number < 2) as bar:
        for outcome, line in _outcomes(job, todo, batch, workers):
            table.add(outcome)
            failed += bool(outcome.error)
            protected += not outcome.error
            _say(line, error=bool(outcome.error))
            bar.update()
    _summarise(found, protected, failed)
    return failed


def _summarise(found: Found, protected: int, failed: int) -> None:
    skipped = len(found.photos) + len(found.errors) - protected - failed
    counts = f"{protected} protected, {skipped} skipped, {failed} failed, {phrase(found.left_out)}"
    repeated = f"; {found.again} named more than once" if found.again else ""
    tqdm.write(f"art-idguard: {counts}{repeated}", file=sys.stderr)


def _protector(
    model: str | None, revision: str | None, refine: int | Literal["auto"], *, verbose: bool
) -> tuple[Protector, dict[str, Any]]:
    """The protector of a run, and what a record says of it."""
    protector = Protector.from_pretrained(model, revision=revision).requires_grad_(False)
    made_with: dict[str, Any] = {"protector": _digest(protector)}
    if refine:
        targets = [manipulators.load(spec) for spec in manipulators.shipped_manipulators()]
        made_with["refine"] = [refine, *map(_digest, targets)]
        protector = RefinedProtector(protector, targets, steps=refine, augment=PHOTO, verbose=verbose)
    return protector, made_with


def _target(photo: Path, folder: Path, batch: _Batch) -> Path:
    """Where a photo's result goes: under its stem, or where another photo's is there already, its full name."""
    manifest = batch.manifest(folder)
    numbered = (f"{photo.name}-{number}" for number in count(2))
    for name in chain((photo.stem, photo.name), numbered):
        target = folder / f"{name}{batch.suffix}"
        if target not in batch.taken and not manifest.is_of_another(target, photo):
            batch.taken.add(target)
            return target
    raise AssertionError("numbers do not end")


def _left_to_do(found: Found, batch: _Batch) -> tuple[dict[Path, Path], int]:
    """The photos without a result of their own with these settings, and where it goes; how many cannot have one."""
    todo: dict[Path, Path] = {}
    for unreadable in found.errors:
        _say(str(unreadable), error=True)
    failed = len(found.errors)
    for photo, within in found.photos.items():
        folder = photo.parent if batch.output is None else batch.output / within
        manifest = batch.manifest(folder)
        target = _target(photo, folder, batch)
        shown = shown_beside(target) if batch.show else None
        if batch.overwrite:
            todo[photo] = target
        elif foreign := _foreign(target, shown, manifest):
            reason = "is there already, and nothing says of what it was made; use --overwrite or --output"
            error = f"{photo}: {foreign} {reason}"
            batch.table.add(Outcome(str(photo), str(target), error=error))
            _say(error, error=True)
            failed += 1
        elif manifest.is_done(target, photo, batch.settings, shown=shown):
            reason = f"{target} is there already, made of this photo with these settings; --overwrite makes it anew"
            _say(f"{photo}: {SKIPPED}{reason}")
            if batch.table.lacks(str(photo)):
                batch.table.add(Outcome(str(photo), str(target), error=SKIPPED + reason))
        else:
            todo[photo] = target
    return todo, failed


def _foreign(target: Path, shown: Path | None, manifest: Manifest) -> Path | None:
    """What lies where a photo's result, or its picture of before and after, would go, and was made by nobody known."""
    if os.path.exists(target) and manifest.find(target) is None:  # not where the name is too long
        return target
    return shown if shown and os.path.isfile(shown) and not manifest.has_shown(shown) else None


def _outcomes(job: PhotoJob, todo: dict[Path, Path], batch: _Batch, workers: int) -> Iterator[tuple[Outcome, str]]:
    """What became of each photo, as it is done."""
    threads = max(1, torch.get_num_threads() // workers)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        try:
            jobs = (pool.submit(_protect, job, photo, target, batch) for photo, target in todo.items())
            for done in as_completed(list(jobs)):
                yield done.result()
        finally:  # Ctrl-C: the photos in hand are finished, no others are begun
            pool.shutdown(cancel_futures=True)


def _protect(job: PhotoJob, photo: Path, target: Path, batch: _Batch) -> tuple[Outcome, str]:
    try:
        return job.run(photo, target, batch.manifest(target.parent), batch.settings)
    except TakenError:
        return _protect(job, photo, _target(photo, target.parent, batch), batch)


def _say(line: str, *, error: bool = False) -> None:
    line = printable(line)
    tqdm.write(f"art-idguard: error: {line}" if error else line, file=sys.stderr if error else sys.stdout)


def _digest(model: HubModel) -> str:
    """Of weights and options."""
    options: Any = model._hub_mixin_config
    return settings_digest({"weights": digest(model.state_dict().values()), "options": options or {}})


def _judge(check: str | None) -> Manipulator | None:
    if check == "none":
        return None
    return manipulators.load(check or shipped("manipulators/stargan-celeba128"))
