"""The examples run, at toy size, and do what they say."""

import re

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


@pytest.mark.parametrize("name", ["gpus", "nodes"])
def test_accelerate_configurations_are_read_and_share_the_recipes_batch_evenly(name):
    found = load_config_from_file(str(ROOT / "examples/accelerate" / f"{name}.yaml"))
    assert found.num_processes % found.num_machines == 0
    assert found.mixed_precision in ("no", "bf16")
    assert ProtectorConfig.from_recipe("protector-kpi").batch_size % found.num_processes == 0
