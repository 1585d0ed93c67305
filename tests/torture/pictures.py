"""Pictures of every format, mode and orientation, whole and damaged, through each door that a picture comes in by."""

import atexit
import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from art_idguard import cli
from art_idguard.data.reading import read_labelled
from art_idguard.errors import IDGuardError
from art_idguard.files.photo import read_photo, write_photo
from art_idguard.perturbation import Protector
from tests.torture.made_pictures import BARE_FACE, MODES, Made, Picture, decoded, make, suffix_of, valid

NAME, IN_SUITE = "pictures", 30

LEVELS = 6  # of the protector's epsilon, 0.05


def attempt(random: Random, folder: Path) -> str:
    """Read, write, protect or train on what was made."""
    return random.choices((read, write, learn, protect, misplaced), (8, 4, 2, 3, 1))[0](random, folder)


def read(random: Random, folder: Path) -> str:
    made = make(random)
    path = folder / f"photo{made.suffix if random.random() < 0.7 else random.choice(('', '.jpg', '.PNG', '.webp'))}"
    path.write_bytes(made.content)
    given = (path,) if random.random() < 0.7 else (path, made.content)
    if made.picture is None:
        return refused(path, lambda: read_photo(*given))
    photo = read_photo(*given)
    alpha = np.full(photo.pixels.shape[:2], 255, np.uint8) if photo.alpha is None else photo.alpha
    require_near(Picture(photo.pixels, alpha), made.picture, levels=1)
    assert BARE_FACE not in (photo.exif or b"") + (photo.xmp or b"")
    return "read"


def write(random: Random, folder: Path) -> str:
    """What is written holds what was read, by Pillow's own reading, and nothing else is left in the folder."""
    made = valid(random)
    path, written = folder / f"photo{made.suffix}", folder / "out"
    path.write_bytes(made.content)
    if made.picture is None:
        return refused(path, lambda: read_photo(path))
    photo = read_photo(path)
    format_ = random.choice(("png", "png", "jpeg", "webp"))
    if format_ == "jpeg" and made.picture.alpha.min() < 255:
        with raises("transparent parts"):
            write_photo(photo, written, format=format_)
        assert names_in(folder) == {path.name}
        return "refused"
    write_photo(photo, written, format=format_, quality=random.randint(1, 100))
    assert names_in(folder) == {path.name, "out"}
    content = written.read_bytes()
    assert BARE_FACE not in content
    result, again = decoded(content), read_photo(written)
    assert result is not None
    assert result.pixels.shape == again.pixels.shape == made.picture.pixels.shape
    if format_ == "png":
        require_near(result, made.picture, levels=1)
        assert again.icc_profile == photo.icc_profile
        assert again.exif == photo.exif
        assert np.array_equal(again.pixels, photo.pixels)
    return "written"


def learn(random: Random, folder: Path) -> str:
    """Central squares, in the order of the names; a set with a picture that cannot be read is refused by its name."""
    made = [make(random) if random.random() < 0.3 else valid(random) for _ in range(random.randint(1, 4))]
    paths = [folder / f"{i}{one.suffix}" for i, one in enumerate(made)]
    for path, one in zip(paths, made, strict=True):
        path.write_bytes(one.content)
    bad = [path for path, one in zip(paths, made, strict=True) if one.picture is None]
    if bad:
        with raises(*(re.escape(path.name) for path in bad)):
            read_labelled(folder, attributes=(), size=16)
        return "refused"
    images, _ = read_labelled(folder, attributes=(), size=16)
    for image, one in zip(images, made, strict=True):
        assert one.picture is not None
        square = central_square(one.picture.pixels, 16)
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - square).max() <= 2
    return "read"


