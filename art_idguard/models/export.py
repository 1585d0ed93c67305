"""`art-idguard export`: a protector as one file that runs without this package, as ONNX or through torch.export."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from art_idguard.errors import IDGuardError
from art_idguard.files.atomic import replacing
from art_idguard.files.digests import sha256
from art_idguard.hub.exported import PIXEL_RANGE, ExportedProtector
from art_idguard.hub.repository import WEIGHTS, locate
from art_idguard.models.config import ExportConfig
from art_idguard.perturbation import Protector
from art_idguard.types import Images, float32

OPSET = 18  # torch's exporter is made for it, and onnxruntime-web knows it
LARGEST_DIFFERENCE = 0.25  # 8-bit levels


class _Protect(nn.Module):
    """From faces to protected faces, one tensor each."""

    def __init__(self, protector: Protector) -> None:
        super().__init__()
        self.protector = protector
        self.eval()

    def forward(self, faces: Images) -> Images:
        return self.protector(faces).specific


Program = torch.export.ExportedProgram
Run = Callable[[Images], Images]


@float32()
def export_protector(
    output: str | Path, model: str | Path = ExportConfig.model, *, revision: str | None = None
) -> Path:
    """Write generator and prior perturbation as one function: faces (B, 3, size, size) on [-1, 1] to protected ones.

    The file says of itself what `hub.exported.METADATA` names: ONNX in metadata_props, a .pt2 in metadata.json.

    Args:
        output: of the file, which is whole or absent; .onnx or .pt2, for `torch.export.load`.
        model: folder, Hub id or name of the protector; by default the one that ships.
        revision: of the Hub model.

    Raises:
        IDGuardError: the name ends otherwise, a package is not installed, or what was written protects otherwise than
            the protector, by more than a quarter of an 8-bit level.
        WeightsError: as `Protector.from_pretrained` does.
    """
    config = ExportConfig.from_recipe(None, output=output, model=model, revision=revision)
    path = Path(config.output)
    if path.suffix not in WRITERS:
        raise IDGuardError(f"{path} ends in {path.suffix!r}; expected {' or '.join(WRITERS)}")
    if Path(config.model).suffix in WRITERS:
        raise IDGuardError(
            f"{config.model} is no protector's folder or name; to write that file say --output {config.model}"
        )
    if path.is_dir():
        raise IDGuardError(f"{path} is a folder; give the name of a file")
    if path.suffix == ".onnx":
        _require_packages()
    protector = Protector.from_pretrained(config.model, revision=config.revision).requires_grad_(False)
    metadata = {
        "name": Path(config.model).resolve().name if Path(config.model).is_dir() else config.model,
        "sha256": sha256(locate(config.model, WEIGHTS, revision=config.revision)),
        "size": str(protector.side),
        "epsilon": str(protector.epsilon),
        "pixel_range": PIXEL_RANGE,
    }
    with replacing(path) as temporary, _quiet():
        example = torch.zeros(2, 3, protector.side, protector.side)  # of one, torch would make a constant
        batch = {"faces": {0: torch.export.Dim("batch")}}
        program = torch.export.export(_Protect(protector), (example,), dynamic_shapes=batch)
        protect = WRITERS[path.suffix](program, metadata, temporary)
        faces = _faces(protector.side)
        difference = (protect(faces) - protector(faces).specific).abs().max().item() * 127.5
        if not difference <= LARGEST_DIFFERENCE:
            raise IDGuardError(
                f"{path} is not written: it would protect otherwise than {config.model}, by {difference:.3g} of 255 "
                f"levels, more than {LARGEST_DIFFERENCE}; please report this"
            )
    return path


def _require_packages() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise IDGuardError(f"{error.name} is not installed: pip install 'art-idguard[onnx]'") from error


def _onnx(program: Program, metadata: Mapping[str, str], path: Path) -> Run:
    """Write ONNX; returns what the file does."""
    onnx_program = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, verbose=False, input_names=["faces"], output_names=["protected"]
    )
    assert onnx_program is not None  # so it is without a path
    onnx_program.model.metadata_props.update(metadata)
    onnx_program.save(path)
    exported = ExportedProtector(path)
    return lambda faces: torch.from_numpy(exported.protect(faces.numpy()))


def _pt2(program: Program, metadata: Mapping[str, str], path: Path) -> Run:
    """Write a torch.export archive; returns what the file does."""
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"metadata.json": json.dumps(metadata)})
    with path.open("rb") as file:
        return torch.export.load(file).module()


WRITERS: dict[str, Callable[[Program, Mapping[str, str], Path], Run]] = {".onnx": _onnx, ".pt2": _pt2}


def _faces(side: int) -> Tensor:
    """Faces to compare on, as many as no example had: noise, a grey ramp, black beside white.

    None is flat: of a flat one instance normalisation leaves rounding errors alone, which no two runtimes share.
    """
    noise = 2 * torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) - 1
    ramp = torch.linspace(-1, 1, side).expand_as(noise)
    return torch.cat([noise, ramp, ramp.sign()])


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter warns of its own parts, and of torchvision, which is not needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
