"""Photos that people really have: every mode and orientation, and everything that can be wrong with one."""

import contextlib
import copy
import csv
import json
import os
import struct
import subprocess
import sys
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageOps

from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import align
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.photo import FORMATS, difference, read_photo, write_photo
from art_idguard.images import from_array
from art_idguard.perturbation import Protector
from art_idguard.photos.batch import protect_files
from art_idguard.photos.effects import Effect, effects
from art_idguard.photos.protect import face_crop, face_frames, protect_photo
from art_idguard.photos.table import Outcome, PhotoTable
from art_idguard.pixels import epsilon_to_levels
from art_idguard.recognizers import default
from tests import ROOT
from tests.toys import PORTRAIT, bomb, tiny_manipulators, write_portraits


@pytest.fixture(scope="module")
def protector():
    torch.manual_seed(0)
    return Protector(size=64, generator_config={"channels": 8, "norm": "instance"}).eval()


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def portrait():
    return Image.open(PORTRAIT).convert("RGB")


def written(path, content):
    path.write_bytes(content)
    return path


def animation(path, **options):
    portrait().save(path, save_all=True, append_images=[portrait().rotate(90)], **options)
    return path


def no_width(path):
    Image.new("RGB", (8, 8)).save(path)
    width = struct.pack("<HHI", 256, 4, 1)
    assert width in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(width, struct.pack("<HHI", 255, 4, 1)))
    return path


def of_type(path, dtype):
    Image.fromarray(np.zeros((8, 8), dtype)).save(path)
    return path


def with_12_bits(path):
    content = of_type(path, np.uint16).read_bytes()
    bits = struct.pack("<HHIH", 258, 3, 1, 16)
    assert bits in content
    return written(path, content.replace(bits, struct.pack("<HHIH", 258, 3, 1, 12)))


def with_profile(path, size):
    Image.new("RGB", (8, 8)).save(path, icc_profile=bytes(size))
    return path


def pipe(path):
    os.mkfifo(path)
    return path


