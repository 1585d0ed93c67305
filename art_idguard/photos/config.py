"""The settings of `art-idguard protect`; imports nothing heavy, so that the command line can list them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from art_idguard.errors import IDGuardError
from art_idguard.files.recipe import Settings

NEEDS_MORE = ("revision", "check", "until", "verify", "show", "refine")
"""Settings that need more than an exported protector."""


@dataclass(frozen=True, kw_only=True)
class ProtectConfig(Settings):
    """Photos to protect, and how."""

    may_be_zero = ("refine",)
    at_most = MappingProxyType({"quality": 100})

    inputs: tuple[str, ...] = ()
    """Pictures, folders of pictures, or quoted globs."""
    output: str | None = None
    """Folder for the results, in which subfolders of the inputs are kept; default: beside each photo."""
    model: str | None = None
    """Protector: folder, Hub id, or .onnx file of art-idguard export, which needs no torch, and whose results nobody
    judges; default: the one that ships."""
    revision: str | None = None
    """Revision of the Hub model."""
    check: str | None = None
    """Manipulator that judges the written file, or none; default: the shipped StarGAN, with --verify all that ship."""
    verify: bool = False
    """Judge the written file's largest face by every edit that suits it, also after JPEG 75, half the size and blur,
    in half a minute. A result that is there already is judged as it is."""
    show: bool = False
    """Also write a picture of before and after."""
    whole: bool = False
    """Protect a picture without a face as a whole."""
    refine: int | Literal["auto"] = field(default=0, metadata={"metavar": "STEPS"})
    """Go on with PGD on the photo itself and one manipulator after the other; auto: until no more is won."""
    refine_against: tuple[str, ...] = ()
    """Manipulators that refining knows; photo: none, the photo itself alone, seconds for a face; default: all that
    ship."""
    until: Literal["holds"] | None = None
    """Refine, as with --refine auto, until no manipulator that judges makes a recognisable you, also after JPEG 75,
    half the size and blur; --verify says whether it came to that."""
    minutes: float | None = None
    """After which the refining of a face ends; default: 5 with --until."""
    strength: float = 1.0
    """Share of the protector's bound to use, above 0 and at most 1: with less, less is seen and less is protected."""
    overwrite: bool = False
    """Replace results that are there, also those of which nothing is recorded, not skip them."""
    format: Literal["png", "jpeg", "webp"] = "png"
    """jpeg and webp are lossy."""
    quality: int = 95
    """Of jpeg and webp, 1 to 100."""
    strip_metadata: bool = False
    """Leave EXIF and XMP out of the results."""
    workers: int = 1
    """Photos to work on at the same time, each in memory."""
    csv: str | None = None
    """Add a row on each photo to this file."""

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """What `until` means."""
        return {"refine": "auto", "verify": True, "minutes": 5.0} if values.get("until") else {}

    @property
    def exported(self) -> str | None:
        """The file of a protector that `art-idguard export` has written, if `model` is one."""
        return self.model if self.model is not None and self.model.lower().endswith(".onnx") else None

    def __post_init__(self) -> None:
        super().__post_init__()
        needs_more = {name: getattr(self, name) for name in NEEDS_MORE}
        if self.check == "none":
            del needs_more["check"]
        if self.exported and any(needs_more.values()):
            given = ", ".join(f"--{name}" for name, value in needs_more.items() if value)
            raise IDGuardError(
                f"{self.exported} is an exported protector, which protects and no more: leave out {given}, or name the "
                "protector that it was exported from"
            )
        if self.until and self.strength != 1:
            raise IDGuardError(f"strength is {self.strength:g}; until {self.until} needs all of it: leave it out")
        if self.refine_against and not self.refine:
            raise IDGuardError("refine_against says whom refining knows, and nothing is refined; give refine, too")
        if self.minutes is not None and not self.refine:
            raise IDGuardError("minutes end the refining, and there is none; give refine or until, too")
        if (self.verify or self.until) and self.check == "none":
            raise IDGuardError("check is none, which leaves nobody to verify with; leave out one of the two")


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(Settings):
    """Photos to put a payload into."""

    at_most = MappingProxyType({"quality": 100})

    inputs: tuple[str, ...] = ()
    """Pictures, folders of pictures, or quoted globs."""
    model: str
    """Watermarker: folder or Hub id."""
    payload: str
    """In hexadecimal digits: 4 for messages of 30 bits, 10 for 64."""
    output: str | None = None
    """Folder for the results; default: beside each photo."""
    revision: str | None = None
    """Revision of the Hub model."""
    overwrite: bool = False
    """Replace results that are there."""
    whole: bool = False
    """Put it into a picture without a face as a whole."""
    format: Literal["png", "jpeg", "webp"] = "png"
    """jpeg and webp are lossy."""
    quality: int = 95
    """Of jpeg and webp, 1 to 100."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            bytes.fromhex(self.payload)
        except ValueError as error:
            raise IDGuardError(
                f"payload is {self.payload!r}; expected an even number of hexadecimal digits, such as 1f2e"
            ) from error


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(Settings):
    """Pictures to read a payload from."""

    inputs: tuple[str, ...] = ()
    """Pictures, folders of pictures, or quoted globs."""
    model: str
    """Watermarker: folder or Hub id."""
    revision: str | None = None
    """Revision of the Hub model."""
