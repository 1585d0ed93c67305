"""Folders of photos and command lines that protect them, at random; what an unbroken run makes of each photo."""

import csv
import tempfile
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from art_idguard import manipulators, recognizers
from art_idguard.perturbation import Protector
from art_idguard.photos.finding import RESULTS as SUFFIXES
from art_idguard.photos.job import shown_beside
from art_idguard.photos.table import Outcome
from tests.torture.kills import Command, Ended, run, temporary_folder
from tests.toys import tiny_manipulators, write_portraits

PORTRAITS = 8


class Options(NamedTuple):
    """What a result depends on."""

    format: str
    quality: int = 95
    strip_metadata: bool = False
    whole: bool = False

    def words(self) -> list[str]:
        flags = [f"--{name.replace('_', '-')}" for name in ("strip_metadata", "whole") if getattr(self, name)]
        return ["--format", self.format, "--quality", str(self.quality), *flags]


OPTIONS = (
    *(Options("png"), Options("png", whole=True), Options("png", strip_metadata=True)),
    *(Options("jpeg", whole=True), Options("jpeg", quality=80), Options("webp", strip_metadata=True)),
)


class Made(NamedTuple):
    """What an unbroken run makes of a picture: the bytes of its result and of its before and after, and its row."""

    result: bytes | None
    shown: bytes | None
    row: dict[str, str]


class Case(NamedTuple):
    """Photos in a folder, and the command lines that protect them."""

    folder: Path
    options: Options
    show: bool
    checked: bool
    overwrite: bool
    output: Path | None
    csv: Path | None
    runs: tuple[tuple[str, ...], ...]
    """The words of each of the runs that are at work at the same time."""
    photos: dict[Path, Made]


@cache
def place() -> Path:
    """A tiny protector and manipulator, and a pool of portraits and of pictures without a face."""
    folder = temporary_folder()
    torch.manual_seed(0)
    made = Protector(generator_config={"channels": 8, "norm": "instance"}, size=32)
    made.prior.data.uniform_(-0.04, 0.04)
    made.save_pretrained(folder / "model")
    for model in (*tiny_manipulators(("stargan",)), recognizers.SFace(width=4)):
        model.save_pretrained(folder / model.name)
    pool = folder / "pool"
    pool.mkdir()
    for number, path in enumerate(sorted(write_portraits(folder / "portraits", PORTRAITS, size=96).iterdir())):
        exif = Image.Exif()
        exif[0x10E] = path.stem
        with Image.open(path) as picture:
            picture.save(pool / f"{path.stem}{('.png', '.jpg', '.webp', '.bmp')[number % 4]}", exif=exif)
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    Image.fromarray(noise).save(pool / "noise.png")
    whole = (pool / "000.png").read_bytes()
    (pool / "half.png").write_bytes(whole[: len(whole) // 2])
    (pool / "text.jpg").write_text("no picture")
    (pool / "empty.png").touch()
    return folder


def small(at: Path) -> None:
    """In place of the networks that ship."""
    manipulators.shipped_manipulators = lambda: [at / "stargan"]
    recognizers.default = lambda: recognizers.load(at / "sface")


def words(
    *inputs: Path, output: Path | None, csv: Path | None, show: bool, checked: bool = True, options: Options
) -> list[str]:
    check = place() / "stargan" if checked else "none"
    places = {"--output": output, "--csv": csv, "--model": place() / "model", "--check": check}
    named = [str(word) for pair in places.items() if pair[1] for word in pair]
    return ["protect", *map(str, inputs), *named, *options.words(), *(["--show"] if show else [])]


@cache
def unbroken(options: Options) -> tuple[dict[bytes, Made], Ended]:
    """What becomes of the pool by the pictures' bytes, and how long it takes."""
    with tempfile.TemporaryDirectory() as name:
        output, table = Path(name, "out"), Path(name, "table.csv")
        line = words(place() / "pool", output=output, csv=table, show=True, options=options)
        (ended,) = run(Command(tuple(line), Path(name), prepare=partial(small, place())))
        rows = {Path(row["file"]): row for row in read_table(table)}
        made = {}
        for path in (place() / "pool").iterdir():
            result = output / f"{path.stem}{SUFFIXES[options.format]}"
            files = [file.read_bytes() if file.is_file() else None for file in (result, shown_beside(result))]
            made[path.read_bytes()] = Made(*files, rows[path])
    assert sum(m.result is not None for m in made.values()) == PORTRAITS + options.whole
    return made, ended


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows; each has a cell for each column."""
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    rows = list(csv.DictReader(text.splitlines(), strict=True))
    assert all(row.keys() == set(Outcome._fields) and None not in row.values() for row in rows)
    return rows


def make(random: Random, folder: Path) -> Case:
    """Photos under few names in few folders, and options."""
    options = random.choice(OPTIONS)
    made, _ = unbroken(options)
    pool = sorted((place() / "pool").iterdir())
    chosen = random.sample(pool, random.randint(4, 8))
    photos: dict[Path, Made] = {}
    for picture in chosen:
        within = random.choice(("in", "in", "in/a", "in/a/b", "other"))
        stem = random.choice(("x", "x.y", "IMG 1", "Zoë", picture.stem))
        path = folder / within / f"{stem}{random.choice((picture.suffix, picture.suffix.upper()))}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.read_bytes())
        photos[path] = made[picture.read_bytes()]
    roots = [root for root in (folder / "in", folder / "other") if root.exists()]
    show, checked, overwrite = (random.random() < share for share in (0.4, 0.5, 0.15))
    places = {"output": random.choice((None, folder / "out")), "csv": random.choice((None, folder / "table.csv"))}
    together = random.choice(([roots], [roots], [roots], [roots] * 2, [[root] for root in roots]))
    runs = []
    for inputs in together:
        line = words(*inputs, **places, show=show, checked=checked, options=options)
        runs.append((*line, "--workers", str(random.randint(1, 3)), *(["--overwrite"] if overwrite else [])))
    return Case(folder, options, show, checked, overwrite, **places, runs=tuple(runs), photos=photos)