def test_bound_holds_in_the_file_and_outside_faces_nothing_changes(tmp_path, protector, detector):
    photo = read_photo(PORTRAIT)
    protected = protect_photo(photo, protector, detector)
    target = tmp_path / "out.png"
    write_photo(protected.photo, target)
    assert len(protected.frames) == 1
    assert 0 < difference(photo, read_photo(target), target) <= epsilon_to_levels(protector.epsilon) == 6
    corners = protected.frames[0] @ np.array([[-1.0, 1, -1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    x, y = ((corners + 1) * 256).clip(min=0)
    outside = np.ones((512, 512), dtype=bool)
    outside[int(y.min()) : int(y.max()) + 1, int(x.min()) : int(x.max()) + 1] = False
    assert outside.sum() > 10_000
    assert np.array_equal(read_photo(target).pixels[outside], photo.pixels[outside])


def test_perturbation_is_warped_back_to_where_it_belongs(protector, detector):
    """Seen in the protector's frame again, the change is the one that the protector made there."""
    photo = read_photo(PORTRAIT)
    smooth = Protector(size=64, generator_config={"channels": 8, "norm": "instance"}).eval()
    ramp = torch.linspace(-0.05, 0.05, 64).expand(1, 3, 64, 64)
    smooth.forward = lambda x: protector(x)._replace(specific=(x + ramp).clamp(-1, 1))
    protected = protect_photo(photo, smooth, detector)
    before, after = (face_crop(p.pixels, protected.frames[0], 64) for p in (photo, protected.photo))
    inner = slice(8, 56)  # the edge fades out
    change, expected = (after - before)[..., inner, inner], ramp[..., inner, inner].numpy()
    assert np.corrcoef(change.flatten(), expected.flatten())[0, 1] > 0.95


def test_two_faces_one_tilted_are_both_protected(protector, detector):
    both = np.concatenate([np.asarray(portrait()), np.asarray(portrait().rotate(20))], axis=1)
    photo = read_photo(PORTRAIT)._replace(pixels=both)
    protected = protect_photo(photo, protector, detector)
    assert len(protected.frames) == 2
    changed = (protected.photo.pixels != both).any(axis=2)
    assert changed[:, :512].sum() > 5000
    assert changed[:, 512:].sum() > 5000
    assert np.abs(protected.photo.pixels.astype(int) - both).max() <= 6


def test_overlapping_faces_stay_inside_the_bound(protector):
    photo = read_photo(PORTRAIT)
    face = FaceDetector().detect(photo.pixels)[0]

    class Twice(FaceDetector):
        def detect(self, _picture):
            return [face, face._replace(landmarks=face.landmarks + 5)]

    protected = protect_photo(photo, protector, Twice())
    assert np.abs(protected.photo.pixels.astype(int) - photo.pixels).max() <= 6


@pytest.mark.parametrize("face", [True, False])
def test_bands_of_a_photo_join_without_a_seam(face, protector, detector, monkeypatch):
    """Worked on in bands, as large photos are, a photo is protected as in one piece."""
    protected = []
    for rows in (1000, 7):

        def parts(length, _across, rows=rows):
            return [slice(start, min(start + rows, length)) for start in range(0, length, rows)]

        for module in ("pixels", "files.photo", "photos.protect"):
            monkeypatch.setattr(f"art_idguard.{module}.bands", parts)
        photo = read_photo(PORTRAIT)
        if not face:
            photo = photo._replace(pixels=photo.pixels[300:390, :60])
        protected.append(protect_photo(photo, protector, detector, whole=True).photo.pixels)
    assert np.array_equal(*protected)
    assert (protected[0] != photo.pixels).any()


MEASURED = """
import resource
from pathlib import Path
from PIL import Image
from art_idguard.faces import FaceDetector
from art_idguard.perturbation import Protector
from art_idguard.photos.job import protect_file
from tests.toys import PORTRAIT
protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"}).eval()
close = Image.open(PORTRAIT).convert("RGB").crop((150, 40, 310, 200))
peaks = []
for side in (1000, 3000):
    close.resize((side, side)).save("close.jpg")
    done = protect_file(Path("close.jpg"), Path("out.png"), protector, FaceDetector())
    assert len(done.frames) == 1
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print((peaks[1] - peaks[0]) * 1024 / (3000**2 - 1000**2))
"""


@pytest.mark.slow
def test_a_close_up_takes_few_bytes_a_pixel(tmp_path):
    """Less than two copies of it as float would: one of 100 megapixels takes 1.5 GB in all."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 24


def test_no_face_is_an_error_or_the_whole_picture(protector, detector):
    photo = read_photo(PORTRAIT)._replace(pixels=np.full((80, 60, 3), 128, dtype=np.uint8))
    with pytest.raises(IDGuardError, match=r"no face found.*--whole"):
        protect_photo(photo, protector, detector)
    whole = protect_photo(photo, protector, detector, whole=True)
    assert whole.frames == ()
    assert 0 < np.abs(whole.photo.pixels.astype(int) - photo.pixels).max() <= 6


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (3, 2)])
def test_tiny_pictures_have_no_face(tmp_path, protector, detector, size):
    Image.new("RGB", size).save(tmp_path / "tiny.png")
    with pytest.raises(IDGuardError, match="no face found"):
        protect_photo(read_photo(tmp_path / "tiny.png"), protector, detector)


def test_transparency_and_colour_profile_are_kept(tmp_path, protector, detector):
    picture = portrait().convert("RGBA")
    alpha = Image.linear_gradient("L").resize((512, 512))
    picture.putalpha(alpha)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(tmp_path / "in.png", icc_profile=profile)
    photo = read_photo(tmp_path / "in.png")
    write_photo(protect_photo(photo, protector, detector).photo, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as written:
        assert written.mode == "RGBA"
        assert written.info["icc_profile"] == profile
        assert np.array_equal(np.asarray(written.getchannel("A")), np.asarray(alpha))


def test_exif_orientation_is_applied(tmp_path, detector):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate 90 degrees clockwise to view
    portrait().rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    photo = read_photo(tmp_path / "turned.jpg")
    assert np.abs(photo.pixels.astype(int) - np.asarray(portrait())).mean() < 4
    assert len(detector.detect(photo.pixels)) == 1


def test_a_phone_jpeg_with_a_picture_behind_it_is_one_photo(tmp_path):
    photo = read_photo(animation(tmp_path / "phone.jpg", format="MPO"))
    assert np.abs(photo.pixels.astype(int) - np.asarray(portrait())).mean() < 4


def test_damaged_metadata_does_not_matter(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    path = tmp_path / "photo.jpg"
    portrait().save(path, exif=exif)
    content = path.read_bytes()
    entry = (
        content.index(struct.pack(">HH", 0x010E, 2)) if b"MM" in content[:40] else content.index(b"\x0e\x01\x02\x00")
    )
    path.write_bytes(content[: entry + 4] + b"\x7f" * 4 + content[entry + 8 :])  # a length beyond the file
    assert read_photo(path).pixels.shape == (512, 512, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_a_turned_tiff_is_upright(tmp_path, mode, orientation):
    """From its path, too, where Pillow would map it into memory."""
    values = np.random.default_rng(0).integers(0, 256, (7, 16), np.uint8)
    picture = Image.fromarray(values).convert(mode) if mode != "I;16" else Image.fromarray(values * np.uint16(257))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture.save(tmp_path / "a.tif", exif=exif)
    upright = {1: values, 6: values[::-1].T, 7: values[::-1, ::-1].T}[orientation]
    for content in (None, (tmp_path / "a.tif").read_bytes()):
        assert np.array_equal(read_photo(tmp_path / "a.tif", content).pixels[..., 0], upright)


@pytest.mark.parametrize("exif", [None, Image.Exif().tobytes()])
def test_a_png_whose_data_break_off_is_damaged(tmp_path, exif):
    """Its EXIF may lie behind the data, so that Pillow looks for it there first."""
    portrait().resize((64, 64)).save(tmp_path / "a.png", **({"exif": exif} if exif else {}))
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[content.index(b"IDAT") + 2000] ^= 255
    for damage in (content, content[:3000]):
        with pytest.raises(IDGuardError, match=r"a\.png is no readable picture"):
            read_photo(written(tmp_path / "a.png", damage))


@pytest.mark.parametrize(
    "turn", [b' tiff:Orientation="6"', b" tiff:Orientation = '6'", b"><tiff:Orientation>6</tiff:Orientation"]
)
@pytest.mark.parametrize("format", FORMATS)
def test_an_orientation_in_xmp_turns_no_result(tmp_path, turn, format):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1  # which counts, until it is left out
    xmp = b"<x:xmpmeta><rdf:Description%s>rights</rdf:Description></x:xmpmeta>" % turn
    Image.new("RGB", (9, 5)).save(tmp_path / "a.jpg", exif=exif, xmp=xmp)
    write_photo(read_photo(tmp_path / "a.jpg"), tmp_path / "b", format=format)
    with Image.open(tmp_path / "b") as result:
        assert ImageOps.exif_transpose(result).size == (9, 5)
        assert b">rights<" in result.info["xmp"]
        assert b"Orientation" not in result.info["xmp"]


def test_dark_16_bit_pictures_stay_dark(tmp_path):
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "dark.png")
    assert read_photo(tmp_path / "dark.png").pixels.max() == 1


def test_48_bit_pictures_keep_their_upper_bits(tmp_path):
    deep = np.asarray(portrait()).astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    assert np.array_equal(read_photo(tmp_path / "deep.png").pixels, np.asarray(portrait()))


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1", "LA", "YCbCr", "I;16"])
def test_other_modes_are_read_as_upright_rgb(tmp_path, mode):
    path = tmp_path / ("in.tif" if mode in ("CMYK", "YCbCr") else "in.png")
    if mode == "YCbCr":  # uncompressed, Pillow 12.3 cannot read what it wrote
        portrait().convert(mode).save(path, compression="tiff_lzw")
    elif mode == "I;16":
        grey = np.asarray(portrait().convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(path)
    else:
        portrait().convert(mode).save(path)
    photo = read_photo(path)
    assert photo.pixels.shape == (512, 512, 3)
    assert (photo.alpha is None) == (mode != "LA")
    expected = np.asarray(portrait().convert("L" if mode in ("I;16", "LA") else mode).convert("RGB"))
    assert np.abs(photo.pixels.astype(int) - expected).mean() < 1


@pytest.fixture(scope="module", params=["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "MPO"])
def sound(request, tmp_path_factory):
    """A small sound file of each format."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    path = tmp_path_factory.mktemp("sound") / "picture"
    portrait().resize((32, 32)).save(path, format=request.param, **({"exif": exif} if request.param != "BMP" else {}))
    return path


@given(
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=5),
    cut=st.integers(0, 4000),
)
@settings(max_examples=40, deadline=None)
def test_damage_gives_a_picture_or_a_clear_error(sound, changes, cut):
    content = bytearray(sound.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    damaged = sound.with_name("damaged")
    damaged.write_bytes(content[:cut] if cut < 2000 else content)
    with contextlib.suppress(IDGuardError):
        read_photo(damaged)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: p / "absent.png", "no file at"),
        (lambda p: written(p / "empty.png", b""), "no readable picture"),
        (lambda p: written(p / "text.png", b"hello"), "no readable picture"),
        (lambda p: written(p / "cut.png", PORTRAIT.read_bytes()[:9000]), "no readable picture"),
        (lambda p: bomb(p / "bomb.png"), "too large|more than 100,000,000"),
        (lambda p: bomb(p / "large.png", 12_000, 12_000), "more than 100,000,000"),
        (lambda p: animation(p / "moving.gif"), r"animated .*\(2 frames\)"),
        (lambda p: animation(p / "moving.png"), r"animated .*\(2 frames\)"),
        (lambda p: animation(p / "moving.webp"), r"animated .*\(2 frames\)"),
        (lambda p: of_type(p / "float.tif", np.float32), "floating-point"),
        (lambda p: of_type(p / "whole.tif", np.int32), "32-bit or signed numbers, whose range is unknown"),
        (lambda p: with_12_bits(p / "medical.tif"), "12-bit"),
        (lambda p: bomb(p / "column.png", 1, 20_000_000), "1 x 20000000 pixels; expected sides of at most 65,535"),
        (lambda p: bomb(p / "row.png", 65_536, 2), "expected sides of at most"),
        (lambda p: bomb(p / "nothing.png", 0, 9), "no readable picture"),
        (lambda p: with_profile(p / "printer.jpg", 2**20 + 1), "profile of 1,048,577 bytes"),
        (lambda p: pipe(p / "pipe.png"), "no file at"),
        (lambda p: p, "no file at"),
        (lambda p: no_width(p / "size.tif"), "no readable picture"),  # Pillow raises TypeError
    ],
    ids=[
        *("absent", "empty", "text", "truncated", "bomb", "large", "gif", "apng", "webp", "float", "int32", "12 bits"),
        *("column", "row", "nothing", "profile", "pipe", "folder", "no width"),
    ],
)
def test_unusable_files_are_named(tmp_path, make, match):
    path = make(tmp_path)
    with pytest.raises(IDGuardError, match=match) as caught:
        read_photo(path)
    assert path.name in str(caught.value)


