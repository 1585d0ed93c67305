"""The half of `hub/on_gpu.sh` that runs here: packs trainings for a machine without network, fetches, rehearses.

There neither ART nor OpenCV nor torchcam is used: points and heat maps of the faces are in the pack.
"""

import argparse
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from on_gpu import BACK, CALLS, FILE, FILES, PACK, ROOT, Part, plan, quantised, restore, split, table, unpack
from safetensors.torch import load_file, save

from art_idguard.data.reading import read_faces
from art_idguard.data.sources import entries
from art_idguard.models import load as load_model
from art_idguard.recognizers import load as load_recognizer
from art_idguard.regions import heat_maps

RECIPES = ROOT / "hub" / "recipes"
FETCHED = ROOT / "runs" / "on_gpu"
DEFAULT = ("protector-photo-gpu", "protector-gpu", "stargan-celeba128")

MOST, TRAVELS = 60_000_000, 66_000_000
"""Bytes of a pack, or of each of its files, and together with this checkout's: 64 MiB may travel in a call."""

PACKAGES = ("jaxtyping", "wadler-lindig", "lazy-loader", "tqdm")
"""Of pure Python, sent along whether they are there or not."""
BARE = (f"torch=={torch.__version__.partition('+')[0]}", "accelerate==1.15.0", "safetensors==0.8.0")
BARE += ("huggingface_hub==1.33.0", "pillow")
"""All that the rehearsal's environment has."""
TINY = ("--batch-size=1", "--limit=1", "--precision=no", "--steps=5", "--log-every=1", "--checkpoint-every=2")
"""The rehearsal's trainings."""


class Packer:
    """Writes a pack, and each of its files below `stage`, as it will lie there."""

    def __init__(self, tar: tarfile.TarFile, stage: Path) -> None:
        self.tar, self.stage = tar, stage

    def add(self, name: str, content: bytes) -> None:
        """A file."""
        info = tarfile.TarInfo(name)
        info.size = len(content)
        self.tar.addfile(info, io.BytesIO(content))
        path = self.stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def add_network(self, name: str, weights: Path | None) -> None:
        """A folder with config.json and model.safetensors, or a file, which may also be in the folder `weights`."""
        if (ROOT / name).is_dir():
            config = json.loads((ROOT / name / "config.json").read_text())
            config.pop("sha256", None)  # of other bytes
            self.add(f"{name}/config.json", json.dumps(config).encode())
            name += "/model.safetensors"
        places = [ROOT / name, *([weights / Path(name).name] if weights else [])]
        if not (found := [path for path in places if path.is_file()]):
            sys.exit(f"there is no {name} here; name the folder that has it with --weights")
        self.add(f"{name}.int8", save(quantised(load_file(found[0]))))

    def add_packages(self) -> None:
        """Small packages, as files on the path of modules."""
        site = self.stage / "site"
        install = ("install", "-qq", "--no-deps", "--no-compile", "--target", site)
        subprocess.run([sys.executable, "-m", "pip", *install, *PACKAGES], check=True)
        for path in sorted(path for path in site.rglob("*") if path.is_file()):
            self.add(str(path.relative_to(self.stage)), path.read_bytes())

    def add_faces(self, faces: Path, raw: io.BufferedWriter, room: int) -> None:
        """As many as there is room for, with a row, points and a heat map each."""
        head, *rows = (faces / "train.csv").read_text().splitlines()
        labels, kept = {row.partition(",")[0]: row for row in rows}, [head]
        for entry in entries(faces, "train"):
            if raw.tell() + 300 * len(kept) + 200_000 > room:
                break
            self.add(f"data/celeba128/{entry.name}", entry.read())
            kept.append(labels[entry.name])
        if len(kept) == 1:
            sys.exit(f"the networks take {raw.tell() / 1e6:.1f} of {room / 1e6:.1f} MB; pack fewer recipes at a time")
        self.add("data/celeba128/train.csv", "\n".join([*kept, ""]).encode())
        print(f"{len(kept) - 1} faces")

    def add_regions(self, recipe: Mapping[str, Any]) -> None:
        """Points and heat maps of the faces, by the recogniser as it will be there."""
        restore(self.stage)
        path = self.stage / "regions"
        faces = read_faces(self.stage / recipe["faces"], size=recipe["size"], cache=path)
        heat_maps(faces, load_recognizer(self.stage / recipe["recognizers"][0]), cache=path)
        self.add(recipe["regions"], path.read_bytes())


