"""Photos are protected by an exported protector as by the protector itself, without torch."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from art_idguard.cli import main
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.photo import Photo, read_photo
from art_idguard.hub.exported import ExportedProtector
from art_idguard.models.export import export_protector
from art_idguard.perturbation import Protector
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.photos.protect import protect_photo
from tests import ROOT
from tests.toys import PORTRAIT, tiny_exported

WITHOUT_TORCH = """
import sys
from art_idguard.cli import main
code = main(sys.argv[1:])
heavy = {"accelerate", "art", "cvxpy", "kornia", "onnx", "onnxscript", "safetensors", "scipy", "skimage", "torch"}
print(heavy & set(sys.modules))
sys.exit(code)
"""


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def protect(*words):
    return main(["protect", *map(str, words)])


def test_torch_is_not_imported(tmp_path):
    model = tiny_exported(tmp_path / "p.onnx")
    output = ["--output", tmp_path / "out", "--csv", tmp_path / "t.csv"]
    words = ["protect", PORTRAIT, "--model", model, *output, "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
    result = tmp_path / "out" / "astronaut.protected.png"
    assert f"{PORTRAIT} -> {result}: 1 face(s), changed by at most 5 of 255 levels\n" in done.stdout
    assert abs(pixels(result) - pixels(PORTRAIT)).max() == 5
    (found,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert (found["faces"], found["levels"], found["verdict"], found["error"]) == ("1", "5", "", "")


def test_what_is_there_is_skipped_unless_it_was_made_otherwise(tmp_path, capsys):
    model = tiny_exported(tmp_path / "p.onnx")

    def counts(*options):
        assert protect(PORTRAIT, "--model", model, "--output", tmp_path / "out", *options) == 0
        return capsys.readouterr().err.splitlines()[-1].partition(", 0 failed")[0]

    assert counts() == "art-idguard: 1 protected, 0 skipped"
    assert counts() == "art-idguard: 0 protected, 1 skipped"
    assert counts("--strength", "0.5") == "art-idguard: 1 protected, 0 skipped"
    result = tmp_path / "out" / "astronaut.protected.png"
    assert abs(pixels(result) - pixels(PORTRAIT)).max() == 3  # half of 0.04, in levels
    tiny_exported(model, added=-0.04)
    assert counts("--strength", "0.5") == "art-idguard: 1 protected, 0 skipped"


def test_the_bound_holds_whatever_the_file_returns(tmp_path):
    model = tiny_exported(tmp_path / "p.onnx", added=1.0)
    assert protect(PORTRAIT, "--model", model, "--output", tmp_path) == 0
    assert abs(pixels(tmp_path / "astronaut.protected.png") - pixels(PORTRAIT)).max() == 6


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--check", "stargan"], "--check"),
        (["--verify", "--show"], "--verify, --show"),
        (["--refine", "3"], "--refine"),
        (["--refine", "auto"], "--refine"),
        (["--revision", "main"], "--revision"),
    ],
)
def test_what_only_the_protector_itself_can_do_is_refused(option, named, tmp_path, capsys):
    model = tiny_exported(tmp_path / "p.onnx")
    assert protect(PORTRAIT, "--model", model, "--output", tmp_path / "out", *option) == 1
    error = capsys.readouterr().err
    assert f"{model} is an exported protector, which protects and no more: leave out {named}, or" in error
    assert not (tmp_path / "out").exists()
    assert protect(PORTRAIT, "--model", model, "--output", tmp_path / "out", "--check", "none") == 0


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (lambda path: path.write_bytes(b"\x08\x07"), [], "damaged, or no ONNX file"),
        (lambda path: None, [], "cannot read"),
        (lambda path: tiny_exported(path, sha256=None), [], "says nothing of its sha256"),
        (lambda path: tiny_exported(path, added=float("nan")), [], "not finite"),
        (lambda path: tiny_exported(path), ["--strength", "0.1"], "less than one level"),
        (lambda path: tiny_exported(path), ["--strength", "1.5"], "strength is a share"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(made, options, message, tmp_path, capsys):
    made(tmp_path / "p.onnx")
    assert protect(PORTRAIT, "--model", tmp_path / "p.onnx", "--output", tmp_path / "out", *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert "please report this" not in error
    assert not list((tmp_path / "out").glob("*.png"))


def generated(seed):
    """Two portraits, turned and of other sizes, before noise."""
    random = np.random.default_rng(seed)
    canvas = Image.fromarray(random.integers(0, 256, (400, 700, 3), np.uint8).repeat(2, 0).repeat(2, 1))
    for left in (20, 730):
        side = int(random.integers(300, 640))
        turned = Image.open(PORTRAIT).convert("RGB").resize((side, side)).rotate(random.uniform(-25, 25))
        canvas.paste(turned, (left, int(random.integers(0, 150))))
    return np.asarray(canvas)


@pytest.mark.slow
def test_it_protects_as_the_shipped_protector_does(tmp_path):
    """Within one of 255 levels, which is where the sum lies between two."""
    protector, detector = Protector.from_pretrained().requires_grad_(False), FaceDetector()
    path = export_protector(tmp_path / "protector.onnx")
    exported = ExportedProtector(path)
    photos = {"portrait": read_photo(PORTRAIT), **{f"made {seed}": Photo(generated(seed)) for seed in range(2)}}
    photos["faceless"] = Photo(photos["portrait"].pixels[300:500, :130])
    for name, photo in photos.items():
        ours, theirs = (protect_photo(photo, p, detector, whole=True) for p in (exported, protector))
        assert len(ours.frames) == {"portrait": 1, "faceless": 0}.get(name, 2), name
        difference = abs(ours.photo.pixels.astype(int) - theirs.photo.pixels)
        assert difference.max() <= 1, name
        assert (difference > 0).mean() < 1e-3, name
        assert (ours.photo.pixels != photo.pixels).any(), name
    half, weak = ExportedProtector(path, strength=0.5), WeakenedProtector(protector, 0.5)
    ours, theirs = (protect_photo(photos["portrait"], p, detector).photo.pixels.astype(int) for p in (half, weak))
    assert abs(ours - theirs).max() <= 1
