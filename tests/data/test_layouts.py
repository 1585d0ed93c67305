"""Data sets as they are shipped, and damaged: what is read is right and in one split, or refused by name."""

import os
import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from art_idguard.data.reading import read_faces, read_labelled
from art_idguard.data.sources import entries
from art_idguard.errors import IDGuardError
from art_idguard.files.listing import visible_files
from art_idguard.photos.finding import find_photos
from art_idguard.types import ATTRIBUTES
from tests.data.test_reading import png, write_tar
from tests.toys import PORTRAIT

SPLITS = ("train", "val", "test")
COLUMNS = ("Bald", *ATTRIBUTES, "Zits")


class CelebA:
    """Pictures with random labels; entry i is in split i mod 3 and holds i."""

    def __init__(self, seed, suffix=".jpg", number=7):
        random_ = random.Random(seed)
        self.names = [f"{i:06d}.jpg" for i in range(1, number + 1)]
        self.labels = [[random_.choice((0, 1)) for _ in COLUMNS] for _ in self.names]
        self.suffix = suffix

    def rows(self, between, negative="-1"):
        return [
            between.join([name, *(str(v) if v else negative for v in labels)])
            for name, labels in zip(self.names, self.labels, strict=True)
        ]

    def write_pictures(self, folder):
        folder.mkdir(parents=True)
        for i, name in enumerate(self.names):
            (folder / name).with_suffix(self.suffix).write_bytes(bytes([i]))

    def attributes(self, suffix=".txt"):
        if suffix == ".csv":
            return "\n".join([",".join(["image_id", *COLUMNS]), *self.rows(",")]) + "\n"
        return "\n".join([str(len(self.names)), " ".join(COLUMNS), *self.rows("  ")]) + "\n"

    def partition(self, suffix=".txt"):
        rows = [f"{name}{',' if suffix == '.csv' else ' '}{i % 3}" for i, name in enumerate(self.names)]
        return "\n".join([*(["image_id,partition"] if suffix == ".csv" else []), *rows]) + "\n"

    def table(self, split):
        rows = self.rows(",", negative="0")
        chosen = [row for i, row in enumerate(rows) if SPLITS[i % 3] == split]
        return "\n".join([",".join(["file", *COLUMNS]), *chosen]) + "\n"


def site(data, root):
    data.write_pictures(root / "Img" / "img_align_celeba")
    return {"Anno/list_attr_celeba.txt": data.attributes(), "Eval/list_eval_partition.txt": data.partition()}


def site_png(data, root):
    data.suffix = ".png"
    data.write_pictures(root / "Img" / "img_align_celeba_png")
    return {"Anno/list_attr_celeba.txt": data.attributes(), "Eval/list_eval_partition.txt": data.partition()}


def torchvision(data, root):
    data.write_pictures(root / "celeba" / "img_align_celeba")
    return {"celeba/list_attr_celeba.txt": data.attributes(), "celeba/list_eval_partition.txt": data.partition()}


def kaggle(data, root):
    data.write_pictures(root / "img_align_celeba" / "img_align_celeba")
    return {"list_attr_celeba.csv": data.attributes(".csv"), "list_eval_partition.csv": data.partition(".csv")}


def own_tables(data, root):
    data.write_pictures(root / "faces")
    return {f"{split}.csv": data.table(split) for split in SPLITS}


LAYOUTS = (site, site_png, torchvision, kaggle, own_tables)


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def without_a_line(content, random_):
    lines = content.splitlines(keepends=True)
    del lines[random_.randrange(len(lines))]
    return b"".join(lines)


def with_a_line_twice(content, random_):
    lines = content.splitlines(keepends=True)
    return b"".join([*lines, random_.choice(lines)])


def with_a_byte_more(content, random_):
    at = random_.randrange(len(content) + 1)
    return content[:at] + random_.choice((b"\xff", b"\0", b'"', b",", b" ", b"\r", b"\n", b"x")) + content[at:]


