"""The settings of the commands info, export and push; imports nothing heavy, so that the command line can list them."""

from dataclasses import dataclass, field

from art_idguard.files.recipe import Settings


@dataclass(frozen=True, kw_only=True)
class InfoConfig(Settings):
    """What to describe."""

    model: str | None = field(default=None, metadata={"nargs": "?"})
    """Folder, Hub id, .onnx file of art-idguard export, or name of what ships or of a manipulator that others publish,
    such as dpr; default: this installation."""
    revision: str | None = None
    """Revision of the Hub model."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Settings):
    """Which protector to export, and where to."""

    model: str = field(default="protector", metadata={"nargs": "?", "metavar": "PROTECTOR"})
    """Folder, Hub id or name of the protector; default: the one that ships."""
    revision: str | None = None
    """Revision of the Hub model."""
    output: str = "protector.onnx"
    """File to write, .onnx or .pt2; default: protector.onnx in this folder."""


@dataclass(frozen=True, kw_only=True)
class PushConfig(Settings):
    """What to upload, and where to."""

    folder: str
    """In the Hub's layout, such as hub/protectors/default."""
    repo_id: str = field(metadata={"metavar": "ID"})
    """Where to, such as user/name; made if it is not there."""
    private: bool | None = None
    """Visibility of a new repository; default: as the account has it."""
    revision: str | None = None
    """Branch to commit to, made if it is not there; default: main."""
    tag: str | None = None
    """Name for the commit, such as v1.0."""
    message: str | None = None
    """Of the commit."""
    dry_run: bool = False
    """Only say what would be pushed, and show the card."""
