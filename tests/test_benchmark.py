"""The benchmark at toy size: rows appear as they are measured, reports agree, and what it compares is the same work."""

import json
import re
import shlex
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from art_idguard.perturbation.precision import faster_precision
from art_idguard.types import ATTRIBUTES
from tests import ROOT
from tests.toys import write_portraits

SMALL = ["--quick", "--size", "32", "--channels", "8", "--batch", "1"]


def rows_of(folder, section):
    """Label -> row of the JSON."""
    return {
        row["label"]: row for row in json.loads((folder / "benchmark.json").read_text())["sections"][section]["rows"]
    }


def cells_of(folder):
    """(label, column) -> cell of every table of the Markdown."""
    found, head = {}, None
    for line in (folder / "benchmark.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = cells
        elif not line.startswith("| ---"):
            found |= {(cells[0], column): cell for column, cell in zip(head[1:], cells[1:], strict=True)}
    return found


def test_a_row_appears_and_is_kept_as_soon_as_it_is_measured(example, tmp_path, capsys):
    suite = example("benchmarks.suite").Suite(tmp_path, quick=True)

    def measure():
        with suite.section("toy"):
            suite.add("slow", {"seconds": 2.0, "MiB": 10.0})
            assert "toy: slow: 2 seconds, 10 MiB\n" in capsys.readouterr().out
            assert list(rows_of(tmp_path, "toy")) == ["slow"]
            assert "Quick" in (tmp_path / "benchmark.md").read_text()
            suite.add("fast", {"seconds": 1.0, "MiB": float("inf")}, of="slow")
            assert "toy: fast: 1 seconds, fails MiB; 0.5 of slow\n" in capsys.readouterr().out
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert "| fast | 1 | 0.5 | fails |" in capsys.readouterr().out
    assert rows_of(tmp_path, "toy")["fast"]["figures"] == {"seconds": 1.0, "MiB": None}
    assert (tmp_path / "toy.png").stat().st_size > 1000


def test_shares_are_of_the_same_turn_and_the_worst_is_the_largest(example, tmp_path):
    suite = example("benchmarks.suite").Suite(tmp_path)
    with suite.section("toy"):
        for load in (1.0, 9.0, 2.0):  # other work on the machine
            suite.add("base", {"seconds": 2 * load})
            suite.add("half", {"seconds": load, "worst gap": load}, of="base")
    row = rows_of(tmp_path, "toy")["half"]
    assert row["ratios"] == {"seconds": 0.5}
    assert row["figures"] == {"seconds": 2.0, "worst gap": 9.0}
    assert row["repeats"] == {"seconds": [1.0, 9.0, 2.0], "worst gap": [1.0, 9.0, 2.0]}


@pytest.mark.slow
def test_ctrl_c_leaves_what_was_measured(tmp_path):
    command = [
        sys.executable,
        ROOT / "examples/benchmark.py",
        "mgda",
        "--problems",
        "200",
        "--output",
        tmp_path / "out",
    ]
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs do not
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as run:
        while not run.stdout.readline().startswith("mgda: exact"):
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        assert run.communicate(timeout=60)[1].startswith("interrupted; what was measured is in")
    assert run.returncode == 130
    measured = rows_of(tmp_path / "out", "mgda")
    assert len(measured["exact, norms 1 : 1, 2 tasks"]["repeats"]["ms"]) == 200
    assert len(measured) < 36, "it ended before its end"
    assert (tmp_path / "out/mgda-tasks.png").exists()


SECTIONS = {
    "step": (
        ["--manipulators", "2"],
        [
            "textbook S-I",
            "official form S-II",
            "cut S-II, 2 manipulators",
            "cut S-I, clean outputs kept, 2 faces at a time",
            "cut S-II, clean outputs kept, 2 faces at a time",
        ],
    ),
    "visits": (
        ["--compile"],
        ["both branches, clean outputs made", "P-Pert every 8 steps, clean outputs kept, compiled"],
    ),
    "attack": (
        ["--images", "2"],
        ["IDGuardAttack.generate, protector-wide", "ART PGD-10, 5 manipulators", "torchattacks PGD-10 on hisd"],
    ),
    "recognizer": ([], ["PyTorch's layers, float32", "ours, float32"]),
    "refine": (["--refine-steps", "1"], ["refine, 0 manipulators", "refine, 1 manipulators", "refine, 4 manipulators"]),
    "mgda": (["--tasks", "3"], ["exact, norms 1 : 1e+08, 3 tasks", "TorchJD, norms 1 : 1, 3 tasks"]),
    "growth": (["--images", "4", "--pixels", "32"], ["generate, 4 images", "generate, 32 pixels"]),
    "photos": (["--photos", "1"], ["torch, 512 px", "torch, 1600 px"]),
    "start": ([], ["import torch", "a photo through torch"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_quick(section, example, tmp_path, capsys, monkeypatch):
    """Every section runs, and Markdown, JSON and what is printed agree."""
    if section == "attack":
        pytest.importorskip("torchattacks")
    monkeypatch.setattr(example("benchmarks.start"), "IMPORTS", ("import torch",))
    monkeypatch.setattr(example("benchmarks.visits"), "compiled", list)  # which takes minutes
    for module in ("start", "photos"):  # to make the ONNX file takes ten seconds
        monkeypatch.setattr(example(f"benchmarks.{module}"), "exported", lambda suite: None)
    options, expected = SECTIONS[section]
    assert example("benchmark").main([section, *SMALL, *options, "--output", str(tmp_path)]) == 0
    printed, measured, cells = capsys.readouterr().out, rows_of(tmp_path, section), cells_of(tmp_path)
    assert printed.startswith("quick: ")
    assert set(expected) <= set(measured)
    if section in ("attack", "recognizer"):
        faster = faster_precision(torch.device("cpu")) == "bf16"
        assert any("bf" in label for label in measured) == faster
    number = example("benchmarks.report").number
    shown = {(label, figure): number(v) for label, row in measured.items() for figure, v in row["figures"].items()}
    shown |= {(label, f"{f}, share"): number(v) for label, row in measured.items() for f, v in row["ratios"].items()}
    assert shown.items() <= cells.items()
    assert all(row["figures"].get("seconds", 1) > 0 for row in measured.values())
    for label in measured:
        assert f"{section}: {label}: " in printed
        assert f"| {label} |" in printed
    assert all(file.stat().st_size > 1000 for file in tmp_path.glob("*.png"))
    assert list(tmp_path.glob(f"{section}*.png"))


def test_a_solver_that_gives_up_fails_and_one_that_is_far_off_says_how_far(example, tmp_path, monkeypatch):
    mgda, suite = example("benchmarks.mgda"), example("benchmarks.suite").Suite(tmp_path)

    def refuses(matrix):
        raise ValueError("matrix G is not positive definite")

    solvers = {
        "exact": mgda.min_norm_weights,
        "uniform": lambda m: torch.ones(len(m)).double() / len(m),
        "none": refuses,
    }
    monkeypatch.setattr(mgda, "solvers", lambda suite: solvers)
    with suite.section("mgda"):
        mgda.measure(suite, example("benchmark").parsed(["--quick", "--tasks", "4"]))
    worst = {label: row["figures"]["worst excess"] for label, row in rows_of(tmp_path, "mgda").items()}
    assert worst["exact, norms 1 : 1e+08, 4 tasks"] < 1e-12
    assert worst["uniform, norms 1 : 1e+08, 4 tasks"] > 1e13  # the longest gradient has a quarter of the weight
    assert worst["none, norms 1 : 1e+08, 4 tasks"] is None


@pytest.mark.parametrize(("faster", "expected"), [("bf16", ("no", "bf16")), ("no", ("no",))])
def test_bfloat16_is_measured_where_it_is_faster(faster, expected, example, monkeypatch, capsys):
    monkeypatch.setattr(example("benchmarks.suite"), "faster_precision", lambda device: faster)
    suite = example("benchmarks.suite").Suite()
    with suite.section("toy"):
        assert suite.precisions(torch.device("cpu")) == expected
    assert ("on this cpu bfloat16 is slower" in capsys.readouterr().out) == (faster == "no")


def test_what_is_not_installed_is_left_out_with_a_word(example, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "quadprog", None)
    suite = example("benchmarks.suite").Suite(tmp_path)
    with suite.section("mgda"):
        assert "quadprog" not in example("benchmarks.mgda").solvers(suite)
    assert "quadprog is not installed" in capsys.readouterr().out
    assert "quadprog is not installed" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.slow
def test_training_of_a_manipulator(example, tmp_path, capsys):
    faces = write_portraits(tmp_path / "faces", 4)
    lines = [",".join(["file", *ATTRIBUTES]), *(f"{i:03d}.png,{i % 2},0,1,1,0" for i in range(4))]
    (faces / "train.csv").write_text("\n".join(lines))
    options = ["--size", "64", "--channels", "8", "--batch", "2", "--steps", "5", "--repeats", "2"]
    output = ["--output", str(tmp_path / "out")]
    assert example("benchmark").main(["train-manipulator", "--faces", str(faces), *options, *output]) == 0
    measured = rows_of(tmp_path / "out", "train-manipulator")
    assert list(measured) == ["plain loop, float32", "ours, float32"]
    for row in measured.values():
        assert len(row["repeats"]["images a second"]) == 2
        assert 0 < row["of the peak"] < 1


def test_the_command_line_says_what_it_lacks(example, capsys):
    for arguments, word in (
        (["train-manipulator"], "--faces"),
        (["visit"], "unknown section visit; choose from: step"),
    ):
        with pytest.raises(SystemExit):
            example("benchmark").parsed(arguments)
        assert word in capsys.readouterr().err


def test_commands_in_documents_are_taken(example):
    pages = [ROOT / "examples/README.md", *(ROOT / "hub" / name for name in ("RESULTS.md", "TRAINING.md", "on_gpu.sh"))]
    text = "\n".join(page.read_text() for page in pages).replace("\\\n", " ")
    commands = re.findall(r"python3? examples/benchmark\.py([^`\n]*?)(?:`| 2>|$)", text, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        example("benchmark").parsed(shlex.split(command))


def test_the_work_of_a_step_is_counted(example):
    """By hand: each pass through a convolution, in any direction, takes 2 k^2 C_in C_out H W operations."""
    conv, x = torch.nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 8, 8, requires_grad=True)

    def penalised():
        (gradient,) = torch.autograd.grad(conv(x).sum(), x, create_graph=True)
        gradient.square().sum().backward(inputs=[conv.weight])

    measuring, once = example("benchmarks.measuring"), 2 * 2 * 9 * 3 * 5 * 8 * 8
    assert measuring.operations(lambda: conv(x).sum().backward()) == 3 * once  # forward, by images, by weights
    assert measuring.operations(penalised) == 4 * once  # forward, by images, and that by what arrived and by weights

    def steps(count):
        conv(x)
        for _ in range(count):
            conv(x).sum().backward()

    assert measuring.operations_of_steps(steps, 10) == 31 * once


def most(mib):
    """Peak memory of a process that fills so many MiB."""
    from benchmarks.memory import peak_mib

    before = peak_mib()
    np.ones(mib << 17)
    return peak_mib() - before


def test_the_peak_is_a_plausible_one_and_measuring_it_changes_nothing(example):
    before = torch.backends.cuda.matmul.allow_tf32
    assert 1e8 < example("benchmarks.measuring").measured_peak("cpu", "float32") < 1e14
    assert torch.backends.cuda.matmul.allow_tf32 == before


@pytest.mark.slow
def test_memory_is_a_process_own(example):
    """Not that of the process which started it, though getrusage says so on Linux."""
    measuring, start = example("benchmarks.measuring"), example("benchmarks.start")
    assert measuring.alone(most, 100) == pytest.approx(100, abs=10)
    assert measuring.alone(most, 20) == pytest.approx(20, abs=5)
    assert start.process("import json")["MiB"] < 100 < example("benchmarks.memory").peak_mib()