def without_a_byte(content, random_):
    at = random_.randrange(len(content))
    return content if content[at : at + 1] == b"-" else content[:at] + content[at + 1 :]  # -1 without it is 1


DAMAGE = (
    lambda content, random_: content[: random_.randrange(len(content))],
    without_a_line,
    with_a_line_twice,
    with_a_byte_more,
    without_a_byte,
    lambda content, random_: content.decode().encode("utf-16"),
    lambda content, random_: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"),
    lambda content, random_: random_.randbytes(300),
    lambda content, random_: b"",
)


def read_all(root):
    """The numbers of the pictures in each split, and their labels by number; splits that are refused are left out."""
    parts, labels = {}, {}
    for split in SPLITS:
        try:
            found = entries(root, split)
        except IDGuardError:
            continue
        parts[split] = {entry.read()[0] for entry in found}
        labels |= {entry.read()[0]: entry.attributes for entry in found}
    return parts, labels


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read_with_its_labels_and_splits(layout, tmp_path):
    data = CelebA(0)
    write(tmp_path, layout(data, tmp_path))
    parts, labels = read_all(tmp_path)
    assert parts == {split: {i for i in range(7) if i % 3 == k} for k, split in enumerate(SPLITS)}
    assert labels == {i: row[1:-1] for i, row in enumerate(data.labels)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_tables_are_refused_or_read_rightly(layout, seed, tmp_path):
    random_ = random.Random(f"{seed}-{layout.__name__}")
    data = CelebA(seed)
    whole = {name: text.encode() for name, text in layout(data, tmp_path).items()}
    for _ in range(20):
        files = dict(whole)
        for name in random_.sample(sorted(files), random_.choice((1, 1, 2))):
            files[name] = random_.choice(DAMAGE)(files[name], random_)
        write(tmp_path, files)
        parts, labels = read_all(tmp_path)
        for split, found in parts.items():
            assert {SPLITS[i % 3] for i in found} == {split}, files
        for i, found in labels.items():
            assert found == data.labels[i][1:-1], files


@pytest.mark.parametrize("layout", [site, torchvision, kaggle])
@pytest.mark.parametrize("below", ["", "Img", "img_align_celeba", "celeba/img_align_celeba"])
def test_celeba_without_its_attributes_is_no_mere_folder(layout, below, tmp_path):
    """Whether the table is missing, or the pictures' folder alone is given."""
    files = layout(CelebA(0), tmp_path)
    write(tmp_path, {name: text for name, text in files.items() if below or "partition" in name})
    for split in SPLITS:
        if (tmp_path / below).is_dir():
            with pytest.raises(IDGuardError, match=r"no list_attr_celeba\.txt or list_attr_celeba\.csv .*; give the"):
                entries(tmp_path / below, split)


def test_celebas_pictures_in_a_tar_want_labels(tmp_path):
    write_tar(tmp_path / "faces.tar", {"img_align_celeba/000001.jpg": b"\0"})
    with pytest.raises(IDGuardError, match=r"no list_attr_celeba\.txt"):
        entries(tmp_path / "faces.tar", "test")
    write(tmp_path, {"faces.csv": f"file,{','.join(ATTRIBUTES)}\n000001.jpg,1,0,0,0,1\n"})
    assert entries(tmp_path / "faces.tar", "train")[0].attributes == [1, 0, 0, 0, 1]


def test_two_data_sets_in_one_folder_are_not_mixed(tmp_path):
    for place in (tmp_path / "a", tmp_path / "b"):
        write(place, kaggle(CelebA(0), place))
    with pytest.raises(IDGuardError, match=r"two tables of one kind, a/list_attr_celeba\.csv and b/list_attr"):
        entries(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "spoil", "match"),
    [
        (
            "Anno/list_attr_celeba.txt",
            lambda t: t.replace("000003", "000002"),
            r"attr_celeba\.txt, line 5: lists 000002",
        ),
        (
            "Anno/list_attr_celeba.txt",
            lambda t: t.replace("000003.jpg", "\udcff"),
            r"attr_celeba\.txt is no table \(line 5",
        ),
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("Bald ", ""), r"line 3: expected 7 cells .*, found 8"),
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("Bald", "Male"), "has the columns Male twice"),
        (
            "Eval/list_eval_partition.txt",
            lambda t: t.replace("4.jpg 0", "4.jpg 3"),
            r"partition\.txt, line 4: expected",
        ),
        ("Eval/list_eval_partition.txt", lambda t: t.replace("000004.jpg 0\n", ""), r"does not list .*/000004\.jpg"),
        (
            "Eval/list_eval_partition.txt",
            lambda t: t.replace("000004", "000005"),
            r"line 5: lists 000005\.jpg a second",
        ),
    ],
)
def test_a_damaged_table_is_named_with_its_line(name, spoil, match, tmp_path):
    files = site(CelebA(0), tmp_path)
    files[name] = spoil(files[name]).encode(errors="surrogateescape")
    write(tmp_path, files)
    with pytest.raises(IDGuardError, match=match):
        entries(tmp_path, "train")


