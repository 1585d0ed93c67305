"""A watermarker that has learnt: what it reads, photos with a payload, and Table VIII, by the command line."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from art_idguard.cli import main
from art_idguard.data.reading import read_faces
from art_idguard.errors import IDGuardError
from art_idguard.evaluation.config import ForensicsConfig
from art_idguard.evaluation.forensics import evaluate_watermarkers
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.photo import read_photo
from art_idguard.forensics import Watermarker, encode
from art_idguard.images import from_uint8, to_array
from art_idguard.manipulators import load
from art_idguard.metrics import ssim
from art_idguard.perturbation import Protector
from art_idguard.photos.protect import face_crop, face_frames
from tests.toys import PORTRAIT


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "me.png"
    Image.open(PORTRAIT).save(path)
    return path


pytestmark = pytest.mark.slow


def test_a_message_is_learnt_first_from_photos_then_through_the_manipulator(learnt, framed):
    watermarker = Watermarker.from_pretrained(learnt)
    assert watermarker.epsilon == 0.25
    log = [json.loads(line) for line in (learnt.parent / "log.jsonl").read_text().splitlines()]
    assert [list(line["errors"]) for line in (log[0], log[-1])] == [["photo"], ["stargan"]]
    assert log[-1]["errors"]["stargan"] < 0.1 < log[0]["errors"]["photo"]
    x = from_uint8(read_faces(framed, size=64, split="train").images)
    messages = torch.from_numpy(np.stack([encode(bytes([17 * i]), 16) for i in range(len(x))]))
    with torch.inference_mode():
        read = watermarker.read(watermarker(x, messages.float())) > 0.5
        nothing = watermarker.read(x) > 0.5
    assert (read != messages).float().mean() < 0.05
    assert 0.2 < (nothing != messages).float().mean() < 0.8


def run(*words):
    return main(["watermark", *map(str, words), "--quiet"])


def test_a_payload_is_put_into_a_whole_photo_and_read_from_the_file_and_from_a_crop(learnt, photo, tmp_path, capsys):
    assert run("embed", photo, "--model", learnt, "--payload", "C5") == 0
    said = capsys.readouterr().out
    marked = tmp_path / "me.watermarked.png"
    assert said.startswith(f"{photo}: -> {marked}: 1 face(s), changed by at most")
    assert said.endswith("payload c5, read back from 1 of them\n")
    before, after = read_photo(photo).pixels.astype(int), read_photo(marked).pixels.astype(int)
    assert 0 < abs(after - before).max() <= 32  # epsilon 0.25
    assert (after[-100:] == before[-100:]).all()  # below the face
    crop = face_in(marked, tmp_path / "crop.png")
    assert run("extract", marked, crop, "--model", learnt) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert (
        first == f"{marked}: payload c5 (nothing mended; about 0.78 % of pictures without one read as some)"
    )  # 2 looks
    assert second.startswith(f"{crop}: payload c5 (")


def face_in(photo, target):
    """A crop of its face, as a manipulator's user makes it."""
    pixels = read_photo(photo).pixels
    (frame,) = face_frames([FaceDetector().largest(pixels)], pixels.shape[:2])
    crop = to_array(torch.from_numpy(face_crop(pixels, frame, 64)).clamp(-1, 1))
    Image.fromarray(crop[0]).save(target)
    return target


def test_results_of_two_photos_do_not_meet_and_are_no_photos(learnt, photo, tmp_path, capsys):
    for folder in ("x", "y"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "in" / folder / "me.png")
    assert run("embed", tmp_path / "in", "--model", learnt, "--payload", "c5", "--output", tmp_path / "out") == 0
    results = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.png"))
    assert [str(path) for path in results] == ["x/me.watermarked.png", "y/me.watermarked.png"]
    assert run("embed", tmp_path / "out", "--model", learnt, "--payload", "c5") == 0  # nothing but results
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
    Image.open(photo).convert("RGB").save(tmp_path / "in" / "x" / "me.jpg")
    capsys.readouterr()
    assert run("embed", tmp_path / "in" / "x", "--model", learnt, "--payload", "c5") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("another photo's result would be") == 2


def test_what_cannot_be_read_back_is_not_kept(photo, tmp_path, capsys):
    """By a watermarker that has learnt nothing; what an earlier run left there stays."""
    Watermarker(bits=30, size=64, channels=8).save_pretrained(tmp_path / "new")
    (tmp_path / "me.watermarked.png").write_text("mine")
    assert run("embed", photo, "--model", tmp_path / "new", "--payload", "c5c5", "--overwrite") == 1
    assert "the payload is not read back from" in capsys.readouterr().err
    assert (tmp_path / "me.watermarked.png").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_a_picture_without_a_payload_is_said_and_spares_the_others(learnt, photo, tmp_path, capsys):
    """The code of 16 bits reads a quarter of all random messages, so the grey is one that it does not."""
    assert run("embed", photo, "--model", learnt, "--payload", "c5") == 0
    crop = face_in(tmp_path / "me.watermarked.png", tmp_path / "crop.png")
    capsys.readouterr()
    watermarker = Watermarker.from_pretrained(learnt)
    greys = np.arange(256, dtype=np.uint8)
    silent = next(
        g for g in greys if watermarker.payloads(np.full((1, 3, 64, 64), g / 127.5 - 1, np.float32)) == [None]
    )
    Image.new("L", (64, 64), int(silent)).save(tmp_path / "grey.png")
    (tmp_path / "text.png").write_text("no picture")
    code = run("extract", tmp_path / "grey.png", tmp_path / "text.png", crop, "--model", learnt)
    out, err = capsys.readouterr()
    assert code == 1
    assert "crop.png: payload c5" in out
    assert "grey.png: no payload is read" in err
    assert "text.png" in err
    assert run("extract", tmp_path / "none", "--model", learnt) == 2


