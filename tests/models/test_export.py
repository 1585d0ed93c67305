"""A protector as one file: whatever its generator, it protects as the protector does, and a damaged one is refused."""

import json
import sys

import numpy as np
import onnx
import pytest
import torch

from art_idguard.cli import main
from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.files.digests import sha256
from art_idguard.hub.exported import ExportedProtector
from art_idguard.models import export
from art_idguard.perturbation import GENERATORS, Protector
from tests.toys import tiny, tiny_exported

TINY_GENERATORS = {
    "resnet": {"channels": 4, "blocks": 1, "norm": "instance"},
    "unet": {"channels": 2},
    "transformer": {"channels": 8, "blocks": 2, "heads": 2},
}


def saved(folder, generator, **options):
    """A protector that changes what it is given, by the generator and by the prior."""
    protector = Protector(generator=generator, generator_config=TINY_GENERATORS[generator], **options).eval()
    protector.prior.data.uniform_(-1, 1).mul_(protector.epsilon)
    for weight in protector.generator.parameters():
        weight.data.add_(0.2 * torch.randn_like(weight))
    protector.save_pretrained(folder)
    return Protector.from_pretrained(folder).requires_grad_(False)


VISIBLE_LITTLE = {"size": 36, "bound": "residual", "lowpass": 3, "chroma": 0.2, "fade": 2}


@pytest.mark.slow
def test_one_that_has_learnt_nothing_is_exported(tmp_path):
    """Its instance normalisation leaves rounding errors alone of what is flat."""
    torch.manual_seed(0)
    Protector(size=16, generator_config={"channels": 8, "norm": "instance"}).save_pretrained(tmp_path / "protector")
    assert main(["export", str(tmp_path / "protector"), "--output", str(tmp_path / "protector.onnx")]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generator", "options"), [*((name, {"size": 32}) for name in GENERATORS), ("resnet", VISIBLE_LITTLE)]
)
def test_onnx_protects_as_the_protector_does(generator, options, tmp_path, capsys):
    protector = saved(tmp_path / "mine", generator, **options)
    path = tmp_path / "new" / "protector.onnx"
    assert main(["export", str(tmp_path / "mine"), "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version <= 21) for opset in model.opset_import] == [("", True)]  # onnxruntime-web's
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "name": "mine",
        "sha256": sha256(tmp_path / "mine" / "model.safetensors"),
        "size": str(protector.side),
        "epsilon": "0.05",
        "pixel_range": "[-1, 1]",
    }
    exported = ExportedProtector(path)
    for number in (1, 5):
        faces = 2 * torch.rand(number, 3, protector.side, protector.side) - 1
        faces[0, 1:] = faces[0, :1]  # grey
        expected = protector(faces).specific
        assert (expected - faces).abs().max() > 0.02
        assert np.abs(exported.protect(faces.numpy()) - expected.numpy()).max() * 127.5 < 0.01
        assert np.array_equal(protector.protect(faces.numpy()), expected.numpy())


@pytest.mark.slow
def test_pt2_is_the_same_function_for_torch(tmp_path):
    protector = saved(tmp_path / "mine", "resnet", size=32)
    export.export_protector(tmp_path / "p.pt2", tmp_path / "mine")
    extra = {"metadata.json": ""}
    with (tmp_path / "p.pt2").open("rb") as file:
        run = torch.export.load(file, extra_files=extra).module()
    faces = 2 * torch.rand(3, 3, 32, 32) - 1
    assert torch.allclose(run(faces), protector(faces).specific, atol=1e-5)
    assert json.loads(extra["metadata.json"])["size"] == "32"


@pytest.mark.slow
def test_a_file_that_protects_otherwise_is_not_written(tmp_path, monkeypatch):
    saved(tmp_path / "mine", "resnet", size=32)
    path = tmp_path / "out" / "p.onnx"
    protect = ExportedProtector.protect
    monkeypatch.setattr(ExportedProtector, "protect", lambda self, faces: protect(self, faces) + 0.3 / 127.5)
    with pytest.raises(IDGuardError, match=r"otherwise than .* by 0\.30?\d* of 255 levels"):
        export.export_protector(path, tmp_path / "mine")
    assert list(path.parent.iterdir()) == []


def test_what_cannot_be_exported_is_said_before_work_begins(tmp_path, monkeypatch, capsys):
    tiny("stargan").save_pretrained(tmp_path / "stargan")
    (tmp_path / "folder.onnx").mkdir()
    for arguments, message in (
        (["--output", "p.pt"], "p.pt ends in '.pt'; expected .onnx or .pt2"),
        (["--output", "p"], "p ends in ''; expected .onnx or .pt2"),
        (["p.onnx"], "p.onnx is no protector's folder or name; to write that file say --output p.onnx"),
        (["--output", f"{tmp_path}/folder.onnx"], "is a folder; give the name of a file"),
        ([f"{tmp_path}/stargan", "--output", f"{tmp_path}/p.onnx"], "is of kind 'stargan', not 'protector'"),
        ([f"{tmp_path}/none", "--output", f"{tmp_path}/p.onnx"], "no folder"),
    ):
        assert main(["export", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "p.onnx").exists()


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_missing_packages_are_named_with_the_extra(package, tmp_path, monkeypatch, capsys):
    tiny("protector").save_pretrained(tmp_path / "mine")
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", str(tmp_path / "mine"), "--output", str(tmp_path / "p.onnx")]) == 1
    assert f"{package} is not installed: pip install 'art-idguard[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / "p.onnx").exists()


def test_strength_is_a_share_of_the_perturbation_and_of_the_bound(tmp_path):
    path = tiny_exported(tmp_path / "p.onnx", added=0.04)
    faces = np.zeros((2, 3, 16, 16), np.float32)
    half = ExportedProtector(path, strength=0.5)
    assert (half.epsilon, half.side, half.name) == (0.025, 16, "toy")
    assert np.allclose(half.protect(faces), 0.02)
    assert np.allclose(ExportedProtector(path).protect(faces), 0.04)
    for wrong in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(IDGuardError, match=r"strength is a share .* in \(0, 1\]"):
            ExportedProtector(path, strength=wrong)


def holding(path, content):
    path.write_bytes(content)
    return path


def as_folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "cannot read"),
        (as_folder, "cannot read"),
        (lambda path: holding(path, b""), "damaged, or no ONNX file"),
        (lambda path: holding(path, b"not a network"), "damaged, or no ONNX file"),
        (
            lambda path: holding(path, tiny_exported(path).read_bytes()[:-20]),
            "damaged|says nothing of",
        ),
        (lambda path: tiny_exported(path, epsilon=None), "says nothing of its epsilon"),
        (lambda path: tiny_exported(path, size=None, name=None), "says nothing of its name, size"),
        (lambda path: tiny_exported(path, size="large"), "no numbers for its size"),
        (lambda path: tiny_exported(path, size="-16"), "takes"),
        (lambda path: tiny_exported(path, epsilon="nan"), "epsilon nan"),
        (lambda path: tiny_exported(path, epsilon="0"), "epsilon 0"),
        (lambda path: tiny_exported(path, epsilon="6.4"), r"epsilon 6\.4"),
        (lambda path: tiny_exported(path, pixel_range="[0, 255]"), r"pixels within \[0, 255\]"),
        (lambda path: tiny_exported(path, shape=("batch", 16, 16, 3)), "takes"),
        (lambda path: tiny_exported(path, shape=(1, 3, 16, 16)), "takes"),
        (lambda path: tiny_exported(path, shape=("batch", 3, 32, 32)), "takes"),
        (lambda path: tiny_exported(path, shape=("batch", 3, "height", "width")), "takes"),
        (lambda path: tiny_exported(path, shape=("batch",)), "takes"),
        (lambda path: tiny_exported(path, kind=onnx.TensorProto.DOUBLE), "takes"),
        (lambda path: tiny_exported(path, inputs=2), "takes"),
    ],
)
def test_what_is_no_exported_protector_is_refused(make, message, tmp_path):
    path = make(tmp_path / "p.onnx")
    with pytest.raises(WeightsError, match=message) as refused:
        ExportedProtector(path)
    assert str(path) in str(refused.value)
    assert "art-idguard export" in str(refused.value)


