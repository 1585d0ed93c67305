"""What the page needs beside its own files, into `models/`: the protector, YuNet and the example photo."""

import json
import shutil
from pathlib import Path

import onnx

from art_idguard.hub.exported import ExportedProtector
from art_idguard.hub.shipped import shipped
from art_idguard.models.export import export_protector

HERE = Path(__file__).parent


def prepare(folder: Path) -> None:
    """Write the models and the example photo; onnxruntime-web cannot read an ONNX file's metadata, so they lie beside.

    YuNet's file says 640 x 640 pixels, though it takes any: OpenCV looks away, onnxruntime does not.
    """
    protector = ExportedProtector(export_protector(folder / "protector.onnx"))
    (folder / "protector.json").write_text(json.dumps({"side": protector.side, "epsilon": protector.epsilon}))
    detector = onnx.load(shipped("detectors/yunet/face_detection_yunet_2023mar.onnx"))
    graph = detector.graph
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.ClearField("shape")
    onnx.save(detector, folder / "detector.onnx")
    shutil.copy(HERE.parent / "astronaut.png", folder / "example.png")


if __name__ == "__main__":
    prepare(HERE / "models")