def test_the_largest_profile_that_is_read_is_written(tmp_path):
    photo = read_photo(with_profile(tmp_path / "in.jpg", 2**20))
    write_photo(photo, tmp_path / "out.png")
    assert read_photo(tmp_path / "out.png").icc_profile == photo.icc_profile == bytes(2**20)


def test_interrupted_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.png"
    path.write_bytes(b"before")
    unwritable = read_photo(PORTRAIT)._replace(icc_profile=7)  # fails after the PNG's header is written
    with pytest.raises(TypeError):
        write_photo(unwritable, path)
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    assert path.read_bytes() == b"before"


def test_crop_depends_on_the_face_alone(detector):
    """Cut out of a large photo before it is warped, a face looks as when the whole photo is warped."""
    photo = np.full((1500, 2000, 3), 90, np.uint8)
    photo[700:1212, 1100:1612] = np.asarray(portrait())
    (frame,) = face_frames(detector.detect(photo), photo.shape[:2])
    whole = align(from_array(photo[None]), torch.from_numpy(frame)[None], 64, antialias=True)
    difference = abs(face_crop(photo, frame, 64) - whole.numpy())
    assert difference.mean() < 0.01
    assert difference.max() < 0.15  # another phase of the shrunken pixels


def test_useless_protectors_are_refused(protector, detector):
    photo = read_photo(PORTRAIT)
    weak = Protector(size=64, epsilon=0.005, generator_config={"channels": 8, "norm": "instance"}).eval()
    with pytest.raises(IDGuardError, match="less than one level"):
        protect_photo(photo, weak, detector)
    broken = copy.deepcopy(protector)
    broken.prior.data.fill_(float("nan"))
    with pytest.raises(IDGuardError, match="not finite"):
        protect_photo(photo, broken, detector)


