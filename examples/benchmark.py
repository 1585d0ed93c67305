"""Measure what the project claims: `python examples/benchmark.py` all, `python examples/benchmark.py step mgda` some.

Each row is printed as soon as it is measured. With `--output FOLDER` all that there is so far is written after each, as
benchmark.json (with every repeat) and benchmark.md, and plots at the end of each section; Ctrl-C loses nothing.
`--quick` does all on a small scale, in under three minutes on two idle cores.

What is compared takes turns in one run; where memory is compared each has a process of its own. Arithmetic is counted,
and shown as a share of the machine's peak: a product of large matrices, measured in the same run. Take
OMP_NUM_THREADS=1 where other work runs beside it.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.suite import Suite

SECTIONS = {
    "step": "a protector's training step against the textbook's and the official loop's form, and as manipulators grow",
    "visits": "faces that such a training sees in a second",
    "attack": "IDGuardAttack against the bare generator, and PGD-10 of ART and torchattacks",
    "recognizer": "the recogniser and back, against PyTorch's own layers",
    "refine": "refining a face",
    "mgda": "solvers of Eq. (11)",
    "start": "imports, and one photo, in fresh processes",
    "photos": "photos a second",
    "growth": "cost as images, pixels and processes grow",
    "train-manipulator": "StarGAN's training against a plain loop",
}
"""Each is a module of `benchmarks`."""

SCALE = {
    "batch": (4, 1, "images at a time"),
    "size": (128, 64, "side of the faces in pixels"),
    "channels": (64, 16, "width of networks with random weights; 64 is published"),
    "repeats": (3, 1, "turns of each variant"),
    "manipulators": ([1, 2, 5, 10], [1, 10], "of step: numbers of them"),
    "images": (256, 16, "of attack and growth: images to protect"),
    "pgd-images": (2, 1, "of attack: images for PGD, which takes long"),
    "refine-steps": (20, 2, "of refine: steps"),
    "tasks": ([2, 5, 10, 20], [2, 20], "of mgda: numbers of tasks"),
    "ratios": ([1.0, 1e4, 1e8], [1.0, 1e8], "of mgda: largest norm of a gradient as a multiple of the least"),
    "problems": (20, 5, "of mgda: problems of each kind"),
    "starts": (5, 1, "of start: processes of each kind"),
    "photos": (10, 2, "of photos and growth: photos of each kind"),
    "pixels": ([128, 256, 512, 1024], [64, 128, 256], "of growth: sides of pictures"),
    "steps": (10, 5, "of train-manipulator: discriminator steps to time"),
    "limit": (256, 64, "of train-manipulator: faces to read"),
}
"""The scale: an option's value, with `--quick`, and its help."""


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = "; ".join(f"{name}: {what}" for name, what in SECTIONS.items())
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"by default all: {sections}")
    parser.add_argument("--quick", action="store_true", help="a small scale, in under three minutes")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for JSON, Markdown and plots of this run")
    parser.add_argument("--faces", metavar="FOLDER", help="of train-manipulator: faces with labels")
    parser.add_argument("--compile", action="store_true", help="of visits: compiled manipulators, too; takes minutes")
    for name, (full, quick, what) in SCALE.items():
        many = {"nargs": "+", "type": type(full[0])} if isinstance(full, list) else {"type": type(full)}
        parser.add_argument(f"--{name}", help=f"{what} (default: {full}, quick {quick})", **many)
    options = parser.parse_args(argv)
    for name, scale in SCALE.items():
        if getattr(options, name.replace("-", "_")) is None:
            setattr(options, name.replace("-", "_"), scale[options.quick])
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"unknown section {', '.join(sorted(unknown))}; choose from: {', '.join(SECTIONS)}")
    if "train-manipulator" in options.sections and not options.faces:
        parser.error("train-manipulator needs --faces FOLDER, of faces with labels")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the sections that the command line names; returns 130 for Ctrl-C."""
    options = parsed(argv)
    suite = Suite(options.output, quick=options.quick)
    if options.quick:
        print("quick: a small scale; the figures show that all runs, and stand for nothing else", flush=True)
    try:
        for name in options.sections or SECTIONS:
            with suite.section(name):
                import_module(f"benchmarks.{name.replace('-', '_')}").measure(suite, options)
    except KeyboardInterrupt:
        print("interrupted" + f"; what was measured is in {options.output}" * bool(options.output), file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
