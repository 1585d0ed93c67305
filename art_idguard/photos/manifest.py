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
from typing import Any, NamedTuple

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
        content = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        self._end = "" if content.endswith("\n") or not content else "\n"  # of a line that a kill cut off
        for line in content.splitlines():
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError):  # cut off by a kill, or no record
                continue
            self._entries[entry.result] = entry

    def find(self, result: Path) -> Entry | None:
        """The record of a result; None where there is none."""
        return self._entries.get(result.name)

    def is_of_another(self, result: Path, photo: Path) -> bool:
        """Whether a result is there that was made of a photo elsewhere with other bytes."""
        entry = self.find(result)
        if entry is None or not os.path.isfile(result) or entry.place == place_of(photo):
            return False
        return entry.photo != _sha256_or_none(photo)

    def is_done(self, result: Path, photo: Path, settings: str) -> bool:
        """Whether the very file that is there was made of these bytes with these settings."""
        entry = self.find(result)
        if entry is None or entry.settings != settings or not os.path.isfile(result):
            return False
        return entry.photo == _sha256_or_none(photo) and entry.bytes == _sha256_or_none(result)

    def add(self, entry: Entry) -> None:
        """Append a record."""
        line = json.dumps(entry._asdict()) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(self._end + line)
            self._end = ""
            self._entries[entry.result] = entry