def test_effects_are_those_of_a_hand_made_comparison():
    (manipulator,) = tiny_manipulators(("stargan",))
    crop = torch.from_numpy(face_crop(read_photo(PORTRAIT).pixels, np.eye(2, 3, dtype=np.float32), 64))
    same, other = effects(crop, [crop, crop.flip(3)], manipulator, default())
    assert same.l2_face == 0
    assert same.similarity == pytest.approx(1, abs=1e-5)
    assert other.l2_face > 0
    assert other.similarity < 1


def with_metadata(path, orientation=6, **options):
    """The portrait as a phone writes it: turned, with all kinds of metadata and pictures of the face in them."""
    picture = portrait().rotate(90, expand=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Artist] = "somebody"
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2020:02:20 20:20:20",
        ExifTags.Base.MakerNote: b"a preview of the face",
        ExifTags.Base.ExifImageWidth: 7777,
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6">rights</rdf:Description></x:xmpmeta>'
    options = {"xmp": xmp, "exif": with_thumbnail(exif.tobytes())} | options
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(path, format="JPEG", quality=95, icc_profile=profile, **options)
    return path


def with_thumbnail(exif):
    """EXIF whose first directory points to a second one, that of a thumbnail."""
    start = len(b"Exif\0\0")
    assert exif[start : start + 4] == b"MM\0*"
    (first,) = struct.unpack_from(">I", exif, start + 4)
    (count,) = struct.unpack_from(">H", exif, start + first)
    link = start + first + 2 + 12 * count
    thumbnail = b"\xff\xd8the bare face\xff\xd9"
    second = len(exif) - start
    entries = [(0x0103, 3, 1, 6), (0x0201, 4, 1, second + 2 + 12 * 3 + 4), (0x0202, 4, 1, len(thumbnail))]
    directory = struct.pack(">H", 3) + b"".join(struct.pack(">HHII", *e) for e in entries) + struct.pack(">I", 0)
    return exif[:link] + struct.pack(">I", second) + exif[link + 4 :] + directory + thumbnail


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_is_kept_but_no_picture_of_the_bare_face(tmp_path, format):
    source = with_metadata(tmp_path / "in.jpg")
    with Image.open(source) as before:
        assert before.getexif().get_ifd(ExifTags.IFD.IFD1)  # the thumbnail is there
        profile = before.info["icc_profile"]
    write_photo(read_photo(source), tmp_path / "out", format=format)
    content = (tmp_path / "out").read_bytes()
    with Image.open(tmp_path / "out") as written:
        assert written.format == format.upper()
        exif = written.getexif()
        assert exif[ExifTags.Base.Artist] == "somebody"
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert exif.get_ifd(ExifTags.IFD.Exif) == {ExifTags.Base.DateTimeOriginal: "2020:02:20 20:20:20"}
        assert exif.get_ifd(ExifTags.IFD.GPSInfo) == {ExifTags.GPS.GPSLatitudeRef: "N"}
        assert not exif.get_ifd(ExifTags.IFD.IFD1)
        assert written.info["icc_profile"] == profile
        assert b">rights<" in written.info["xmp"]
        assert b"Orientation" not in written.info["xmp"]
        assert np.abs(np.asarray(written.convert("RGB")).astype(int) - np.asarray(portrait())).mean() < 5
    assert b"bare face" not in content
    assert b"preview of the face" not in content


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_is_stripped_on_request(tmp_path, format):
    photo = read_photo(with_metadata(tmp_path / "in.jpg")).without_metadata()
    write_photo(photo, tmp_path / "out", format=format)
    with Image.open(tmp_path / "out") as written:
        assert not dict(written.getexif())
        assert "xmp" not in written.info
        assert written.info["icc_profile"] == photo.icc_profile