def pack(
    faces: Path, names: Sequence[str], *, weights: Path | None = None, on: bool = False, transfers: int = 1
) -> None:
    """Fill .pack with recipes, what they need, and as many faces as there is room for.

    Args:
        faces: a data set folder with train.csv.
        names: of recipes.
        weights: a folder with files that the recipes name and this checkout lacks.
        on: go on from what was fetched of these recipes.
        transfers: in so many files, each to be sent in a call of its own.
    """
    one = min(MOST, TRAVELS - size_of_checkout())
    room = transfers * one
    with tempfile.TemporaryDirectory() as place:
        made = Path(place, "pack")
        with made.open("wb") as raw, tarfile.open(fileobj=raw, mode="w:xz", preset=1) as tar:
            packer = Packer(tar, Path(place, "stage"))
            packer.add("names.json", json.dumps(names).encode())
            for part in plan(names, RECIPES):
                packer.add(f"hub/recipes/{part.name}.toml", recipe_text(part, on=on).encode())
            parts = plan(names, packer.stage / "hub" / "recipes")
            there = {part.result for part in parts}
            for network in dict.fromkeys(n for part in parts for n in networks(part.recipe) if n not in there):
                packer.add_network(network, weights)
            packer.add_packages()
            packer.add_faces(faces, raw, room)
            for recipe in {part.recipe["regions"]: part.recipe for part in parts if "regions" in part.recipe}.values():
                packer.add_regions(recipe)
        if made.stat().st_size > room:
            sys.exit(f"that is {made.stat().st_size / 1e6:.1f} of {room / 1e6:.1f} MB; pack fewer recipes at a time")
        split(made.read_bytes(), PACK, "pack", one)
    print(table(parts))
    report()


def report() -> None:
    """The sizes of what would travel."""
    for piece in sorted(PACK.iterdir()):
        size, beside = piece.stat().st_size, size_of_checkout()
        together = f"with this checkout, without its weights, {(size + beside) / 1e6:.1f} of {TRAVELS / 1e6:.0f}"
        print(f"{piece.relative_to(ROOT)}: {size / 1e6:.1f} of {MOST / 1e6:.0f} MB, {together}")


def recipe_text(part: Part, *, on: bool) -> str:
    """The recipe; with `on`, one that starts from what was fetched of it."""
    text = (RECIPES / f"{part.name}.toml").read_text()
    if not on:
        return text
    folder = (FETCHED / part.name).relative_to(ROOT)
    lines = [line for line in text.splitlines() if not line.startswith("start")] + [f'start = "{folder / part.model}"']
    if part.model == "manipulator":
        lines.append(f'start_discriminator = "{folder / "discriminator.safetensors"}"')
    return "\n".join([*lines, ""])


def networks(recipe: Mapping[str, Any]) -> list[str]:
    """Folders and files of what a recipe's training starts from and learns against."""
    named = [*recipe.get("manipulators", ()), *recipe.get("recognizers", ())]
    named += [recipe[key] for key in ("start", "start_discriminator") if key in recipe]
    return [name.rpartition("=")[2] for name in named if name != "photo"]


