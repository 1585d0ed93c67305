"""Photos a second: the portrait, read, protected, written and read back, with the networks in memory."""

import atexit
import shutil
import tempfile
from argparse import Namespace
from functools import cache, partial
from pathlib import Path

from PIL import Image

from art_idguard.faces import FaceDetector
from art_idguard.hub.exported import ExportedProtector
from art_idguard.models.export import export_protector
from art_idguard.perturbation import Protector
from art_idguard.photos.job import protect_file
from art_idguard.photos.protect import FaceProtector

from .measuring import seconds, turns
from .suite import Suite

PORTRAIT = Path(__file__).parents[1] / "astronaut.png"
SIDES = (512, 1600)


@cache
def _folder() -> Path:
    """For files of this run."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def exported(suite: Suite) -> Path | None:
    """The protector that ships as ONNX, made once a run; None, and a note, where that cannot be done."""
    path = _folder() / "protector.onnx"
    if not (suite.optional("onnxruntime") and suite.optional("onnxscript")):
        return None
    return path if path.exists() else export_protector(path)


def photo(side: int) -> Path:
    """The portrait, so many pixels square, as JPEG."""
    path = _folder() / f"portrait-{side}.jpg"
    if not path.exists():
        with Image.open(PORTRAIT) as picture:
            picture.convert("RGB").resize((side, side)).save(path, quality=95)
    return path


def protect(source: Path, protector: FaceProtector, name: str = "") -> None:
    """As `art-idguard protect` does with a photo; `name` tells results of one photo apart."""
    protect_file(source, source.with_suffix(f".{name}.protected.png"), protector, FaceDetector())


def measure(suite: Suite, options: Namespace) -> None:
    """Seconds of a photo, through torch and through ONNX."""
    suite.about("A square photo with one face, one after the other in one process; nobody judges the result.")
    protectors: dict[str, FaceProtector] = {"torch": Protector.from_pretrained().requires_grad_(False)}
    if path := exported(suite):
        protectors["ONNX"] = ExportedProtector(path)
    for side in SIDES:
        for protector in protectors.values():
            protect(photo(side), protector)
        for order in turns(options.photos, protectors):
            for name, protector in order:
                taken = seconds(partial(protect, photo(side), protector))
                suite.add(
                    f"{name}, {side} px", {"seconds": taken, "photos a second": 1 / taken}, of=f"torch, {side} px"
                )
