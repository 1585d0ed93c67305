"""Label tables and data sets as they are shipped, packed, named and damaged; and the tables that we write."""

import csv
import io
import re
import tarfile
from pathlib import Path
from random import Random

from art_idguard.data.sources import Entry, entries
from art_idguard.errors import IDGuardError
from art_idguard.photos.table import Outcome, PhotoTable
from tests.data.test_layouts import COLUMNS, DAMAGE, DEBRIS, LAYOUTS, SPLITS, CelebA, write
from tests.data.test_reading import write_tar

NAME, IN_SUITE = "tables", 100


def attempt(random: Random, folder: Path) -> str:
    """Read a data set, whole or damaged, or write a table of results."""
    return random.choices((whole, damaged, packed, unpacked_names, results), (3, 8, 3, 2, 2))[0](random, folder)


def celeba(random: Random) -> CelebA:
    return CelebA(random.random(), number=random.randint(3, 12))


def celebamask_hq(data: CelebA, root: Path) -> dict[str, str]:
    data.names = [f"{i}.jpg" for i in range(len(data.names))]
    data.write_pictures(root / "CelebA-HQ-img")
    (root / "CelebAMask-HQ-mask-anno").mkdir()
    return {"CelebAMask-HQ-attribute-anno.txt": data.attributes()}


def parts_of(data: CelebA, layout: object) -> dict[str, set[int]]:
    """The numbers of the pictures in each split."""
    numbers = range(len(data.names))
    if layout is celebamask_hq:  # its first rows are the test set
        return {"test": set(numbers)}
    return {split: {i for i in numbers if i % 3 == k} for k, split in enumerate(SPLITS)}


def read_all(root: Path) -> tuple[dict[str, set[int]], dict[int, list[float]]]:
    """Numbers of the pictures in each split that is not refused, and their labels; a refusal names the place."""
    parts, labels = {}, {}
    for split in SPLITS:
        try:
            found = entries(root, split)
        except IDGuardError as error:
            if str(root) not in str(error):
                raise AssertionError("the error does not say where") from error
            continue
        parts[split] = {number_of(entry) for entry in found}
        assert len(parts[split]) == len(found), "a picture is there twice"
        labels |= {number_of(entry): entry.attributes for entry in found}
    return parts, labels


def number_of(entry: Entry) -> int:
    return entry.read()[0]


def require_right(data: CelebA, labels: dict[int, list[float]]) -> None:
    for i, found in labels.items():
        assert found == data.labels[i][1:-1], i


def whole(random: Random, folder: Path) -> str:
    """In any way to write the same table: it is read, and rightly."""
    data, layout = celeba(random), random.choice((*LAYOUTS, celebamask_hq))
    files = {name: text.encode() for name, text in layout(data, folder).items()}
    for name in files:
        if random.random() < 0.6:
            files[name] = random.choice(REWRITTEN[Path(name).suffix])(files[name])
    write(folder, files | dict.fromkeys(random.sample(DEBRIS, 2), b"debris"))
    parts, labels = read_all(folder)
    assert parts == parts_of(data, layout), parts
    assert labels.keys() == set(range(len(data.names)))
    require_right(data, labels)
    return "read"


EVERYWHERE = (
    lambda content: b"\xef\xbb\xbf" + content,
    lambda content: content.replace(b"\n", b"\r\n"),
    lambda content: content.replace(b"\n", b"\r"),
    lambda content: content.replace(b"\n", b"\n\n"),
    lambda content: content.removesuffix(b"\n"),
)
REWRITTEN = {
    ".txt": (*EVERYWHERE, lambda c: c.replace(b" ", b"   "), lambda c: c.replace(b"\n", b" \n")),
    ".csv": (
        *EVERYWHERE,
        lambda content: content.replace(b",", b", "),
        lambda content: b"\n".join(b'"' + row.replace(b",", b'","') + b'"' for row in content.splitlines()),
    ),
}


def damaged(random: Random, folder: Path) -> str:
    """With one damaged table or several: refused, or what is read is right and in its own split."""
    data, layout = celeba(random), random.choice((*LAYOUTS, celebamask_hq))
    files = {name: text.encode() for name, text in layout(data, folder).items()}
    for name in random.sample(sorted(files), random.choice((1, 1, len(files)))):
        change = with_another_value if random.random() < 0.3 else random.choice((*DAMAGE, *DESTROYED))
        files[name] = change(files[name], random)
    write(folder, files)
    parts, labels = read_all(folder)
    right = parts_of(data, layout)
    assert all(found <= right.get(split, set()) for split, found in parts.items()), parts
    require_right(data, labels)
    return "read" if labels else "refused"


def with_another_value(content: bytes, random: Random) -> bytes:
    """A label that is none."""
    values = [*re.finditer(rb"(?<=[ ,])(-?1|0|2)\b", content)]
    at = random.choice(values)
    other = random.choice((b"7", b"-2", b"nan", b"yes", b"", b"1e0", "\uff11".encode()))
    return content[: at.start()] + other + content[at.end() :]


def with_another_column(content: bytes, random: Random) -> bytes:
    """In one row, or a name in the header."""
    lines = content.split(b"\n")
    row = random.randrange(len(lines))
    between = b"," if b"," in lines[row] else b" "
    cells = lines[row].split(between)
    cells.insert(random.randrange(len(cells) + 1), random.choice((b"7", b"Male", b"", b"file")))
    lines[row] = between.join(cells)
    return b"\n".join(lines)


def listed_as_another(content: bytes, random: Random) -> bytes:
    """Two rows of one picture that say different things."""
    names = re.findall(rb"\d+\.jpg", content)
    a, b = random.sample(names, 2) if len(names) > 1 else (b"", b"")
    return re.sub(rb"\b" + re.escape(a), b, content)


