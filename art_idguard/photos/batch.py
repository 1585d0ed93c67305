"""`art-idguard protect`: photos in, protected photos and a report of each out; one failure spares the others."""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from tqdm import tqdm

from art_idguard.faces.detection import FaceDetector
from art_idguard.files.names import printable
from art_idguard.hub.exported import ExportedProtector
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.finding import RESULTS, Found, find_photos, phrase
from art_idguard.photos.job import PhotoJob, shown_beside
from art_idguard.photos.manifest import Manifest, TakenError, settings_digest
from art_idguard.photos.table import Outcome, PhotoTable, skipped


@dataclass(kw_only=True)
class _Batch:
    """Of a run: its settings, the digest of those that make results what they are, and the records of the folders."""

    config: ProtectConfig
    settings: str
    table: PhotoTable
    taken: set[str] = field(default_factory=set)
    """Paths that the run gives its results, as file systems compare them that see no case."""
    manifests: dict[Path, Manifest] = field(default_factory=dict)

    def manifest(self, folder: Path) -> Manifest:
        """The one of this folder."""
        if folder not in self.manifests:
            self.manifests[folder] = Manifest(folder)
        return self.manifests[folder]


def protect_files(inputs: Sequence[str], *, verbose: bool = True, **settings: Any) -> int:
    """Write <name>.protected.png for every photo, print a line on each and a summary; returns how many failed.

    A photo is skipped where the very result that is there was made of its bytes with these settings and weights
    (`photos.manifest`), so a batch that was cut off goes on where it was; anything else is made anew. A result of
    another photo is never replaced: the second photo of a name gets a longer one. At most `workers` photos are in
    memory.

    Args:
        inputs: files, folders and globs.
        verbose: say what is being waited for, with a progress bar.
        settings: the other fields of `ProtectConfig`.

    Raises:
        IDGuardError: the settings, the inputs or the models cannot be used at all.
    """
    config = ProtectConfig.from_recipe(None, inputs=inputs, **settings)
    found = find_photos(config.inputs)
    number = len(found.photos)
    table = PhotoTable(None if config.csv is None else Path(config.csv))
    if verbose and not config.exported:  # torch alone takes seconds
        tqdm.write("art-idguard: loading the networks ...", file=sys.stderr)
    with _job(config, verbose=verbose and number == 1) as (job, made_with):
        made_with |= {name: getattr(config, name) for name in ("whole", "format", "strip_metadata")}
        made_with["faces"] = FaceDetector.revision
        if config.format != "png":
            made_with["quality"] = config.quality
        batch = _Batch(config=config, settings=settings_digest(made_with), table=table)
        todo, failed = _left_to_do(found, batch)
        protected = 0
        with tqdm(total=number, initial=number - len(todo), unit="photo", disable=number < 2 or not verbose) as bar:
            for outcome, line in _outcomes(job, todo, batch):
                table.add(outcome)
                failed += outcome.failed
                protected += not outcome.error
                _say(line, error=outcome.failed)
                bar.update()
    _summarise(found, protected, failed)
    return failed


def _summarise(found: Found, protected: int, failed: int) -> None:
    skipped = len(found.photos) + len(found.errors) - protected - failed
    counts = f"{protected} protected, {skipped} skipped, {failed} failed, {phrase(found.left_out)}"
    repeated = f"; {found.again} named more than once" if found.again else ""
    tqdm.write(f"art-idguard: {counts}{repeated}", file=sys.stderr)


def _job(config: ProtectConfig, *, verbose: bool) -> AbstractContextManager[tuple[PhotoJob, dict[str, Any]]]:
    """The job of a run, to be done inside, and what a record says of its protector."""
    if config.exported:
        protector = ExportedProtector(config.exported, strength=config.strength)
        job = PhotoJob(config=config, protector=protector)
        return nullcontext((job, {"protector": protector.digest, "strength": config.strength}))
    from art_idguard.photos.loading import torch_job  # slow to import

    return torch_job(config, verbose=verbose)


def _target(photo: Path, folder: Path, batch: _Batch) -> Path:
    """Where a photo's result goes: under its stem, or where another photo's is there already, its full name."""
    manifest = batch.manifest(folder)
    numbered = (f"{photo.name}-{number}" for number in count(2))
    for name in chain((photo.stem, photo.name), numbered):
        target = folder / f"{name}{RESULTS[batch.config.format]}"
        folded = str(target).casefold()
        if folded not in batch.taken and not manifest.is_of_another(target, photo):
            batch.taken.add(folded)
            return target
    raise AssertionError("numbers do not end")


def _left_to_do(found: Found, batch: _Batch) -> tuple[dict[Path, Path], int]:
    """The photos without a result of their own with these settings, and where it goes; how many cannot have one.

    To verify, those with one are among them.
    """
    todo: dict[Path, Path] = {}
    for unreadable in found.errors:
        _say(str(unreadable), error=True)
    failed = len(found.errors)
    for photo, within in found.photos.items():
        folder = photo.parent if batch.config.output is None else Path(batch.config.output, within)
        manifest = batch.manifest(folder)
        target = _target(photo, folder, batch)
        shown = shown_beside(target) if batch.config.show else None
        if batch.config.overwrite:
            todo[photo] = target
        elif foreign := _foreign(target, shown, manifest):
            reason = "is there already, and nothing says of what it was made; use --overwrite or --output"
            error = f"{photo}: {foreign} {reason}"
            batch.table.add(Outcome(str(photo), str(target), error=error))
            _say(error, error=True)
            failed += 1
        elif not batch.config.verify and manifest.is_done(target, photo, batch.settings, shown=shown):
            _say(f"{photo}: {skipped(target)}")
            if batch.table.lacks(str(photo)):
                batch.table.add(Outcome(str(photo), str(target), error=skipped(target)))
        else:
            todo[photo] = target
    return todo, failed


def _foreign(target: Path, shown: Path | None, manifest: Manifest) -> Path | None:
    """What lies where a photo's result, or its picture of before and after, would go, and was made by nobody known."""
    if os.path.exists(target) and manifest.find(target) is None:  # not where the name is too long
        return target
    return shown if shown and os.path.isfile(shown) and not manifest.has_shown(shown) else None


def _outcomes(job: PhotoJob, todo: dict[Path, Path], batch: _Batch) -> Iterator[tuple[Outcome, str]]:
    """What became of each photo, as it is done."""
    with ThreadPoolExecutor(batch.config.workers, initializer=job.begin) as pool:
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
