"""A protector as one ONNX file, run by onnxruntime without torch."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.pixels import epsilon_to_levels, require_strength

PIXEL_RANGE = "[-1, 1]"
METADATA = ("name", "sha256", "size", "epsilon", "pixel_range")
"""What the file says of itself: the protector's name, the SHA-256 of its weights, and of what faces are to be."""

Faces = Float32[np.ndarray, "B 3 S S"]


class ExportedProtector:
    """Protects faces as the protector does that `art-idguard export` was given; has its `epsilon`, `side` and `name`.

    Args:
        path: of the .onnx file.
        strength: share of the protector's bound to use, in (0, 1]; `epsilon` is that share, too.

    Raises:
        IDGuardError: another strength, or onnxruntime is not installed.
        WeightsError: the file cannot be read, is damaged or no ONNX, or `art-idguard export` has not written it.
    """

    def __init__(self, path: str | Path, *, strength: float = 1.0) -> None:
        require_strength(strength)
        self.path, self.strength = Path(path), strength
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise WeightsError(f"cannot read {path}: {error.strerror}; name a file of art-idguard export") from error
        self.digest = sha256(content).hexdigest()
        self._session = _session(content, self.path)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if absent := [key for key in METADATA if key not in metadata]:
            raise self._foreign(f"says nothing of its {', '.join(absent)}")
        self.name, self.weights_digest = metadata["name"], metadata["sha256"]
        try:
            self.side, full = int(metadata["size"]), float(metadata["epsilon"])
        except ValueError as error:
            raise self._foreign(f"has no numbers for its size and epsilon ({error})") from error
        if not 0 < full <= 2 or metadata["pixel_range"] != PIXEL_RANGE:
            raise self._foreign(f"is for epsilon {full:g} and pixels within {metadata['pixel_range'][:20]}")
        self.epsilon = strength * full
        self._require_faces()

    def describe(self) -> dict[str, Any]:
        """What `art-idguard info` says of the file."""
        return {
            "model": str(self.path),
            "kind": "a protector as art-idguard export writes it",
            "name": self.name,
            "sha256": f"{self.weights_digest} (of the weights that it was exported from)",
            "size": f"faces of {self.side} x {self.side} pixels",
            "pixel range": PIXEL_RANGE,
            "epsilon": f"{self.epsilon} on {PIXEL_RANGE}, {epsilon_to_levels(self.epsilon)} of 255 levels",
        }

    def _require_faces(self) -> None:
        """The one input and the one output are as `protect` has them."""
        expected = ["tensor(float)", 3, self.side, self.side]
        for kind, found in (("takes", self._session.get_inputs()), ("returns", self._session.get_outputs())):
            shapes = [[node.type, *node.shape] for node in found]
            if len(shapes) != 1 or shapes[0][:1] + shapes[0][2:] != expected or isinstance(shapes[0][1], int):
                raise self._foreign(f"{kind} {', '.join(map(str, shapes))[:200]}")

    def _foreign(self, found: str) -> WeightsError:
        return WeightsError(
            f"{self.path} {found}; expected a protector that art-idguard export has written, from any number of "
            f"float32 RGB faces within {PIXEL_RANGE} to as many: export it anew"
        )

    def protect(self, faces: Faces) -> Faces:
        """The protected version of faces on the [-1, 1] scale, `side` pixels square.

        Raises:
            WeightsError: the file cannot be run on them.
        """
        try:
            (protected,) = self._session.run(None, {self._session.get_inputs()[0].name: faces})
        except Exception as error:  # onnxruntime's own have no common class
            raise WeightsError(f"{self.path} does not run: {error}; export it anew") from error
        return protected if self.strength == 1 else faces + np.float32(self.strength) * (protected - faces)


def _session(content: bytes, path: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise IDGuardError(
            "onnxruntime, which runs exported protectors, is not installed: pip install 'art-idguard[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised, too
    # All optimisations would take twice as long to prepare and win nothing on a face.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no common class
        raise WeightsError(
            f"{path} is damaged, or no ONNX file ({error}); expected a file that art-idguard export has written"
        ) from error