DESTROYED = (
    listed_as_another,
    with_another_column,
    lambda content, random: content.split(b"\n")[0] + b"\n",
    lambda content, random: content.replace(b"\n", b"\n\0", 1),
    lambda content, random: content.replace(b".jpg", "é.jpg".encode("latin-1")),
    lambda content, random: content.replace(b"000001", b"../000001").replace(b"\n0.jpg", b"\n../0.jpg"),
    lambda content, random: content.replace(b"000002", b"/etc/000002").replace(b"\n1.jpg", b"\n/etc/1.jpg"),
    lambda content, random: content.replace(b"000001", b'"000001'),
    lambda content, random: content.replace(b",", b";"),
)


def packed(random: Random, folder: Path) -> str:
    """Tars in place of folders: all of a tar, with its labels, or nothing."""
    data = celeba(random)
    for k, split in enumerate(SPLITS):
        files = {f"{random.choice(('', './', 'sub/'))}{n}": bytes([i]) for i, n in enumerate(data.names) if i % 3 == k}
        write_tar(folder / f"{split}-0.tar", files | dict.fromkeys(random.sample(DEBRIS, 1), b"debris"))
        (folder / f"{split}.csv").write_text(data.table(split))
    harm = random.choice((None, None, cut_off, changed, compressed, with_links))
    place = folder / f"{random.choice(SPLITS)}-0.tar"
    if harm is not None:
        harm(place, random)
    parts, labels = read_all(folder)
    right = parts_of(data, None)
    assert all(found == right[split] for split, found in parts.items()), parts
    assert parts.keys() >= set(SPLITS) - {place.name.removesuffix("-0.tar")}
    if harm in (None, with_links):
        assert parts == right
    elif harm is compressed:
        assert len(parts) == 2
    require_right(data, labels)
    return "read" if len(parts) == 3 else "refused"


def cut_off(path: Path, random: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: random.randrange(len(content.rstrip(b"\0")))])


def changed(path: Path, random: Random) -> None:
    """A byte of a header."""
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        member = random.choice(tar.getmembers())
    content[member.offset + random.randrange(156)] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def compressed(path: Path, random: Random) -> None:
    content = path.read_bytes()
    with tarfile.open(path, f"w:{random.choice(('gz', 'xz', 'bz2'))}") as tar:
        member = tarfile.TarInfo("a.tar")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def with_links(path: Path, random: Random) -> None:
    """And other members that are no pictures of it."""
    with tarfile.open(path, "a") as tar:
        for kind, target in random.sample(
            [
                (tarfile.SYMTYPE, "/etc/passwd"),
                (tarfile.SYMTYPE, "../a.jpg"),
                (tarfile.FIFOTYPE, ""),
                (tarfile.DIRTYPE, ""),
            ],
            2,
        ):
            member = tarfile.TarInfo(f"{random.random()}.jpg")
            member.type, member.linkname = kind, target
            tar.addfile(member)


HOSTILE = (
    "=1+1",
    "a,b",
    "a;b",
    'a"b',
    "new\nline",
    "写真",
    "a b",
    "é",
    "'",
    "-",
    "@x",
    "%41",
    "[1]",
    "*",
    "a=b",
    "\\",
    "~",
)


def unpacked_names(random: Random, folder: Path) -> str:
    """Pictures of odd names, in a table that quotes them, among others that it does not list."""
    numbers = range(random.randint(1, 6))
    names = [f"{random.choice(('', 'x/', '=y/z,/'))}{name}.jpg" for name in random.sample(HOSTILE, len(numbers))]
    write(folder, {name: bytes([i]) for i, name in enumerate(names)})
    labels = [[random.choice((0, 1)) for _ in COLUMNS] for _ in numbers]
    listed = [i for i in numbers if i == 0 or random.random() < 0.8]
    text = io.StringIO()
    rows = csv.writer(text, quoting=random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    columns = random.sample(range(len(COLUMNS)), len(COLUMNS))
    rows.writerow(["file", *(COLUMNS[c] for c in columns)])
    rows.writerows([names[i], *(labels[i][c] for c in columns)] for i in listed)
    (folder / "train.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    found = entries(folder, "train")
    assert [number_of(entry) for entry in found] == sorted(listed, key=lambda i: Path(names[i]))
    for entry in found:
        assert entry.attributes == labels[number_of(entry)][1:-1]
    return "read"


def results(random: Random, folder: Path) -> str:
    """A row a photo, whatever its name and its error; what a kill cuts off is one row."""
    path, characters = folder / "table.csv", "=+-@\t\r\n\"',;\\a \0\x1b\u2028\u202e写\udcff\ufeff"
    texts = ["".join(random.choices(characters, k=random.randint(0, 6))) for _ in range(random.randint(0, 8))]
    table = PhotoTable(path)
    for text in texts:
        table.add(Outcome(text, text, levels=random.choice((None, -1, 6)), error=random.choice(("", text))))
    content = path.read_bytes()
    require_table(content, len(texts))
    path.write_bytes(content[: random.randint(0, len(content))])
    kept = path.read_bytes().count(b"\n")
    PhotoTable(path).add(Outcome("later", "later"))
    require_table(path.read_bytes(), max(kept, 1))
    return "written"


def require_table(content: bytes, rows: int) -> None:
    text = content.decode()
    assert text.count("\n") == len(text.splitlines()) == rows + 1
    header, *found = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert header == list(Outcome._fields)
    assert len(found) == rows
    for row in found:
        assert len(row) == len(header)
        assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row)
        assert not any(cell.startswith("-") for cell in (row[0], row[1], row[-1]))
        assert all(cell.isprintable() or cell.replace("\ufeff", "").isprintable() for cell in row)