def test_info_describes_an_exported_protector(tmp_path, capsys):
    path = tiny_exported(tmp_path / "Protector.ONNX", name="mine", sha256="5e" * 32, epsilon="0.03")
    assert main(["info", str(path)]) == 0
    facts = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert facts["name"] == "mine"
    assert facts["sha256"].startswith("5e" * 32)
    assert facts["size"] == "faces of 16 x 16 pixels"
    assert facts["epsilon"] == "0.03 on [-1, 1], 3 of 255 levels"
    assert facts["pixel range"] == "[-1, 1]"


@pytest.mark.parametrize(
    ("command", "file", "message"),
    [
        (["info"], "torn.onnx", "is damaged, or no ONNX file"),
        (["info"], "absent.onnx", "cannot read"),
        (["info"], "program.pt2", "is for torch.export.load"),
        (["push", "--dry-run"], "torn.onnx", "is a file; give a model's folder"),
        (["push", "--dry-run"], "program.pt2", "is a file; give a model's folder"),
    ],
)
def test_what_cannot_be_described_or_pushed_is_a_line(command, file, message, tmp_path, capsys):
    for present in ("torn.onnx", "program.pt2"):
        (tmp_path / present).write_bytes(b"half a file")
    assert main([*command, str(tmp_path / file), *["me/mine"] * (command[0] == "push")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{file} {message}" in line or f"{message} {tmp_path / file}" in line