def protect(random: Random, folder: Path) -> str:
    """The command on a folder: every photo protected or named, the rest counted, in two runs."""
    photos = Photos(random, folder / "in")
    output = random.choice((folder / "in", folder / "out", folder / "in" / "results"))
    format_ = random.choice(("png", "png", "jpeg", "webp"))
    table = folder / "in" / "table.csv" if random.random() < 0.5 else None
    words = ["protect", folder / "in", "--model", model(), "--check", "none", "--whole", "--format", format_]
    words += [] if output == folder / "in" else ["--output", output]
    words += [] if table is None else ["--csv", table]
    words += random.choice(([], ["--strip-metadata"], ["--workers", "2"]))
    photos.fail_as(format_)
    first = command(words)
    if not photos.expected:
        assert first[0] == 2
        assert "no photo at" in first[1]
        return "no photo"
    good = {path for path, made in photos.expected.items() if made.picture is not None}
    bad = len(photos.expected) - len(good)
    assert first[0] == (1 if bad else 0), first
    assert counts(first[1]) == (len(good), 0, bad, photos.left_out), first
    for path in photos.expected.keys() - good:
        assert path.name in first[1] or not path.name.isprintable(), first
    results = check_results(photos, good, output, format_, strip="--strip-metadata" in words)
    if table is not None:
        check_table(table, photos, results, format_)
    before = {result: result.stat().st_mtime_ns for result in results.values()}
    again = command(words)
    assert again[0] == first[0]
    assert counts(again[1]) == (0, len(good), bad, photos.left_out), again
    assert {result: result.stat().st_mtime_ns for result in results.values()} == before
    return "protected" if good else "refused"