def celebamask_hq(root, names=("0.jpg",)):
    (root / "CelebA-HQ-img").mkdir(parents=True)
    (root / "CelebAMask-HQ-mask-anno" / "0").mkdir(parents=True)
    rows = "".join(f"{name} {' '.join('1' for _ in COLUMNS)}\n" for name in names)
    write(root, {"CelebAMask-HQ-attribute-anno.txt": f"{len(names)}\n{' '.join(COLUMNS)}\n{rows}"})
    (root / "CelebA-HQ-img" / "0.jpg").write_bytes(b"\0")


def test_celebamask_hq_is_found_a_folder_above(tmp_path):
    celebamask_hq(tmp_path / "CelebAMask-HQ")
    assert [e.name for e in entries(tmp_path, "test")] == ["0.jpg"]
    for place in (tmp_path / "CelebAMask-HQ" / "CelebA-HQ-img", tmp_path):
        with pytest.raises(IDGuardError, match=r"no CelebAMask-HQ-attribute-anno\.txt|no split 'val'"):
            entries(place, "val")
    shutil.rmtree(tmp_path / "CelebAMask-HQ" / "CelebAMask-HQ-mask-anno")
    with pytest.raises(IDGuardError, match="lacks the folder CelebAMask-HQ-mask-anno"):
        entries(tmp_path, "test")


@pytest.mark.parametrize("name", ["/etc/1.jpg", "../1.jpg", "a.jpg", "1.png", "1\u0661.jpg", "1" * 5000 + ".jpg"])
def test_celebamask_hq_names_pictures_of_its_folder(name, tmp_path):
    celebamask_hq(tmp_path, ["0.jpg", name])
    with pytest.raises(IDGuardError, match=r"attribute-anno\.txt lists .*; expected the pictures of"):
        entries(tmp_path, "test")


DEBRIS = (
    "._a.png",
    ".ipynb_checkpoints/a-checkpoint.png",
    "@eaDir/a.png",
    "__MACOSX/x/._a.png",
    "x/@eaDir/a.png/b.jpg",
)


def test_what_systems_leave_in_a_folder_is_no_picture(tmp_path):
    files = {name: png("red") for name in ("a.png", "x/b.png")}
    write(tmp_path / "faces", files | dict.fromkeys(DEBRIS, b"debris"))
    write_tar(tmp_path / "faces.tar", files | dict.fromkeys(DEBRIS, b"debris"))
    for source in (tmp_path / "faces", tmp_path / "faces.tar"):
        assert [e.name for e in entries(source, "train")] == ["a.png", "x/b.png"]
    everything = [tmp_path / "faces" / name for name in files]
    for given in (tmp_path / "faces", tmp_path / "faces" / "**" / "*.png"):
        assert sorted(find_photos([str(given)]).photos) == everything
    assert list(find_photos([str(tmp_path / "faces" / "@eaDir" / "*.png")]).photos)  # asked for by name


