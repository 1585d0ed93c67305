"""The file from which an interrupted evaluation goes on: a header that pins the setting, then a line a batch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from art_idguard.errors import IDGuardError

Record = dict[str, Any]
"""Values of one batch: "forgeries" by measure, protection, manipulator, face and edit; "photos" by
measure, protection and face."""


def resume(path: Path | None, setting: Mapping[str, Any]) -> list[Record]:
    """The finished batches in the file, which a kill may have cut in its last line."""
    if path is None:
        return []
    header = json.dumps(setting)
    whole = [line for line in _lines(path) if line.endswith(b"\n")]
    if not whole:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + "\n")
        return []
    try:
        found, *records = map(json.loads, whole)
    except (ValueError, RecursionError) as error:
        raise IDGuardError(f"{path} is damaged ({error}); delete it to start anew") from error
    expected = json.loads(header)
    if changed := [key for key in expected if not isinstance(found, dict) or found.get(key) != expected[key]]:
        raise IDGuardError(
            f"{path} belongs to another evaluation: {', '.join(changed)} changed; delete it or choose another file"
        )
    with path.open("r+b") as file:
        file.truncate(sum(map(len, whole)))
    return records


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.is_file() else []


def append(path: Path | None, record: Record) -> None:
    """Note a finished batch."""
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")