def test_xmp_with_a_thumbnail_and_endless_metadata_are_left_out(tmp_path):
    picture = b"<xmp:Thumbnails><xmpGImg:image>/9j/the face</xmpGImg:image></xmp:Thumbnails>"
    assert read_photo(with_metadata(tmp_path / "a.jpg", xmp=picture)).xmp is None
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    portrait().save(tmp_path / "b.png", exif=exif)
    photo = read_photo(tmp_path / "b.png")
    assert photo.exif is None
    write_photo(photo, tmp_path / "b.jpg", format="jpeg")


def test_a_tiffs_own_tags_do_not_become_metadata(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    portrait().save(tmp_path / "in.tif", exif=exif)
    write_photo(read_photo(tmp_path / "in.tif"), tmp_path / "out.jpg", format="jpeg")
    with Image.open(tmp_path / "out.jpg") as written:
        assert ExifTags.Base.StripOffsets not in written.getexif()
        assert written.getexif()[ExifTags.Base.Artist] == "somebody"


def test_jpeg_keeps_colour_at_full_resolution(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255, 0, 0
    stripes[:, 1::2] = 0, 0, 255
    photo = read_photo(PORTRAIT)._replace(pixels=stripes)
    write_photo(photo, tmp_path / "out.jpg", format="jpeg", quality=95)
    assert difference(photo, read_photo(tmp_path / "out.jpg"), tmp_path) < 20  # halved colour would be off by over 100


def test_formats_refuse_what_they_cannot_hold(tmp_path):
    see_through = read_photo(PORTRAIT)._replace(alpha=np.full((512, 512), 200, np.uint8))
    with pytest.raises(IDGuardError, match="transparent parts"):
        write_photo(see_through, tmp_path / "a.jpg", format="jpeg")
    opaque = see_through._replace(alpha=np.full((512, 512), 255, np.uint8))
    write_photo(opaque, tmp_path / "a.jpg", format="jpeg")
    long = see_through._replace(pixels=np.zeros((1, 20_000, 3), np.uint8), alpha=None)
    with pytest.raises(IDGuardError, match="20000 x 1 pixels are too many for webp"):
        write_photo(long, tmp_path / "a.webp", format="webp")
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


@pytest.fixture
def folder(tmp_path, protector):
    """Five photos with a face and one without, and a protector's weights."""
    protector.save_pretrained(tmp_path / "model")
    write_portraits(tmp_path / "photos", 5, size=128)
    Image.new("RGB", (90, 90), "gray").save(tmp_path / "photos" / "no-face.png")
    return tmp_path


def protect(folder, **options):
    return protect_files(
        [str(folder / "photos")], output=folder / "out", model=str(folder / "model"), check="none", **options
    )


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_keeps_a_table_of_every_photo(folder, capsys, workers):
    table = folder / "done" / "table.csv"
    assert protect(folder, workers=workers, csv=table) == 1
    found = {Path(row["file"]).name: row for row in rows(table)}
    assert sorted(found) == [*(f"00{i}.png" for i in range(5)), "no-face.png"]
    assert list(found["000.png"]) == list(Outcome._fields)
    for name, row in found.items():
        if name == "no-face.png":
            assert "no face found" in row["error"]
        else:
            written = read_photo(Path(row["output"]))
            before = read_photo(Path(row["file"]))
            assert int(row["levels"]) == np.abs(written.pixels.astype(int) - before.pixels).max()
            assert (row["faces"], row["error"], row["l2_face"]) == ("1", "", "")
            assert float(row["seconds"]) >= 0
    assert "no face found" in capsys.readouterr().err


def test_a_cut_off_batch_goes_on(folder, capsys):
    """A result, a row that a kill cut off, a result without a row: each is dealt with once."""
    table = folder / "table.csv"
    protect(folder, csv=table)
    content = table.read_bytes()
    lines = content.splitlines(keepends=True)
    table.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    (first, *_), results = rows(table), sorted((folder / "out").glob("*.png"))
    results[4].unlink()
    kept = {path: path.stat().st_mtime_ns for path in results[:4]}
    assert protect(folder, csv=table) == 1
    assert {path: path.stat().st_mtime_ns for path in results[:4]} == kept
    assert results[4].is_file()
    again = rows(table)
    assert again[0] == first
    assert sorted(Path(row["file"]).name for row in again) == sorted([*(f"00{i}.png" for i in range(5)), "no-face.png"])
    assert sum(row["error"].startswith("skipped: ") for row in again) == 3
    assert protect(folder, csv=table) == 1  # only the photo without a face is tried again
    assert len(rows(table)) == len(again) + 1
    assert capsys.readouterr().out.count("skipped: ") == 4 + 5


def test_a_table_of_something_else_is_refused(folder):
    (folder / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(IDGuardError, match="has the columns a, b"):
        protect(folder, csv=folder / "other.csv")
    assert (folder / "other.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize(
    "content",
    [b"precious notes without newline", b"file,outputs", b"\n\n", PORTRAIT.read_bytes()],
    ids=["notes", "other columns", "blank lines", "picture"],
)
def test_a_file_that_is_no_table_stays(tmp_path, content):
    path = written(tmp_path / "notes.txt", content)
    with pytest.raises(IDGuardError, match=r"notes\.txt .* choose another file for --csv"):
        PhotoTable(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"file,out", ",".join(Outcome._fields).encode()])
def test_a_header_that_a_kill_cut_off_is_written_anew(tmp_path, content):
    path = written(tmp_path / "table.csv", content)
    PhotoTable(path)
    assert path.read_text() == ",".join(Outcome._fields) + "\n"


def test_photos_in_memory_do_not_grow_with_the_batch(folder, monkeypatch):
    """A photo and its written version for each worker, whatever the number of photos."""
    alive, most = weakref.WeakSet(), 0

    class Pixels(np.ndarray):
        __hash__ = object.__hash__

    def counting(path, **options):
        nonlocal most
        photo = read_photo(path, **options)
        photo = photo._replace(pixels=photo.pixels.view(Pixels))
        alive.add(photo.pixels)
        most = max(most, len(alive))
        return photo

    monkeypatch.setattr("art_idguard.photos.job.read_photo", counting)
    protect(folder, workers=2)
    assert 2 <= most <= 4


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_lossy_formats_say_by_how_much_they_leave_the_bound(folder, capsys, format):
    table = folder / "table.csv"
    assert protect(folder, format=format, quality=90, strip_metadata=True, csv=table) == 1
    (row, *_) = rows(table)
    assert row["output"].endswith(".protected.jpg" if format == "jpeg" else ".protected.webp")
    change = np.abs(read_photo(Path(row["output"])).pixels.astype(int) - read_photo(Path(row["file"])).pixels)
    assert int(row["levels"]) == change.max() > 6
    assert f"changed by at most {change.max()} of 255 levels, more than the protector's 6" in capsys.readouterr().out


@pytest.mark.parametrize(("left", "warned"), [(0.3, False), (0.2, True)])
def test_a_file_that_keeps_little_of_the_effect_is_warned_of(folder, monkeypatch, capsys, left, warned):
    monkeypatch.setattr("art_idguard.photos.judging.effects", lambda *_: [Effect(0.01, 0.9), Effect(left * 0.01, 0.9)])
    model = tiny_manipulators(("stargan",))[0]
    model.save_pretrained(folder / "stargan")
    one = str(folder / "photos" / "000.png")
    protect_files([one], output=folder / "out", model=str(folder / "model"), check=str(folder / "stargan"))
    assert ("of the effect less than a quarter is left in the file" in capsys.readouterr().out) == warned


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"workers": 0}, "workers is 0; expected at least 1"),
        ({"quality": 0}, "quality is 0; expected at least 1"),
        ({"quality": 101, "format": "jpeg"}, "quality is 101; expected at most 100"),
    ],
)
def test_senseless_options_are_refused(folder, options, match):
    with pytest.raises(IDGuardError, match=match):
        protect(folder, **options)