def travelling() -> list[str]:
    """The files of this checkout that go along with the pack."""
    listed = ("ls-files", "--cached", "--others", "--exclude-standard")
    files = subprocess.run(["git", *listed], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [file for file in files if Path(file).name != "model.safetensors" and (ROOT / file).is_file()]


def size_of_checkout() -> int:
    """In bytes, of what goes along."""
    return sum((ROOT / file).stat().st_size for file in travelling())


def fetch(folder: Path, to: Path = FETCHED) -> list[Path]:
    """Collect the files of a call; results of which all are there are unpacked and load; returns their models."""
    to.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        shutil.copy(path, to)
    models = []
    for name in sorted({path.name.partition(".")[0] for path in to.glob("*.*-of-*")}):
        with tempfile.TemporaryDirectory(dir=to) as new:
            if not unpack(to, name, Path(new)):
                print(f"{name}: not all of its files are there yet")
                continue
            shutil.rmtree(to / name, ignore_errors=True)
            Path(new, name).rename(to / name)
        (model,) = (path.parent for path in (to / name).glob("*/config.json"))
        load_model(model).half().save_pretrained(model)  # with its sha256
        print(f"{model} loads")
        models.append(model)
    return models


def rehearse() -> None:
    """The whole way on this machine's CPU: the pack, an environment that has nothing else, and some steps.

    The first call is killed in the last training, as soon as that has a checkpoint; the second goes on from there.
    """
    began = time.monotonic()
    report()
    with tempfile.TemporaryDirectory(prefix="on-gpu-") as name:
        place = Path(name)
        environment, outs = bare_machine(place), [place / "call-1", place / "call-2"]
        calls = [["bash", "hub/on_gpu.sh", "run", str(out), str(CALLS[0]), *TINY] for out in outs]
        run = Path(environment["HOME"], "on_gpu", plan(packed_names(), RECIPES)[-1].recipe["output"])
        log = kill_in(run, subprocess.Popen(calls[0], cwd=place / "tree", env=environment, start_new_session=True))
        subprocess.run(calls[1], cwd=place / "tree", env=environment, check=True)
        if not (run / "log.jsonl").read_text().startswith(log):
            sys.exit(f"{run.name} began anew")
        for out in outs:
            sizes = [file.stat().st_size for file in out.iterdir()]
            print(f"{out.name} brings back {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB: {', '.join(os.listdir(out))}")
            if max(sizes) > FILE or len(sizes) > FILES or sum(sizes) > BACK:
                sys.exit("that is more than comes back")
            fetch(out, place / "fetched")
    print(f"rehearsed in {(time.monotonic() - began) / 60:.1f} minutes")


def packed_names() -> list[str]:
    """The recipes of the pack."""
    content = b"".join(piece.read_bytes() for piece in sorted(PACK.iterdir()))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return json.load(tar.extractfile(tar.next()))


def bare_machine(place: Path) -> dict[str, str]:
    """Checkout and pack in `place` / "tree", as they travel, and an environment with little more than torch."""
    shutil.copytree(PACK, place / "tree" / PACK.name)
    for file in travelling():
        (copy := place / "tree" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy)
    programs = place / "bare" / "bin"
    subprocess.run([sys.executable, "-m", "venv", programs.parent], check=True)
    subprocess.run([programs / "pip", "install", "-qq", *BARE], check=True)
    subprocess.run([programs / "pip", "list", "--format=freeze"], check=True)
    return {"HOME": str(place / "home"), "PATH": f"{programs}:{os.defpath}", "OMP_NUM_THREADS": "1"}


def kill_in(run: Path, process: subprocess.Popen[bytes]) -> str:
    """Kill a process and its children once a training of theirs has a checkpoint; returns its log's first line."""
    while process.poll() is None and not (run / "checkpoint.pt").is_file():
        time.sleep(0.1)
    if process.returncode is not None:
        sys.exit(f"the first call ended with {process.returncode} before {run.name} had a checkpoint")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    print(f"killed the first call in {run.name}; the second goes on")
    return (run / "log.jsonl").read_text().partition("\n")[0]


def command_line() -> argparse.ArgumentParser:
    """Of `hub/on_gpu.sh`, but for `run`."""
    parser = argparse.ArgumentParser(prog="hub/on_gpu.sh", description=__doc__)
    commands = parser.add_subparsers(dest="do", required=True)
    for name in ("pack", "rehearse"):
        command = commands.add_parser(name)
        command.add_argument("faces", type=Path, nargs=None if name == "pack" else "?")
        command.add_argument("names", nargs="*", help="recipes")
        command.add_argument("--weights", type=Path, help="a folder with files that they name and this checkout lacks")
        command.add_argument("--on", action="store_true", help="go on from what was fetched of them")
        command.add_argument("--transfers", type=int, default=1, help="files, each to be sent in a call of its own")
    commands.add_parser("fetch").add_argument("folder", type=Path)
    return parser


def main() -> None:
    """Parse the command line and do it."""
    given = command_line().parse_args()
    if given.do == "fetch":
        fetch(given.folder)
        return
    if given.faces:
        pack(given.faces, given.names or DEFAULT, weights=given.weights, on=given.on, transfers=given.transfers)
    if given.do == "rehearse":
        rehearse()


if __name__ == "__main__":
    main()
