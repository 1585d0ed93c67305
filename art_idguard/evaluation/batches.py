"""Measure faces batch by batch, so that a rerun goes on where an interrupted one stopped."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.files.journal import Record, append, resume
from art_idguard.files.lock import exclusive


def measure_batches(
    measure: Callable[[FaceBatch, int], Record],
    faces: Faces,
    *,
    batch_size: int,
    setting: Mapping[str, Any],
    resume_file: Path | None,
    verbose: bool,
) -> list[Record]:
    """The record of each batch; those that the file has are not measured anew.

    Args:
        measure: a batch whose first face is that one of the set.
        faces: all of them.
        batch_size: faces at a time.
        setting: what else pins the file.
        resume_file: JSON lines, one appended for each batch.
        verbose: show a progress bar.

    Raises:
        IDGuardError: the file belongs to another evaluation, or another process is at it.
    """
    lock = resume_file and resume_file.with_name(f".{resume_file.name}.lock")
    progress = tqdm(desc="evaluating", total=len(faces), unit="face", disable=not verbose)
    with exclusive(lock, "evaluation"), progress as bar:
        records = resume(resume_file, {**setting, "faces": faces.labelled_digest(), "batch_size": batch_size})
        for i, batch in enumerate(faces.batches(batch_size)):
            if i >= len(records):
                records.append(measure(batch, i * batch_size))
                append(resume_file, records[-1])
            bar.update(len(batch.images))
    return records
