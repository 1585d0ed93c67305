"""The settings of `art-idguard adversary`; imports nothing heavy, so that the command line can list them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from art_idguard.errors import IDGuardError
from art_idguard.files.recipe import Settings


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig(Settings):
    """What an adversary who has the released protector makes of protected faces."""

    may_be_zero = ("seed", "refine")

    protector: str | None = None
    """Folder or Hub id; default: the one that ships."""
    manipulators: tuple[str, ...] = ()
    """Names of those that ship, folders or Hub ids, or name=file for official checkpoints; default: all that ship."""
    recognizers: tuple[str, ...] = ()
    """Likewise, of those that judge; the last of several takes no part in refining. Default: the SFace that ships."""
    data: str
    """NAME=PATH[,split=test][,framing=resize|align]: the faces to protect."""
    learn_from: str | None = None
    """NAME=PATH: the faces that the adversary trains on; default: the training split of the data."""
    output: str
    """Folder for MANIPULATOR.json, .md and .png, report.html, a page with all of it, and what the adversary trained."""
    attempts: tuple[str, ...] = ()
    """transforms, purifiers, cleaner, lora, fine-tuning; default: all."""
    taef2: str | None = None
    """FLUX.2's tiny autoencoder as one more purifier: taef2=taef2_encoder.pth, see art-idguard info taef2."""
    limit: int = 12
    """Faces to protect at most, face i under edit i modulo their number."""
    learn_limit: int = 256
    """Faces to train on at most."""
    steps: int = 40
    """Of training a manipulator anew, on batches of 4; measured after a quarter, a half and all of them."""
    cleaner_steps: int = 200
    """Of training the cleaner, likewise."""
    refine: int = 20
    """Steps of the row that refines the protector's answer; 0: no such row."""
    strengths: tuple[float, ...] = ()
    """Also the protector at these shares of its bound, as of protect --strength, and a curve against epsilon."""
    quick: bool = False
    """A first look: StarGAN, 4 faces and a fifth of all steps, unless they are given."""
    seed: int = 0
    """Of noise, starts and new networks."""
    size: int | None = None
    """Side of the faces in pixels; default: the protector's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not 0 < strength < 1 for strength in self.strengths):
            raise IDGuardError(f"strengths are {self.strengths}; expected shares of the bound between 0 and 1")

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """What `quick` means."""
        few = {"limit": 4, "steps": 8, "cleaner_steps": 40, "refine": 4}
        return {"manipulators": ["stargan"], **few} if values.get("quick") else {}