def misplaced(random: Random, folder: Path) -> str:
    """Something else in a photo's place."""
    path = folder / "photo.jpg"
    kind = random.choice(("folder", "pipe", "link", "loop", "nothing", "empty"))
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(folder / "nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "empty":
        path.write_bytes(b"")
    return refused(path, lambda: read_photo(path))


HOSTILE = (
    "a",
    "b b",
    "=1+1",
    "-x",
    "写真",
    "new\nline",
    'q"u,o',
    "é",
    os.fsdecode(b"\xff"),
    "x.2019",
    "%s",
    "[1]",
    "~",
)


class Photos:
    """A folder of a few pictures and other files; what must become of each."""

    def __init__(self, random: Random, folder: Path) -> None:
        folder.mkdir()
        self.expected: dict[Path, Made] = {}
        self.others: dict[Path, str] = {}
        """What is left out, and why."""
        for _ in range(random.randint(1, 4)):
            made = make(random) if random.random() < 0.5 else valid(random)
            place = folder / random.choice(("", "", "sub", "sub/sub"))
            place.mkdir(parents=True, exist_ok=True)
            odd = random.choice(("", ".txt", suffix_of(random.choice(list(MODES)), random)))
            path = place / f"{random.choice(HOSTILE)}{made.suffix if random.random() < 0.7 else odd}"
            path.write_bytes(made.content)
            self.expected.pop(path, None)
            self.others.pop(path, None)
            if path.suffix == ".txt":
                self.others[path] = "no picture by name"
            elif path.suffix in ("", ".2019") and not known_signature(made.content):
                self.others[path] = "no picture by content"
            else:
                self.expected[path] = made

    @property
    def left_out(self) -> Counter[str]:
        return Counter(self.others.values())

    def fail_as(self, format_: str) -> None:
        """A JPEG holds no transparency."""
        for path, made in self.expected.items():
            if format_ == "jpeg" and made.picture is not None and made.picture.alpha.min() < 255:
                self.expected[path] = made._replace(picture=None)


SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG", b"RIFF....WEBPVP8", b"GIF8[79]a", b"BM", b"II\\*\0", b"MM\0\\*", b"II\0\\*"),
    *(b"MM\\*\0", b"II\\+\0", b"MM\0\\+", b"P[0-6f]\\s", b"\xffO\xffQ", b"\0\0\0\x0cjP  \r\n\x87\n"),
    *(b"....ftyp(avif|avis|mif1|msf1)", b"[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
)


def known_signature(content: bytes) -> bool:
    return any(re.match(signature, content, re.DOTALL) for signature in SIGNATURES)


def check_results(photos: Photos, good: set[Path], output: Path, format_: str, *, strip: bool) -> dict[Path, Path]:
    """The result of each photo, by the manifests; nothing else is in the folders."""
    folder = output.parent if output.name == "results" else output
    results: dict[Path, Path] = {}
    for manifest in output.rglob(".art-idguard.jsonl"):
        for line in manifest.read_text("utf-8").splitlines():
            entry = json.loads(line)
            result = manifest.parent / entry["result"]
            (photo,) = [p for p in photos.expected if sha256(os.fsencode(p.resolve())) == entry["place"]]
            assert photo not in results
            assert sha256(photo.read_bytes()) == entry["photo"]
            assert sha256(result.read_bytes()) == entry["bytes"]
            results[photo] = result
    assert results.keys() == good
    assert len(set(results.values())) == len(results)
    for photo, result in results.items():
        picture = photos.expected[photo].picture
        assert picture is not None
        check_result(result, picture, format_, strip=strip)
    there = {path for path in folder.rglob("*") if not path.is_dir()}
    left = {path for path in there if path.name not in (".art-idguard.jsonl", "table.csv", ".table.csv.lock")}
    given = {*photos.expected, *photos.others} if output.name != "out" else set()
    assert left == given | set(results.values()), left
    return results


def check_result(path: Path, before: Picture, format_: str, *, strip: bool) -> None:
    content = path.read_bytes()
    after = decoded(content)
    assert after is not None
    assert BARE_FACE not in content
    assert after.pixels.shape == before.pixels.shape
    change = np.abs(after.pixels.astype(int) - before.pixels)
    if format_ == "png":
        assert change.max() <= LEVELS + 1, change.max()  # by which other decoders differ
        assert np.array_equal(after.alpha, before.alpha)
    if min(before.pixels.shape[:2]) >= 16:
        assert change.max() > 0, "the photo is as it was"
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == format_.upper()
        assert not (strip and (dict(picture.getexif()) or picture.info.get("xmp")))


def check_table(table: Path, photos: Photos, results: dict[Path, Path], format_: str) -> None:
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(photos.expected)
    assert sum(not row["error"] for row in rows) == len(results)
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    if format_ == "png":
        for row in rows:
            assert row["error"] or int(row["levels"]) <= LEVELS


def counts(error: str) -> tuple[int, int, int, Counter[str]]:
    """Of the last line."""
    line = error.splitlines()[-1]
    found = re.fullmatch(r"art-idguard: (\d+) protected, (\d+) skipped, (\d+) failed, (\d+) left out( \((.*)\))?", line)
    assert found, line
    why = Counter({reason: int(number) for number, reason in re.findall(r"(\d+) ([^,]+)", found[6] or "")})
    assert why.total() == int(found[4])
    return int(found[1]), int(found[2]), int(found[3]), why


def command(words: list) -> tuple[int, str]:
    """Exit code and standard error of the command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(map(str, words)))
    assert "Traceback" not in out.getvalue() + err.getvalue(), err.getvalue()
    assert "please report this" not in err.getvalue(), err.getvalue()
    return code, err.getvalue()


@cache
def model() -> Path:
    """A protector of a few weights, for the life of the process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    torch.manual_seed(0)
    made = Protector(generator_config={"channels": 4, "blocks": 1, "norm": "instance"}, size=32)
    made.save_pretrained(folder)
    return folder


def refused(path: Path, read: object) -> str:
    """Whether it was refused by its name."""
    with raises(re.escape(path.name)):
        read()
    return "refused"


@contextlib.contextmanager
def raises(*patterns: str):
    """An IDGuardError that says one of these."""
    try:
        yield
    except IDGuardError as error:
        if not re.search("|".join(patterns), str(error)):
            raise AssertionError(f"expected {' or '.join(patterns)}") from error
    else:
        raise AssertionError("it was taken")


def require_near(found: Picture, expected: Picture, *, levels: int) -> None:
    assert found.pixels.shape == expected.pixels.shape, (found.pixels.shape, expected.pixels.shape)
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() <= levels
    assert np.array_equal(found.alpha, expected.alpha)


def central_square(pixels: np.ndarray, size: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    side = min(height, width)
    x, y = (width - side) / 2, (height - side) / 2
    box = (x, y, x + side, y + side)
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box)).astype(int)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
