"""Record of a folder's results: of which photo each is made, with which settings and weights.

A result counts as done only if its record says so: a name alone would take another photo's result, a newer photo's
or one of weaker settings for it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import OURS, locks, remove_abandoned
from art_idguard.files.digests import sha256

NAME = ".art-idguard.jsonl"


class Entry(NamedTuple):
    """What a result was made of; digests, so that the record tells nothing about the photo or where it lies."""

    result: str
    """Name of the file."""
    place: str
    """SHA-256 of the photo's path."""
    photo: str
    """SHA-256 of the photo's bytes."""
    settings: str
    """SHA-256 of settings and weights."""
    bytes: str
    """SHA-256 of the result."""
    shown: str | None = None
    """SHA-256 of the picture of before and after; empty: there is no face to show, None: it was not asked for."""


class TakenError(IDGuardError):
    """Another run has recorded a result of another photo under this name."""


def place_of(photo: Path) -> str:
    """A photo's `Entry.place`."""
    return hashlib.sha256(os.fsencode(photo.resolve())).hexdigest()


def settings_digest(settings: Mapping[str, Any]) -> str:
    """An `Entry.settings`."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _sha256_or_none(path: Path) -> str | None:
    """None of a file that cannot be read: whoever protects it says so, and goes on with the others."""
    with suppress(OSError):
        return sha256(path)
    return None


class Manifest:
    """The records of one folder, a line each; the last of a result counts. Several threads may use it.

    Args:
        folder: of the results; made with the first record.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._lock = Lock()
        self._entries: dict[str, Entry] = {}
        self._shown: set[str | None] = set()  # of all records, those that do not count any more, too
        self._read = 0
        remove_abandoned(folder, OURS)
        if self.path.is_file():
            with self.path.open("rb") as file:
                self._catch_up(file)

    def _catch_up(self, file: BinaryIO) -> bytes:
        """Take in what was added since, perhaps by another run; returns a line that a kill cut off."""
        file.seek(self._read)
        *lines, rest = file.read().split(b"\n")
        self._read = file.tell() - len(rest)
        for line in (*lines, rest):
            with suppress(ValueError, TypeError, RecursionError):  # cut off, or no record
                entry = Entry(**json.loads(line))
                self._entries[entry.result] = entry
                self._shown.add(entry.shown)
        return rest

    def find(self, result: Path) -> Entry | None:
        """The record of a result; None where there is none."""
        return self._entries.get(result.name)

    def has_shown(self, picture: Path) -> bool:
        """Whether a file is one of the pictures of before and after, perhaps of an earlier result."""
        return _sha256_or_none(picture) in self._shown - {None}

    def is_of_another(self, result: Path, photo: Path) -> bool:
        """Whether the name is that of a result of a photo elsewhere with other bytes."""
        entry = self.find(result)
        return entry is not None and entry.place != place_of(photo) and entry.photo != _sha256_or_none(photo)

    def is_done(self, result: Path, photo: Path, settings: str, *, shown: Path | None = None) -> bool:
        """Whether the very files that are there were made of these bytes with these settings.

        Args:
            result: the protected photo.
            photo: what it was made of.
            settings: the digest.
            shown: the picture of before and after, where it is asked for.
        """
        entry = self.find(result)
        if entry is None or entry.settings != settings or not os.path.isfile(result):
            return False
        if shown is not None and (entry.shown is None or entry.shown != (_sha256_or_none(shown) or "")):
            return False
        return entry.photo == _sha256_or_none(photo) and entry.bytes == _sha256_or_none(result)

    def add(self, entry: Entry) -> None:
        """Append a record.

        Raises:
            TakenError: another run has added one of this name since, of another photo.
        """
        with self._lock, self.path.open("a+b") as file, locks(self.path) as lock:
            lock("LOCK_EX")
            cut = self._catch_up(file)
            known = self._entries.get(entry.result)
            if known and known.place != entry.place and known.photo != entry.photo:
                raise TakenError(f"{self.path.with_name(entry.result)} is another run's result of another photo")
            file.write(b"\n" * bool(cut) + json.dumps(entry._asdict()).encode() + b"\n")
            self._entries[entry.result] = entry
            self._shown.add(entry.shown)