def test_an_unexpected_failure_spares_the_others(folder, monkeypatch, capsys):
    def fail(path, **options):
        if path.name == "001.png":
            raise KeyError("surprise")
        return read_photo(path, **options)

    monkeypatch.setattr("art_idguard.photos.job.read_photo", fail)
    assert protect(folder) == 2
    assert "KeyError; please report this" in capsys.readouterr().err
    assert len(list((folder / "out").glob("[!.]*"))) == 4


@pytest.mark.slow
def test_large_photo_is_measured_along_its_way(tmp_path, protector, monkeypatch):
    """Three faces, one tilted, in 4000 x 3000 pixels: found, bounded, and cropped independently as we crop."""
    from examples import photo_path

    protector.save_pretrained(tmp_path / "model")
    (manipulator,) = tiny_manipulators(("stargan",))
    manipulator.save_pretrained(tmp_path / "stargan")
    faces = write_portraits(tmp_path / "faces", 3, size=256)
    words = [str(faces), "--output", str(tmp_path / "report"), "--photos", "1"]
    words += ["--protector", str(tmp_path / "model"), "--manipulators", str(tmp_path / "stargan")]
    monkeypatch.setattr(photo_path, "ways", lambda path: [(photo_path.UNTOUCHED, read_photo(path).pixels)])
    photo_path.main(words)
    measured = json.loads((tmp_path / "report" / "photo-path.json").read_text())
    assert [(m["way"], m["face"]) for m in measured] == [
        (way, face) for face in range(3) for way in ("aligned crop", photo_path.UNTOUCHED)
    ]
    assert all(m["l2_face"] > 0 for m in measured)
    before, after = (read_photo(tmp_path / "report" / f"photo-0{end}.png") for end in ("", ".protected"))
    assert before.pixels.shape == (3000, 4000, 3)
    faces = FaceDetector().detect(before.pixels)
    frames = face_frames(faces, (3000, 4000))
    outside = np.ones((3000, 4000), bool)
    for frame in frames:
        corners = frame @ np.array([[-1.0, 1, -1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]])
        x, y = ((corners + 1) * np.array([[2000], [1500]])).clip(min=0)
        outside[int(y.min()) : int(y.max()) + 1, int(x.min()) : int(x.max()) + 1] = False
    assert outside.mean() > 0.1
    assert np.array_equal(before.pixels[outside], after.pixels[outside])
    for face, frame in zip(faces[:3], frames[:3], strict=True):
        ours, theirs = face_crop(before.pixels, frame, 64), photo_path.taken(before.pixels, face, 64)
        assert abs(ours - theirs.numpy()).mean() < 0.05
