"""Members of the families from other packages: by entry points, and by a module that the command imports."""

import json
import os
import runpy
import subprocess
import sys

import pytest

from art_idguard.cli import main
from art_idguard.errors import IDGuardError
from art_idguard.plugins import Registry
from art_idguard.weighting import WEIGHTINGS, KPIWeighting, UniformWeighting

MODULE = """
import torch
from art_idguard.baselines.setting import Baseline
from art_idguard.manipulators import Manipulator
from art_idguard.types import Edit, Manipulation
from art_idguard.weighting.base import TaskWeighting


class Negative(Manipulator):
    name = "negative"

    def __init__(self, *, gain: float = 1.0):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def edits(self, attributes):
        return (Edit("Negative", attributes.new_ones(len(attributes), 1)),)

    def forward(self, x, edit):
        return Manipulation(-self.gain * x, x)


class Last(TaskWeighting):
    name = "last"

    def __init__(self, tasks: int):
        super().__init__()

    def forward(self, statistics):
        return torch.eye(len(statistics.objective))[-1]


def brighter(batch):
    return (batch.images + 0.03).clamp(-1, 1)


BRIGHTER = Baseline(lambda setting: {"Brighter": brighter})
"""

ENTRY_POINTS = """[art_idguard.manipulators]
negative = own:Negative
[art_idguard.baselines]
brighter = own:BRIGHTER
[art_idguard.weightings]
last = own:Last
"""


def install(folder, points):
    """A package as pip leaves it: modules, and a folder that says what they offer."""
    about = folder / "own-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    (folder / "own.py").write_text(MODULE)
    return folder


@pytest.mark.slow
def test_an_installed_package_adds_manipulator_baseline_and_weighting(tmp_path, workplace):
    site = install(tmp_path / "site", ENTRY_POINTS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.getcwd()])}
    runpy.run_path(str(site / "own.py"))["Negative"]().save_pretrained(tmp_path / "negative")
    cli = [sys.executable, "-m", "art_idguard.cli"]
    words = ["--manipulators", tmp_path / "negative", "--data", f"toy={workplace / 'faces'}", "--limit", "2"]
    words += ["--baselines", "brighter", "--output", tmp_path / "report", "--size", "64"]
    subprocess.run([*cli, "evaluate", *words], check=True, env=environment)
    row = json.loads((tmp_path / "report" / "toy.json").read_text())["summary"]["Brighter"]
    assert 0 < row["mean over manipulators"]["l2_face"]["mean"] <= 0.03**2 + 1e-6
    words = ["--faces", workplace / "faces", "--manipulators", workplace / "stargan", tmp_path / "negative"]
    words += ["--weighting", "last", "--steps", "1", "--batch-size", "2", "--size", "32", "--channels", "8"]
    words += [
        "--norm",
        "instance",
        "--prior",
        "zeros",
        "--recognizers",
        workplace / "sface",
        "--output",
        tmp_path / "run",
    ]
    subprocess.run([*cli, "train", *words, "--regions", tmp_path / "regions"], check=True, env=environment)
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text())["weights"] == {"stargan": 0.0, "negative": 1.0}


def test_what_is_offered_is_loaded_when_asked_for_and_replaces_nothing(tmp_path, monkeypatch):
    points = "[art_idguard.weightings]\nkpi = own:Last\nabsent = own:Absent\nlast = own:Last\n"
    monkeypatch.syspath_prepend(install(tmp_path, points))
    registry = Registry("weightings", {"kpi": KPIWeighting})
    assert registry.names() == ["kpi", "absent", "last"]
    assert "last" in registry
    assert "own" not in sys.modules
    assert registry["last"].name == "last"
    assert registry["kpi"] is KPIWeighting
    with pytest.raises(IDGuardError, match=r"the plug-in own:Absent \(absent\) cannot be loaded"):
        registry["absent"]
    with pytest.raises(KeyError):
        registry["nothing"]
    sys.modules.pop("own")


def test_a_module_of_ones_own_is_imported_before_the_command(tmp_path, monkeypatch, capsys):
    """From the current folder, as it is where one works; a tool that is installed does not look there by itself."""
    (tmp_path / "register.py").write_text("from art_idguard.weighting import *; WEIGHTINGS['own'] = UniformWeighting")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setitem(WEIGHTINGS, "own", None)
    assert main(["--import", "register", "info"]) == 0
    assert WEIGHTINGS["own"] is UniformWeighting
    sys.modules.pop("register")
    assert main(["--import", "absent_module", "info"]) == 1
    assert "cannot import 'absent_module' (--import)" in capsys.readouterr().err
