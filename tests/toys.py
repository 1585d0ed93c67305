"""Small real parts: tiny networks of every kind, and faces cut from the one portrait in the repository."""

import csv
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import onnx
import torch
from PIL import Image
from safetensors.torch import load_file

from art_idguard.manipulators import MANIPULATORS
from art_idguard.models.loading import MODELS
from art_idguard.recognizers.base import Recognizer
from tests import ROOT

PORTRAIT = ROOT / "examples" / "astronaut.png"
TINY = {"channels": 8, "blocks": 2}
CONFIGS = {
    "protector": {"size": 16, "generator_config": {"channels": 8, "norm": "instance"}, "epsilon": 0.03},
    "hisd": {"widths": (8, 8, 8), "style_widths": (8,) * 7, "style": 8, "noise": 4, "translator_width": 8},
    "dpr": {"channels": 2},
    "taef2": {"channels": 4, "latent": 2},
    "celeba_vae": {"channels": 2},
    "tinybeauty": {"channels": 2},
    "sface": {"width": 2},
    "mobilefacenet": {"width": 4},
    "mobilefacenet_192d": {"width": 4},
    "attributes": {"channels": 4},
    "watermarker": {"bits": 12, "size": 16, "channels": 4},
    "inpainter": {"channels": 4},
    "arcface": {"blocks": (1, 1, 1, 1), "width": 16, "normalisation": "imagenet"},
    "vggface": {"width": 1, "classes": 3},
}
"""Settings of a tiny model of each kind; others have TINY."""


LABELS = {  # twelve faces, of which every attribute of HiSD's tags has some
    "Bangs": "111111000000",
    "Eyeglasses": "101010101010",
    "Black_Hair": "111000000001",
    "Blond_Hair": "000111000000",
    "Brown_Hair": "000000111000",
    "Gray_Hair": "000000000110",
    "Male": "110011001100",
    "Young": "101011101011",
}


def tiny(kind="stargan"):
    torch.manual_seed(1)
    return MODELS[kind](**CONFIGS.get(kind, TINY)).eval()


def tiny_manipulators(names=("stargan", "attentiongan", "fpgan", "relgan"), dtype=torch.float32):
    torch.manual_seed(5)
    models = [MANIPULATORS[name](**TINY).to(dtype).eval().requires_grad_(False) for name in names]
    for model in models:  # batch statistics of a network that has seen images, not of a new one
        for key, buffer in model.named_buffers():
            if key.endswith("running_var"):
                buffer.fill_(0.5)
    return models


class ToyRecognizer(Recognizer):
    """Two layers: a training step in double precision, which convolutions are slow in, costs little of it."""

    name = "toy"
    size = 16

    def __init__(self, *, width: int = 4):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.fc = torch.nn.Linear(width * 64, 8)

    def backbone(self, faces):
        return self.stem(faces).tanh()

    def head(self, features):
        return self.fc(features.flatten(1))


def write_portraits(folder, count, size=64, *, centre=(224, 115), sides=(150, 200)):
    """Crops of the portrait around the face, each shifted and scaled a little; all have a findable face."""
    folder.mkdir(parents=True, exist_ok=True)
    portrait = Image.open(PORTRAIT).convert("RGB")
    random = np.random.default_rng(0)
    for i in range(count):
        x, y, side = centre[0] + random.integers(-12, 12), centre[1] + random.integers(-12, 12), random.integers(*sides)
        box = (x - side // 2, y - side // 2, x + side // 2, y + side // 2)
        portrait.crop(tuple(int(v) for v in box)).resize((size, size)).save(folder / f"{i:03d}.png")
    return folder


def write_labels(folder, table=LABELS):
    """train.csv for the portraits in a folder."""
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *table])
        writer.writerows([f"{i:03d}.png", *values] for i, values in enumerate(zip(*table.values(), strict=True)))
    return folder


def bomb(path, width=60_000, height=60_000):
    """A PNG that claims to be huge, in 70 bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    path.write_bytes(content)
    return path


def in_one_and_two_processes(script, faces, folder):
    """What a script of tests/ saves to the folder in one process, and in two."""
    words = [str(ROOT / "tests" / script), str(faces), str(folder)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for launcher in ([sys.executable], torchrun):
        subprocess.run([*launcher, *words], check=True, env=environment, timeout=200)
    return [load_file(folder / f"{count}.safetensors") for count in (1, 2)]


def tiny_exported(path, *, added=0.04, shape=("batch", 3, 16, 16), kind=onnx.TensorProto.FLOAT, inputs=1, **metadata):
    """A file as `art-idguard export` writes it, whose protector adds the same everywhere; None leaves an entry out."""
    names = ["faces", "others"][:inputs]
    constant = onnx.helper.make_tensor("added", kind, [1], [added])
    nodes = [onnx.helper.make_node("Sum", [*names, "added"], ["protected"])]
    values = [onnx.helper.make_tensor_value_info(name, kind, shape) for name in (*names, "protected")]
    graph = onnx.helper.make_graph(nodes, "toy", values[:-1], values[-1:], [constant])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    known = {"name": "toy", "sha256": "0" * 64, "size": "16", "epsilon": "0.05", "pixel_range": "[-1, 1]"} | metadata
    onnx.helper.set_model_props(model, {key: value for key, value in known.items() if value is not None})
    onnx.save(model, path)
    return path
