"""Every layout of a data set, and what is read from it."""

import io
import random
import tarfile
import warnings
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from art_idguard.data import reading as data
from art_idguard.data.faces import Faces
from art_idguard.data.reading import faces_of, read_faces, read_labelled
from art_idguard.data.sources import PARTS, entries
from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import cached, cached_rows
from art_idguard.types import ATTRIBUTES
from tests.toys import PORTRAIT, bomb, write_portraits


def png(color, size=8):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), color).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_labels(path, rows):
    names = ["file", "Bald", *ATTRIBUTES]
    path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]))


def write_pictures(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png("red"))
    return folder


def names_of(source, split="train", **options):
    return [entry.name for entry in entries(source, split, **options)]


def test_split_tars_with_a_table(tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.png": png("red"), "b.png": png("blue")})
    write_tar(tmp_path / "train-1.tar", {"c.png": png("green")})
    write_tar(tmp_path / "test-0.tar", {"d.png": png("white")})
    write_labels(tmp_path / "train.csv", [["b.png", 0, 1, 0, 0, -1, 1], ["a.png", 1, 0, 1, 0, 0, 0]])
    found = entries(tmp_path, "train")
    assert [e.name for e in found] == ["a.png", "b.png", "c.png"]
    assert found[2].read() == png("green")
    assert found[0].attributes == [0, 1, 0, 0, 0]
    assert found[1].attributes == [1, 0, 0, 0, 1]
    assert found[2].attributes == [0] * 5  # not in the table
    assert names_of(tmp_path, "test") == ["d.png"]
    assert len(entries(tmp_path, "train", limit=2)) == 2


def test_a_table_without_the_attributes_is_refused(tmp_path):
    write_tar(tmp_path / "train.tar", {"a.png": png("red")})
    (tmp_path / "train.csv").write_text("file,Male\na.png,1\n")
    with pytest.raises(IDGuardError, match="lacks the columns Black_Hair"):
        entries(tmp_path, "train")


@pytest.mark.parametrize("row", ["a.png,0,1,0,,1,1", "a.png,0,1", "a.png,0,1,0,nan,1,1", "a.png,0,1,0,yes,1,1"])
def test_an_unusable_label_is_named(tmp_path, row):
    write_tar(tmp_path / "train.tar", {"a.png": png("red")})
    write_labels(tmp_path / "train.csv", [row.split(",")])
    with pytest.raises(
        IDGuardError, match=r"train\.csv, row of 'a\.png': (Blond|Brown)_Hair is '(|nan|yes)', expected"
    ):
        entries(tmp_path, "train")


def test_a_table_may_be_excels_but_must_be_utf_8(tmp_path):
    write_tar(tmp_path / "train.tar", {"a.png": png("red")})
    write_labels(tmp_path / "train.csv", [["a.png", 0, 1, 0, 0, 0, 1]])
    content = (tmp_path / "train.csv").read_text()
    (tmp_path / "train.csv").write_text(content, encoding="utf-8-sig")
    assert entries(tmp_path, "train")[0].attributes == [1, 0, 0, 0, 1]
    (tmp_path / "train.csv").write_text(content, encoding="utf-16")
    with pytest.raises(IDGuardError, match=r"train\.csv is no table .* UTF-8"):
        entries(tmp_path, "train")


def test_pictures_of_one_name_have_labels_by_their_paths(tmp_path):
    write_pictures(tmp_path, ["a/0.png", "b/0.png", "b/1.png"])
    rows = [["a/0.png", 0, 1, 0, 0, 0, 0], ["b/0.png", 0, 0, 1, 0, 0, 0], ["1.png", 0, 0, 0, 1, 0, 0]]
    write_labels(tmp_path / "train.csv", rows)
    assert [e.attributes.index(1) for e in entries(tmp_path, "train")] == [0, 1, 2]
    write_labels(tmp_path / "train.csv", [["0.png", 0, 1, 0, 0, 0, 0]])
    with pytest.raises(IDGuardError, match=r"lists 0\.png, which may be any of a/0\.png, b/0\.png; write"):
        entries(tmp_path, "train")


def test_a_table_beside_pictures_says_which_are_in_the_split(tmp_path):
    write_pictures(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    write_labels(tmp_path / "train.csv", [["c.png", 0, 1, 0, 0, 0, 0], ["a.png", 0, 0, 1, 0, 0, 0]])
    write_labels(tmp_path / "test.csv", [["b.png", 0, 1, 0, 0, 0, 0]])
    assert names_of(tmp_path, required=ATTRIBUTES) == ["a.png", "c.png"]
    assert names_of(tmp_path, "test", required=ATTRIBUTES) == ["b.png"]
    with pytest.raises(IDGuardError, match="no split 'val'; choose from: train, test"):
        entries(tmp_path, "val")
    (tmp_path / "c.png").unlink()
    with pytest.raises(IDGuardError, match=r"train\.csv lists c\.png, which is not in"):
        entries(tmp_path, "train")


def test_a_folder_or_tar_without_parts_is_the_same_under_every_split(tmp_path):
    write_pictures(tmp_path / "folder", ["a.png", "b.png"])
    write_tar(tmp_path / "faces.tar", {"./a.png": png("red"), "b.png": png("blue")})
    for source in (tmp_path / "folder", tmp_path / "faces.tar"):
        for split in ("train", "val", "test"):
            assert names_of(source, split) == ["a.png", "b.png"]
        with pytest.raises(IDGuardError, match="no split 'tset'; choose from: train, val, test"):
            entries(source, "tset")


def test_a_hard_link_in_a_tar_is_its_picture(tmp_path):
    write_tar(tmp_path / "faces.tar", {"a.png": png("red")})
    with tarfile.open(tmp_path / "faces.tar", "a") as tar:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        tar.addfile(link)
    assert [(e.name, e.read()) for e in entries(tmp_path / "faces.tar", "train")] == [
        ("a.png", png("red")),
        ("b.png", png("red")),
    ]


@pytest.mark.parametrize("damage", [lambda c: c[:700], lambda c: b"x" * 2000, lambda c: zlib.compress(c)])
def test_a_damaged_tar_is_named(tmp_path, damage):
    write_tar(tmp_path / "faces.tar", {"a.png": PORTRAIT.read_bytes()})
    (tmp_path / "faces.tar").write_bytes(damage((tmp_path / "faces.tar").read_bytes()))
    with pytest.raises(IDGuardError, match=r"faces\.tar is damaged or compressed"):
        entries(tmp_path / "faces.tar", "train")


@pytest.mark.parametrize("at", [600, 1024, 1100, 2048, 2100, 3072])
def test_a_tar_that_breaks_off_is_damaged(tmp_path, at):
    """Where its second or third picture, or the mark of its end, should begin, tarfile would end without a word."""
    path = tmp_path / "faces.tar"
    write_tar(path, {f"{i}.png": b"picture" for i in range(3)})
    content = path.read_bytes()
    for damage in (content[:at], content[: at // 1024 * 1024] + b"x" * 512 + content[at // 1024 * 1024 + 512 :]):
        path.write_bytes(damage)
        with pytest.raises(IDGuardError, match=r"faces\.tar is damaged or compressed"):
            entries(path, "train")


def test_masks_lie_beside_their_pictures(tmp_path):
    write_tar(tmp_path / "faces.tar", {"a.png": png("red"), "a.mask.png": png("black"), "b.png": png("red")})
    found = entries(tmp_path / "faces.tar", "train")
    assert [e.name for e in found] == ["a.png", "b.png"]
    assert found[0].mask() == png("black")
    assert found[1].mask is None
    assert entries(tmp_path / "faces.tar", "train", limit=1)[0].mask() == png("black")


def write_celeba(folder, count):
    files = [f"{i:06d}.jpg" for i in range(1, count + 1)]
    write_pictures(folder / "img_align_celeba", files)
    rows = "\n".join(f"{file} -1  1 -1 -1  1" for file in files)
    (folder / "list_attr_celeba.txt").write_text(f"{count}\n{' '.join(ATTRIBUTES)}\n{rows}\n")
    return files


def test_celeba_is_split_by_its_own_partition(tmp_path):
    files = write_celeba(tmp_path, 4)
    parts = zip(files, (0, 2, 1, 0), strict=True)
    (tmp_path / "list_eval_partition.txt").write_text("".join(f"{file} {part}\n" for file, part in parts))
    for split, chosen in (("train", [0, 3]), ("val", [2]), ("test", [1])):
        assert names_of(tmp_path, split) == [f"img_align_celeba/{files[i]}" for i in chosen]
    assert entries(tmp_path, "train")[0].attributes == [0, 1, 0, 0, 1]
    with pytest.raises(IDGuardError, match="no split 'valid'"):
        entries(tmp_path, "valid")


def test_celeba_without_its_partition_is_split_as_stargan_does(tmp_path):
    """Python's shuffle of the rows with seed 1234; rows 1 to 1,999 are the test set."""
    files = write_celeba(tmp_path, 2005)
    random.seed(1234)
    random.shuffle(files)
    parts = {split: names_of(tmp_path, split) for split in ("train", "test")}
    for split, expected in (("test", files[:1999]), ("train", files[1999:])):
        assert parts[split] == sorted(f"img_align_celeba/{file}" for file in expected)
    with pytest.raises(IDGuardError, match="no split 'val'; choose from: train, test"):
        entries(tmp_path, "val")


def test_celebamask_hq_layout(tmp_path):
    """The first 1000 rows are the test set; binary part pictures become one index mask."""
    (tmp_path / "CelebA-HQ-img").mkdir()
    rows = "\n".join(f"{i}.jpg 1 -1 -1 1 -1" for i in range(1001))
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").write_text(f"1001\n{' '.join(ATTRIBUTES)}\n{rows}\n")
    for i in (0, 1000):
        (tmp_path / "CelebA-HQ-img" / f"{i}.jpg").write_bytes(png("red"))
    parts = tmp_path / "CelebAMask-HQ-mask-anno" / "0"
    parts.mkdir(parents=True)
    mask = np.zeros((512, 512), np.uint8)
    for part, rows_ in (("skin", slice(0, 300)), ("nose", slice(100, 200))):
        picture = mask.copy()
        picture[rows_] = 255
        Image.fromarray(picture).save(parts / f"01000_{part}.png")
    (entry,) = entries(tmp_path, "train")
    index = np.asarray(Image.open(io.BytesIO(entry.mask())))
    assert entry.name == "1000.jpg"
    assert [index[i, 0] for i in (50, 150, 250, 400)] == [1, 2, 1, 0]
    assert PARTS.index("l_lip") + 1 == 12  # as the class indices of the annotations
    assert PARTS.index("cloth") + 1 == 18
    assert names_of(tmp_path, "test", limit=1) == ["0.jpg"]
    with pytest.raises(IDGuardError, match="no split 'tset'; choose from: train, test"):
        entries(tmp_path, "tset")
    with pytest.raises(IDGuardError, match=r"cannot read 1\.jpg"):
        read_labelled(tmp_path, attributes=ATTRIBUTES, size=8, split="test")


def test_faces_are_read_with_points_kept_in_a_file(tmp_path):
    folder = write_portraits(tmp_path / "faces", 3)
    Image.new("RGB", (64, 64)).save(folder / "zz-no-face.png")
    with pytest.warns(UserWarning, match=r"1 of 4 pictures left out: no face found \(zz-no-face\.png\)"):
        faces = read_faces(folder, size=64, cache=tmp_path / "regions.safetensors")
    assert len(faces) == 3
    assert faces.images.dtype == torch.uint8
    assert faces.landmarks.shape == (3, 5, 2)
    left_eye, right_eye = faces.landmarks[:, 0], faces.landmarks[:, 1]
    assert (left_eye[:, 0] < right_eye[:, 0]).all()
    (folder / "zz-no-face.png").unlink()
    again = read_faces(folder, size=64, cache=tmp_path / "regions.safetensors")
    assert torch.equal(again.landmarks, faces.landmarks)
    batch = next(faces.batches(2))
    assert batch.images.min() >= -1
    assert batch.images.max() <= 1
    assert torch.equal(faces.batch(slice(0, 2)).images, batch.images)


def test_aligned_faces_have_celebas_framing(tmp_path):
    """Wherever the face is in the picture, its points come to lie at the template."""
    from art_idguard.faces.alignment import CELEBA_TEMPLATE, TEMPLATE_SIZE

    portrait = Image.open(PORTRAIT).convert("RGB")
    portrait.rotate(15, center=(224, 115)).save(tmp_path / "tilted.png")
    faces = read_faces(tmp_path, size=128, framing="align")
    expected = (CELEBA_TEMPLATE + 0.5) * 128 / TEMPLATE_SIZE - 0.5
    assert (faces.landmarks[0] - expected).norm(dim=1).mean() < 5


def test_sources_without_faces_say_so(tmp_path):
    with pytest.raises(IDGuardError, match="no such file or folder"):
        read_faces(tmp_path / "absent", size=64)
    with pytest.raises(IDGuardError, match="no pictures in"):
        read_faces(tmp_path, size=64)
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    for framing in ("resize", "align"):
        with pytest.raises(IDGuardError, match="no face found"):
            read_faces(tmp_path, size=64, framing=framing)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (
            lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
            r"is no readable picture \(of an unknown kind\)",
        ),
        (lambda path: path.write_bytes(PORTRAIT.read_bytes()[:9000]), "is no readable picture"),
        (bomb, "is too large"),
    ],
    ids=["no picture", "truncated", "bomb"],
)
def test_an_unreadable_picture_is_named(tmp_path, spoil, match):
    write_pictures(tmp_path, ["a.png"])
    spoil(tmp_path / "bad.png")
    with pytest.raises(IDGuardError, match=rf"bad\.png {match}.*, or take it out of the data set"):
        read_faces(tmp_path, size=64)


def test_an_unreadable_annotation_is_named(tmp_path):
    write_portraits(tmp_path, 1)
    (tmp_path / "000.mask.png").write_bytes(png("red"))  # no index picture
    with pytest.raises(IDGuardError, match=r"the annotation of 000\.png is no readable index picture"):
        read_faces(tmp_path, size=64)


def test_16_bit_grey_faces_are_as_dark_as_with_8(tmp_path):
    grey = np.asarray(Image.open(PORTRAIT).convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    faces = read_faces(tmp_path, size=512)
    assert torch.equal(faces.images, torch.from_numpy(grey.copy()).expand(1, 3, -1, -1))


def test_cached_computes_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return torch.ones(2)

    for _ in range(2):
        assert torch.equal(cached(tmp_path / "c.safetensors", "key", compute), torch.ones(2))
    assert len(calls) == 1
    cached(None, "key", compute)
    assert len(calls) == 2


def test_rows_are_computed_once_each(tmp_path):
    asked = []

    def rows(path, content_ids):
        def compute(missing):
            asked.append([content_ids[i] for i in missing])
            return torch.tensor([[10.0 * content_ids[i]] for i in missing])

        return cached_rows(path, "key", content_ids, compute).flatten().tolist()

    path = tmp_path / "c.safetensors"
    assert rows(path, [3, 1]) == [30, 10]
    assert rows(path, [1, 2, 3, 2]) == [10, 20, 30, 20]
    assert rows(path, [2]) == [20]
    assert asked == [[3, 1], [2, 2]]
    assert rows(None, [2, 3]) == [20, 30]


def test_points_are_found_once_for_a_picture_whatever_the_limit(tmp_path, monkeypatch):
    folder, regions, searched = write_portraits(tmp_path / "faces", 3), tmp_path / "regions.safetensors", []
    whole = read_faces(folder, size=64).landmarks
    find = data._points
    monkeypatch.setattr(data, "_points", lambda *parts: (searched.append(limit), find(*parts))[1])
    for limit in (2, 3, 1):
        assert torch.equal(read_faces(folder, size=64, limit=limit, cache=regions).landmarks, whole[:limit])
    read_faces(folder, size=48, limit=1, cache=regions)
    assert searched == [2, 2, 3, 1]  # two, another one, none, and one in another size


def test_a_damaged_file_of_regions_is_named(tmp_path):
    folder, regions = write_portraits(tmp_path / "faces", 1), tmp_path / "regions.safetensors"
    regions.write_bytes(b"damaged")
    with pytest.raises(IDGuardError, match=r"regions\.safetensors is damaged .*; delete it"):
        read_faces(folder, size=64, cache=regions)


def test_kept_rows_with_a_changed_byte_are_refused(tmp_path):
    path = tmp_path / "rows.safetensors"
    kept = torch.arange(4.0)[:, None]
    cached_rows(path, "heat", [1, 2, 3, 4], lambda missing: kept[missing])
    whole = path.read_bytes()
    for place in range(8, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with suppress(IDGuardError):
            assert torch.equal(cached_rows(path, "heat", [2, 1], lambda missing: kept[missing]), kept[[1, 0]])
    with pytest.raises(IDGuardError, match=r"rows\.safetensors is damaged \(its checksum does not hold\)"):
        cached_rows(path, "heat", [1], lambda missing: kept[missing])


def test_a_set_is_not_copied_where_all_of_it_is_chosen(tmp_path):
    """A large set is most of the memory."""
    faces = read_faces(write_portraits(tmp_path, 2), size=64)
    assert faces.select([0, 1]).images.data_ptr() == faces.images.data_ptr()
    assert len(faces.select([1])) == 1
    again = Faces(faces.names, faces.images.mT, faces.attributes, faces.landmarks)
    assert len({*faces.content_ids(), *again.content_ids()}) == 4


def test_pictures_in_memory_without_a_face_are_told(tmp_path):
    images = read_faces(write_portraits(tmp_path, 1), size=64).images
    with pytest.warns(UserWarning, match=r"4 of 5 pictures .* \(picture 1, picture 2, picture 3, \.\.\.\)"):
        assert len(faces_of(torch.cat([images, torch.zeros(4, 3, 64, 64, dtype=torch.uint8)]))) == 1


def test_reading_with_threads_leaves_the_filters_of_warnings_alone(tmp_path):
    """They belong to the process: a thread that enters catch_warnings may leave another's filters behind."""
    folder = write_portraits(tmp_path, 24, 64)
    before = list(warnings.filters)
    for _ in range(5):
        read_labelled(folder, attributes=(), size=64)
    assert warnings.filters == before


def test_the_portrait_is_a_data_set_of_one_face_unless_a_folder_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (face,) = entries(Path("astronaut"), "train")
    with Image.open(io.BytesIO(face.read())) as found, Image.open(PORTRAIT) as whole:
        assert np.array_equal(found, whole.crop((121, 0, 325, 204)))
    left_eye, right_eye, *_ = read_faces("astronaut", size=64).landmarks[0].tolist()
    assert right_eye[0] - left_eye[0] == pytest.approx(0.21 * 64, rel=0.1)  # as in CelebA
    with pytest.raises(IDGuardError, match="astronaut has no labels; expected"):
        read_labelled("astronaut", attributes=ATTRIBUTES, size=64)
    with pytest.raises(IDGuardError, match="tset"):
        read_faces("astronaut", size=64, split="tset")
    write_pictures(tmp_path / "astronaut", ["a.png", "b.png"])
    assert names_of(Path("astronaut")) == ["a.png", "b.png"]


def test_faces_of_other_labels_have_another_name_where_edits_depend_on_them(tmp_path):
    faces = read_faces(write_portraits(tmp_path / "faces", 2), size=32)
    labelled = replace(faces, attributes=1 - faces.attributes)
    assert labelled.digest() == faces.digest()
    assert labelled.labelled_digest() != faces.labelled_digest()