def test_what_cannot_be_embedded_is_named_and_nothing_is_written(learnt, photo, tmp_path, capsys):
    for payload, expected in (
        ("c5c5", "the payload has 2 bytes; a message of 16 bits holds 1"),
        ("me", "payload is 'me'; expected an even number of hexadecimal digits"),
    ):
        before = set(tmp_path.iterdir())
        assert run("embed", photo, "--model", learnt, "--payload", payload) == 1
        assert expected in capsys.readouterr().err
        assert set(tmp_path.iterdir()) == before
    (tmp_path / "me.watermarked.png").write_text("mine")
    assert run("embed", photo, "--model", learnt, "--payload", "c5") == 1
    assert "is there already; use --overwrite or --output" in capsys.readouterr().err
    assert (tmp_path / "me.watermarked.png").read_text() == "mine"
    assert run("embed", photo, "--model", learnt, "--payload", "c5", "--overwrite") == 0


@pytest.fixture
def settings(learnt, workplace, framed, tmp_path):
    torch.manual_seed(3)
    Protector(generator_config={"channels": 8, "norm": "instance"}, size=64).save_pretrained(tmp_path / "protector")
    return ForensicsConfig(
        watermarkers=(f"ours={learnt}",),
        manipulators=(str(workplace / "stargan"), str(workplace / "relgan")),
        data=f"portraits={framed},split=train",
        output=str(tmp_path / "report"),
        batch_size=4,
        limit=6,
        protector=str(tmp_path / "protector"),
        operations=("none", "jpeg=75"),
        edits="all",
    )


def test_table_viii_says_what_a_plain_loop_finds(settings, learnt, workplace, framed):
    report = evaluate_watermarkers(settings, verbose=False)
    faces = read_faces(framed, size=64, split="train", limit=6)
    watermarker, stargan = Watermarker.from_pretrained(learnt), load(str(workplace / "stargan"))
    wrong, whole, similar = {"photo": [], "stargan": []}, [], []
    for i in range(6):
        batch = faces.batch(slice(i, i + 1))
        content = np.random.default_rng((0, i)).bytes(1)
        message = torch.from_numpy(encode(content, 16))[None]
        with torch.no_grad():
            marked = watermarker(batch.images, message.float())
            similar.append(ssim(marked, batch.images).item())
            seen = [stargan(marked, edit).output for edit in stargan.edits(batch.attributes)]
            wrong["photo"].append((watermarker.read(marked).gt(0.5) != message).float().mean().item())
            wrong["stargan"] += [(watermarker.read(y).gt(0.5) != message).float().mean().item() for y in seen]
        (payload,) = watermarker.payloads(marked.numpy())
        whole.append(payload is not None and payload.content == content)
    for column, errors in wrong.items():
        assert report.cells["ours", column, "ber"].mean == pytest.approx(np.mean(errors), abs=1e-6)
    assert report.cells["ours", "photo", "payload"].mean == pytest.approx(np.mean(whole))
    assert report.cells["ours", "photo", "ssim"].mean == pytest.approx(np.mean(similar), abs=1e-5)
    rows = {row for row, _, _ in report.cells}
    assert rows == {"ours", "protected alone", "ours, protected before"}
    columns = {column for row, column, measure in report.cells if (row, measure) == ("ours", "ber")}
    assert columns == {f"{name}{after}" for name in ("photo", "stargan", "relgan") for after in ("", ", jpeg=75")}
    assert {"l2_face", "similarity"} <= {m for row, column, m in report.cells if column == "stargan"}


def test_the_report_is_written_and_goes_by_the_command(settings, tmp_path, capsys):
    assert run("evaluate", *settings.watermarkers, "--data", settings.data, "--output", settings.output, "--limit", 2,
               "--manipulators", *settings.manipulators) == 0  # fmt: skip
    printed = capsys.readouterr().out
    written = (tmp_path / "report" / "portraits.md").read_text()
    assert printed.strip() == written.strip()
    assert "| Method | photo BER↓ | stargan BER↓ | relgan BER↓ |" in written
    found = json.loads((tmp_path / "report" / "portraits.json").read_text())
    assert set(found["rows"]["ours"]["photo"]) == {"ber", "payload", "ssim", "psnr"}
    assert found["metadata"]["n"] == 2


def test_watermarkers_have_names_of_their_own_and_one_size(settings, learnt, tmp_path):
    with pytest.raises(IDGuardError, match="of one name, of a manipulator's, or of several sizes"):
        evaluate_watermarkers(ForensicsConfig(**vars(settings) | {"watermarkers": (f"a={learnt}",) * 2}))
    Watermarker(bits=12, size=32, channels=4).save_pretrained(tmp_path / "small")
    both = (f"a={learnt}", f"b={tmp_path / 'small'}")
    with pytest.raises(IDGuardError, match="of one name, of a manipulator's, or of several sizes"):
        evaluate_watermarkers(ForensicsConfig(**vars(settings) | {"watermarkers": both}))
