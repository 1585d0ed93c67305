"""Every layout of a data set, and what is read from it."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from art_idguard.data import cached, read_faces
from art_idguard.errors import IDGuardError
from art_idguard.sources import PARTS, entries
from art_idguard.types import ATTRIBUTES
from tests.toys import PORTRAIT, write_portraits


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


def test_split_tars_with_a_table(tmp_path):
    write_tar(tmp_path / "train-0.tar", {"a.png": png("red"), "b.png": png("blue")})
    write_tar(tmp_path / "train-1.tar", {"c.png": png("green")})
    write_tar(tmp_path / "test-0.tar", {"d.png": png("white")})
    write_labels(tmp_path / "train.csv", [["b.png", 0, 1, 0, 0, -1, 1], ["a.png", 1, 0, 1, 0, 0, 0]])
    found = list(entries(tmp_path, "train"))
    assert [e.name for e in found] == ["a.png", "b.png", "c.png"]
    assert found[0].attributes == [0, 1, 0, 0, 0]
    assert found[1].attributes == [1, 0, 0, 0, 1]
    assert found[2].attributes == [0] * 5  # not in the table
    assert [e.name for e in entries(tmp_path, "test")] == ["d.png"]
    assert len(list(entries(tmp_path, "train", limit=2))) == 2


def test_a_table_without_the_attributes_is_refused(tmp_path):
    write_tar(tmp_path / "train.tar", {"a.png": png("red")})
    (tmp_path / "train.csv").write_text("file,Male\na.png,1\n")
    with pytest.raises(IDGuardError, match="lacks the columns Black_Hair"):
        list(entries(tmp_path, "train"))


def test_masks_lie_beside_their_pictures(tmp_path):
    write_tar(tmp_path / "faces.tar", {"a.png": png("red"), "a.mask.png": png("black"), "b.png": png("red")})
    found = list(entries(tmp_path / "faces.tar", "train"))
    assert [e.name for e in found] == ["a.png", "b.png"]
    assert found[0].mask == png("black")
    assert found[1].mask is None
    assert next(iter(entries(tmp_path / "faces.tar", "train", limit=1))).mask == png("black")


def test_celeba_folder_with_its_own_table(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "img_align_celeba" / "000001.jpg").write_bytes(png("red"))
    (tmp_path / "list_attr_celeba.txt").write_text(f"1\n{' '.join(ATTRIBUTES)}\n000001.jpg -1  1 -1 -1  1\n")
    (entry,) = entries(tmp_path, "train")
    assert entry.attributes == [0, 1, 0, 0, 1]


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
    index = np.asarray(Image.open(io.BytesIO(entry.mask)))
    assert entry.name == "1000.jpg"
    assert [index[i, 0] for i in (50, 150, 250, 400)] == [1, 2, 1, 0]
    assert PARTS.index("l_lip") + 1 == 12  # as the class indices of the annotations
    assert PARTS.index("cloth") + 1 == 18
    assert next(iter(entries(tmp_path, "test", limit=1))).name == "0.jpg"


def test_faces_are_read_with_points_kept_in_a_file(tmp_path):
    folder = write_portraits(tmp_path / "faces", 3)
    Image.new("RGB", (64, 64)).save(folder / "zz-no-face.png")
    faces = read_faces(folder, size=64, regions=tmp_path / "regions.safetensors")
    assert len(faces) == 3
    assert faces.images.dtype == torch.uint8
    assert faces.points.shape == (3, 5, 2)
    left_eye, right_eye = faces.points[:, 0], faces.points[:, 1]
    assert (left_eye[:, 0] < right_eye[:, 0]).all()
    again = read_faces(folder, size=64, regions=tmp_path / "regions.safetensors")
    assert torch.equal(again.points, faces.points)
    batch = next(faces.batches(2))
    assert batch.images.min() >= -1
    assert batch.images.max() <= 1
    assert torch.equal(faces.batch(slice(0, 2)).images, batch.images)


def test_aligned_faces_have_celebas_framing(tmp_path):
    """Wherever the face is in the picture, its points come to lie at the template."""
    from art_idguard.faces import CELEBA_TEMPLATE, TEMPLATE_SIZE

    portrait = Image.open(PORTRAIT).convert("RGB")
    portrait.rotate(15, center=(224, 115)).save(tmp_path / "tilted.png")
    faces = read_faces(tmp_path, size=128, framing="align")
    expected = (CELEBA_TEMPLATE + 0.5) * 128 / TEMPLATE_SIZE - 0.5
    assert (faces.points[0] - expected).norm(dim=1).mean() < 5


def test_sources_without_faces_say_so(tmp_path):
    with pytest.raises(IDGuardError, match="no such file or folder"):
        read_faces(tmp_path / "absent", size=64)
    with pytest.raises(IDGuardError, match="no pictures in"):
        read_faces(tmp_path, size=64)
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    for framing in ("resize", "align"):
        with pytest.raises(IDGuardError, match="no face found"):
            read_faces(tmp_path, size=64, framing=framing)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(IDGuardError, match=r"broken\.png is no readable picture"):
        read_faces(tmp_path, size=64)


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
