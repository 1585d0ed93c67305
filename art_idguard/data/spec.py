"""A data set as a command line names it."""

from pathlib import Path
from typing import NamedTuple

from art_idguard.data.faces import Faces
from art_idguard.data.reading import Framing, read_faces
from art_idguard.errors import IDGuardError


class DataSpec(NamedTuple):
    """A data set to read, see `read_faces`; `parse` says how it is written."""

    name: str
    path: str
    split: str = "test"
    framing: Framing = "resize"

    @classmethod
    def parse(cls, text: str) -> "DataSpec":
        """Raises IDGuardError where `text` is no such specification."""
        place, *options = text.split(",")
        name, _, path = place.partition("=")
        given = dict(option.partition("=")[::2] for option in options)
        known = given.keys() <= {"split", "framing"} and given.get("framing", "align") in (
            "resize",
            "align",
        )
        if not (name and path and known) or "/" in name:
            raise IDGuardError(
                f"cannot read the data set {text!r}; expected NAME=PATH[,split=test][,framing=resize|align]"
            )
        return cls(name, path, **given)  # type: ignore[arg-type]  # checked above

    def public(self) -> dict[str, str]:
        """What a report says of it: no folder of this machine."""
        return self._asdict() | {"path": Path(self.path).name}

    def read(self, *, size: int, limit: int | None, cache: Path, verbose: bool = True) -> Faces:
        """The faces, with their landmarks kept in the file `cache`."""
        return read_faces(
            self.path,
            size=size,
            split=self.split,
            limit=limit,
            framing=self.framing,
            cache=cache,
            verbose=verbose,
        )