def test_a_linked_folder_is_read_once(tmp_path):
    write(tmp_path, {"faces/a.png": b"", "elsewhere/b.png": b""})
    (tmp_path / "faces" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "faces" / "loop").symlink_to(tmp_path / "faces")
    (tmp_path / "faces" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert visible_files(tmp_path / "faces") == [tmp_path / "faces" / "a.png", tmp_path / "faces" / "link" / "b.png"]


def test_folders_of_the_splits_names_are_the_splits(tmp_path):
    names = ("hq/train/male/a.png", "hq/train/female/b.png", "hq/test/male/a.png")
    write(tmp_path / "faces", dict.fromkeys(names, png("red")))
    write_tar(tmp_path / "faces.tar", dict.fromkeys(names, png("red")))
    for source in (tmp_path / "faces", tmp_path / "faces.tar"):
        assert {e.name for e in entries(source, "train")} == set(names[:2])
        assert [e.name for e in entries(source, "test")] == [names[2]]
        with pytest.raises(IDGuardError, match="no split 'val'; choose from: train, test"):
            entries(source, "val")


def test_a_picture_in_two_splits_is_refused(tmp_path):
    data = CelebA(0)
    files = own_tables(data, tmp_path)
    write(tmp_path, files | {"test.csv": files["test.csv"] + data.rows(",")[0] + "\n"})
    for split, other in (("train", "test"), ("test", "train")):
        with pytest.raises(IDGuardError, match=rf"000001\.jpg is in two splits, by .*{split}\.csv and {other}\.csv"):
            entries(tmp_path, split)


def test_a_part_that_is_all_of_a_folder_is_told(tmp_path, capsys):
    write(tmp_path, {"a.png": png("red")})
    entries(tmp_path, "train")
    assert not capsys.readouterr().err
    entries(tmp_path, "test")
    assert "has no splits: its test part is all of it, with whatever a model was trained on" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["", "..", "/etc", "a/b", "*"])
def test_a_splits_name_is_no_path_and_no_pattern(split, tmp_path):
    write_tar(tmp_path / "train.tar", {"a.png": png("red")})
    with pytest.raises(IDGuardError, match=r"is no name of a split|has no split"):
        entries(tmp_path, split)


def test_what_is_no_folder_and_no_tar_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "faces.tar.gz").write_bytes(b"")
    (tmp_path / "folder.tar").mkdir()
    for name, match in (("pipe.tar", "is no file"), ("folder.tar", "is no file"), ("faces.tar.gz", "is no folder and")):
        with pytest.raises(IDGuardError, match=match):
            entries(tmp_path / name, "train")


def test_oblong_pictures_have_one_geometry(tmp_path):
    """The central square, for those with a detector and those without, and for annotations."""
    portrait = Image.open(PORTRAIT).convert("RGB")
    wide, square = portrait.crop((24, 15, 424, 215)), portrait.crop((124, 15, 324, 215))
    index = np.zeros((200, 400), np.uint8)
    index[:, 150:] = 1
    for folder, picture, mask in (("wide", wide, index), ("square", square, index[:, 100:300])):
        (tmp_path / folder).mkdir()
        picture.save(tmp_path / folder / "a.png")
        Image.fromarray(mask).save(tmp_path / folder / "a.mask.png")
    faces = {folder: read_faces(tmp_path / folder, size=64) for folder in ("wide", "square")}
    difference = faces["wide"].images.float() - faces["square"].images.float()
    assert difference.abs().mean() < 0.5  # the edge's pixels see what lies beyond it
    assert torch.equal(faces["wide"].annotation, faces["square"].annotation)
    assert torch.equal(read_labelled(tmp_path / "wide", attributes=(), size=64)[0], faces["wide"].images)
    assert read_faces(tmp_path / "wide", size=64, framing="align").annotation is None  # it would not be warped
