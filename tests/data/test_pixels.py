"""Faces in a file instead of memory: the same faces, decoded once."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from art_idguard.data import reading
from art_idguard.data.pixels import on_disk, placed, taken
from art_idguard.data.reading import read_faces, read_labelled
from art_idguard.errors import IDGuardError
from art_idguard.regions import heat_maps
from tests import ROOT
from tests.toys import tiny, write_labels, write_portraits


@pytest.fixture
def source(tmp_path):
    folder = write_labels(write_portraits(tmp_path / "faces", 12))
    Image.new("RGB", (64, 64)).save(folder / "005.png")  # nobody
    Image.open(folder / "006.png").resize((64, 80)).save(folder / "006.png")  # oblong
    return folder


@pytest.fixture
def decodings(monkeypatch):
    """The pictures that were decoded."""
    seen, before = [], reading._pixels
    monkeypatch.setattr(reading, "_pixels", lambda entry, content: (seen.append(entry.name), before(entry, content))[1])
    return seen


@pytest.mark.filterwarnings("ignore:1 of 12 pictures left out")
@pytest.mark.parametrize("framing", ["resize", "align"])
def test_faces_on_disk_are_those_in_memory(source, tmp_path, decodings, framing):
    expected = read_faces(source, size=64, framing=framing)
    for start in (1, 2):
        decodings.clear()
        faces = read_faces(source, size=64, framing=framing, decoded_in=tmp_path / "decoded")
        assert len(decodings) == (12 if start == 1 else 0)
        assert on_disk(faces.images)
        assert not on_disk(expected.images)
        assert (faces.names, faces.files, faces.digest()) == (expected.names, expected.files, expected.digest())
        assert len(faces.images) == 12 > len(faces) == 11
        for index in (slice(3, 9), torch.tensor([9, 0, 6])):
            for a, b in zip(faces.batch(index), expected.batch(index), strict=True):
                assert a is b is None or torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:1 of 12 pictures left out")
def test_faces_on_disk_stay_there(source, tmp_path):
    faces = read_faces(source, size=64, decoded_in=tmp_path / "decoded")
    few = faces.select([10, 2]).to("cpu")
    assert few.images.data_ptr() == faces.images.data_ptr()
    assert torch.equal(few.pixels(slice(None)), faces.pixels(torch.tensor([10, 2])))
    assert placed(faces.images, "meta").data_ptr() == faces.images.data_ptr()
    with_maps = heat_maps(faces, tiny("sface"))
    assert with_maps.images.data_ptr() == faces.images.data_ptr()
    assert len(with_maps.select([4]).batch(slice(None)).heat) == 1


def test_a_picture_that_has_changed_is_decoded_anew(source, tmp_path, decodings):
    labels = ("Male", "Young")
    first, _ = read_labelled(source, attributes=labels, size=32, decoded_in=tmp_path / "decoded")
    first = first.clone()
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(source / "003.png")
    decodings.clear()
    second, _ = read_labelled(source, attributes=labels, size=32, decoded_in=tmp_path / "decoded")
    assert decodings == ["003.png"]
    assert bool((second[3] == 200).all())
    assert torch.equal(second[[0, 11]], first[[0, 11]])
    assert torch.equal(taken(second, torch.tensor([3, 3])), second[[3, 3]])


def test_other_pictures_and_sizes_have_files_of_their_own(source, tmp_path):
    for size, limit in ((32, None), (32, 4), (64, None)):
        images, _ = read_labelled(source, attributes=(), size=size, limit=limit, decoded_in=tmp_path / "decoded")
        assert torch.equal(images, read_labelled(source, attributes=(), size=size, limit=limit)[0])
    assert len(list((tmp_path / "decoded").glob("*.u8"))) == 3


def test_a_killed_start_leaves_no_half_face(source, tmp_path):
    script = f"""
import os
from pathlib import Path
from art_idguard.data import reading
before, seen = reading._framed, []
def framed(*parts):
    seen.append(1)
    if len(seen) == 5:
        os.kill(os.getpid(), 9)
    return before(*parts)
reading._framed = framed
reading._each = lambda found, decode: [decode(i, entry) for i, entry in enumerate(found)]
reading.read_labelled({str(source)!r}, attributes=(), size=32, decoded_in={str(tmp_path / "decoded")!r})
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == -9
    images, _ = read_labelled(source, attributes=(), size=32, decoded_in=tmp_path / "decoded")
    assert torch.equal(images, read_labelled(source, attributes=(), size=32)[0])


def test_no_room_is_said_before_anything_is_decoded(source, tmp_path, decodings):
    (tmp_path / "decoded").write_text("a file in its place")
    with pytest.raises(IDGuardError, match=r"cannot keep 0\.0 GiB of faces in .*decoded"):
        read_labelled(source, attributes=(), size=32, decoded_in=tmp_path / "decoded")
    assert not decodings
