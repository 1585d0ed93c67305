"""What a fresh process takes to start: imports, and one photo from the command line, through torch and through ONNX."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from .measuring import seconds, turns
from .photos import PORTRAIT, exported
from .suite import Suite

IMPORTS = ("import torch", "import art", "import art_idguard", "from art_idguard import IDGuardAttack")

TELL = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from benchmarks.memory import peak_mib
print(peak_mib())"""

PROTECT = """
from art_idguard.cli import main
if main({arguments!r}): raise SystemExit("no photo is protected")"""


def process(program: str) -> dict[str, float]:
    """Seconds by the clock and of CPU time, and peak memory, of a new process that runs a program."""
    printed: list[str] = []
    before = os.times()

    def run() -> None:
        command = [sys.executable, "-c", program + TELL]
        printed.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    taken, after = seconds(run), os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": taken, "CPU seconds": cpu, "MiB": float(printed[0].split()[-1])}


def programs(suite: Suite, output: str) -> dict[str, str]:
    """By name."""
    onnx = exported(suite)
    ways = {"through torch": ["--check", "none"], "through torch, with a verdict": []}
    ways |= {"through ONNX": ["--model", str(onnx)]} if onnx else {}
    common = ["protect", str(PORTRAIT), "--output", output, "--overwrite"]
    photos = {f"a photo {way}": PROTECT.format(arguments=common + more) for way, more in ways.items()}
    return {program: program for program in IMPORTS} | photos


def measure(suite: Suite, options: Namespace) -> None:
    """Seconds and memory of each program, after one that warms the file system's cache."""
    suite.about("A fresh Python process each time; the photo is the portrait, through art-idguard protect.")
    with TemporaryDirectory() as output:
        found = programs(suite, output)
        if not suite.quick:
            for program in found.values():
                process(program)
        for order in turns(options.starts, found):
            for name, program in order:
                suite.add(name, process(program), of="import torch")
