"""examples/protect_with_ray.py on two local workers: folder, WebDataset and Parquet, bad files, a second call."""

import csv
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from art_idguard.faces.detection import FaceDetector
from art_idguard.files.photo import read_photo
from art_idguard.perturbation import Protector
from art_idguard.photos.protect import protect_photo
from tests import ROOT
from tests.toys import PORTRAIT, write_portraits

SCRIPT = ROOT / "examples" / "protect_with_ray.py"
RUNS = """
import runpy, shlex, sys
main = runpy.run_path(sys.argv[1])["main"]
for words in sys.argv[2:]:
    print("exit code", main(shlex.split(words)), flush=True)
"""


def test_folder_webdataset_and_parquet(tmp_path):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    torch.manual_seed(0)
    protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"}).eval()
    protector.save_pretrained(tmp_path / "model")
    photos = write_portraits(tmp_path / "photos" / "deep", 3, size=160).parent
    shutil.copy(PORTRAIT, photos / "portrait.png")
    (photos / "broken.jpg").write_text("no picture")
    files = {str(path.relative_to(photos)): path for path in sorted(photos.rglob("*.*"))}
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, path in files.items():
            tar.add(path, arcname=name)
            tar.add(PORTRAIT, arcname=Path(name).with_suffix(".mask.png"))  # no photo of its own
    images = [{"bytes": path.read_bytes(), "path": None} for path in files.values()]
    parquet.write_table(pyarrow.table({"image": images}), tmp_path / "images.parquet")

    runs = [f"{photos} --output {tmp_path}/a --workers {workers}" for workers in (2, 1)]
    runs += [f"{tmp_path}/{name} --output {tmp_path}/b --workers 1" for name in ("shard.tar", "images.parquet")]
    options = f" --model {tmp_path}/model --batch-size 2"
    command = [sys.executable, "-c", RUNS, SCRIPT, *(run + options for run in runs)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"RAY_DEDUP_LOGS": "0"})
    assert done.stdout.count("exit code 1") == len(runs), done.stderr

    detector = FaceDetector()
    for name, path in files.items():
        places = [f"a/{name}", f"b/shard/{name}", f"b/{hashlib.sha256(path.read_bytes()).hexdigest()}"]
        for place in places:
            written = tmp_path / f"{place}.protected.png"
            if path.name == "broken.jpg":
                assert not written.exists()
            else:
                expected = protect_photo(read_photo(path), protector, detector).photo.pixels
                assert np.array_equal(np.asarray(Image.open(written)), expected)
    first, second = (records(folder) for folder in sorted((tmp_path / "a" / "records").iterdir()))
    assert sorted(first) == sorted(files)
    assert first["broken.jpg"].startswith("failed: broken.jpg is no readable picture")
    assert [name for name, result in first.items() if not result.startswith("protected, 1 face(s), ")] == ["broken.jpg"]
    assert list(second) == ["broken.jpg"]  # what is done is not done again


def records(folder):
    lines = [line for path in folder.glob("*.csv") for line in path.read_text().splitlines()[1:]]
    return dict(csv.reader(lines))
