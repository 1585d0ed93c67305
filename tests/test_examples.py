"""The examples run, at toy size, and do what they say."""

import re
import sys
from importlib import import_module
from types import SimpleNamespace

import nbformat
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from nbclient import NotebookClient

from art_idguard.files.digests import sha256
from art_idguard.hub.shipped import shipped
from art_idguard.manipulators import MANIPULATORS
from art_idguard.perturbation import Protector
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.types import ATTRIBUTES
from tests import ROOT
from tests.toys import tiny_manipulators, write_portraits

EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "art_quickstart.ipynb"
ROW = re.compile(r"\| (.+?) \| ([\d.]+) \| ([\d.]+).*? \| (-?[\d.]+).*? \| ([\d.]+) \|")


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """Folders of a tiny protector, a tiny StarGAN and two faces."""
    folder = tmp_path_factory.mktemp("toys")
    torch.manual_seed(0)
    protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"})
    torch.nn.init.uniform_(protector.prior, -0.05, 0.05)
    protector.save_pretrained(folder / "protector")
    tiny_manipulators(("stargan",))[0].save_pretrained(folder / "stargan")
    write_portraits(folder / "faces", 2, 160)
    return folder


@pytest.fixture
def example(monkeypatch):
    """Imports a script of the folder as Python does that runs it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    yield import_module
    for name in {path.stem for path in EXAMPLES.glob("*.py")} & set(sys.modules):
        del sys.modules[name]


def rows(printed):
    """Attack -> L2_face and L-inf."""
    return [(name, float(l2), float(size)) for name, _, l2, _, size in ROW.findall(printed)]


@pytest.mark.slow
def test_compare_attacks(example, toys, capsys):
    models = ["--manipulator", str(toys / "stargan"), "--protector", str(toys / "protector")]
    example("compare_attacks").main([*models, "--faces", str(toys / "faces"), "--size", "64", "--steps", "2"])
    printed = capsys.readouterr().out
    found = rows(printed)
    ours = ["uniform noise", "ID-Guard", "P-Pert", "ART FGSM", "ART BIM", "ART PGD", "ART APGD"]
    assert [name for name, *_ in found][: len(ours)] == ours
    assert "n = 2 faces of 64 px" in printed
    assert all(size <= 0.0251 for name, _, size in found if "CW" not in name)
    l2 = {name: value for name, value, _ in found}
    assert l2["ART PGD"] > l2["uniform noise"] > 0


def test_own_manipulator(example, toys, capsys):
    try:
        example("own_manipulator").main(["--protector", str(toys / "protector"), "--size", "64", "--steps", "2"])
    finally:
        MANIPULATORS.pop("sketch")
    printed = capsys.readouterr().out
    assert [name for name, *_ in rows(printed)] == 2 * ["ART PGD", "ID-Guard"]
    callable_, member = rows(printed)[:2], rows(printed)[2:]
    assert callable_ == member, "two wrappings of one model"
    assert all(l2 > 0 for _, l2, _ in callable_)


@pytest.mark.slow
def test_benchmark_of_training(example, tmp_path, capsys, monkeypatch):
    faces = write_portraits(tmp_path / "faces", 4)
    lines = [",".join(["file", *ATTRIBUTES]), *(f"{i:03d}.png,{i % 2},0,1,1,0" for i in range(4))]
    (faces / "train.csv").write_text("\n".join(lines))
    options = ["--size", "64", "--channels", "8", "--batch", "2", "--steps", "5"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "train-manipulator", "--faces", str(faces), *options])
    example("benchmark").main()
    speeds = re.findall(r"\| (.+?), float32 \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", capsys.readouterr().out)
    assert [name for name, *_ in speeds] == ["plain loop", "ours"]
    assert all(float(images) > 0 and 0 <= float(share) < 1 for _, images, _, share in speeds)


@pytest.mark.slow
def test_benchmark_of_attacks(example, capsys, monkeypatch):
    """At toy size: that it measures, and that PGD costs many times more whatever the machine does beside it."""
    options = ["--size", "32", "--images", "4", "--pgd-images", "1", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "attack", *options])
    example("benchmark").main()
    printed = capsys.readouterr().out
    assert re.findall(r"\| ratio \| ([\d.]+)", printed)
    (faster,) = re.findall(r"faster \| ([\d.]+) x", printed)
    assert float(faster) > 20
    assert len(re.findall(r"rises by [\d.-]+ MiB; output [\d.]+ MiB", printed)) == 2


def test_the_work_of_a_step_is_counted(example):
    """By hand: each pass through a convolution, in any direction, takes 2 k^2 C_in C_out H W operations."""
    conv, x = torch.nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 8, 8, requires_grad=True)
    config = SimpleNamespace(n_critic=4, batch_size=2)

    def penalised():
        (gradient,) = torch.autograd.grad(conv(x).sum(), x, create_graph=True)
        gradient.square().sum().backward(inputs=[conv.weight])

    work, once = example("benchmark_manipulator").work_per_image, 2 * 9 * 3 * 5 * 8 * 8
    assert work(lambda: conv(x).sum().backward(), config) == 3 * once  # forward, by the images, by the weights
    assert work(penalised, config) == 4 * once  # forward, by the images, and that by what arrived and by the weights


def parameters(book):
    (cell,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ()))
    return cell


@pytest.mark.slow
def test_notebook(toys):
    book = nbformat.read(NOTEBOOK, as_version=4)
    parameters(book).source = f"SIZE, STEPS, EPS, MANIPULATOR = 64, 2, 0.025, {str(toys / 'stargan')!r}"
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    printed = "".join(o.text for c in book.cells for o in c.get("outputs", ()) if o.get("name") == "stdout")
    assert re.search(r"^ID-Guard +0\.025 ", printed, re.MULTILINE)
    assert printed.count("L2_face: ART PGD") == 5


def test_notebook_is_stored_with_its_results_and_without_the_machine():
    book = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run from top to bottom"
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    ships = sha256(shipped("protectors/default/model.safetensors"))[:12]
    assert any(f"weights {ships}" in output.get("text", "") for output in outputs), "run it anew with what ships"
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert NOTEBOOK.stat().st_size < 300_000
    assert str(EXAMPLES.parent) not in NOTEBOOK.read_text()


@pytest.mark.slow
def test_benchmark_of_face_visits(example, capsys, monkeypatch):
    options = ["--size", "32", "--batch", "1", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "visits", *options])
    example("benchmark").main()
    found = re.findall(r"\| ([^|]+) \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|", capsys.readouterr().out)
    assert len(found) == 5
    assert found[0][2] == "1.00"
    assert all(float(visits) > 0 for _, visits, _ in found)
    assert float(found[3][2]) > float(found[0][2])


@pytest.mark.parametrize("name", ["gpus", "nodes"])
def test_accelerate_configurations_are_read_and_share_the_recipes_batch_evenly(name):
    found = load_config_from_file(str(ROOT / "examples/accelerate" / f"{name}.yaml"))
    assert found.num_processes % found.num_machines == 0
    assert found.mixed_precision in ("no", "bf16")
    assert ProtectorConfig.from_recipe("protector-kpi").batch_size % found.num_processes == 0
