"""What the page does with one photo, and what it says of it: the same as `art-idguard protect`."""

import re
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from art_idguard import attribute_classifier
from art_idguard.errors import IDGuardError
from art_idguard.files.photo import read_photo
from art_idguard.perturbation.refined import refined_in_photo
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.effects import AS_IT_IS, OPERATIONS, Effect, effects
from art_idguard.photos.job import PhotoJob
from art_idguard.photos.judging import Judges
from art_idguard.photos.manifest import Manifest
from art_idguard.photos.protect import NoFaceError, face_crop, protect_photo
from art_idguard.photos.verdict import Judged, grade
from art_idguard.serve import work
from art_idguard.serve.html import pictures
from art_idguard.serve.words import Result, result
from art_idguard.serve.work import Choices, ask_all, protect_upload
from tests.serve.pictures import difference, two_faces, with_exif
from tests.toys import tiny


def protect(photo, target, models, note=None, **choices):
    """What the page knows of a photo, and what it says."""
    chosen = Choices(**choices)
    protection = protect_upload(photo, target, models, chosen, *[note] * (note is not None))
    return protection, result(protection, chosen)


def test_the_file_is_what_protect_gives(photo, models, tmp_path):
    protect(photo, tmp_path / "page.png", models)
    expected = protect_photo(read_photo(photo), models.protector, models.detector).photo.pixels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "page.png")), expected)


@pytest.mark.slow
def test_stronger_is_what_protect_refines_and_is_told_step_by_step(photo, models, tmp_path, monkeypatch):
    assert work.REFINE_STEPS == 20
    monkeypatch.setattr(work, "REFINE_STEPS", 2)
    told = []
    said = protect(photo, tmp_path / "p.png", models, lambda *all_: told.append(all_), refined=True)[1]
    refined = refined_in_photo(models.protector, models.manipulators, steps=2)
    expected = protect_photo(read_photo(photo), refined, models.detector).photo.pixels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "p.png")), expected)
    assert [doing for _, doing in told][-2:] == [f"Making it stronger: step {i} of 2" for i in (1, 2)]
    assert said.stronger == "the command `art-idguard protect --until holds` (a few minutes)"


def test_who_is_told_may_end_the_work_and_nothing_is_left(photo, models, tmp_path):
    def stop(share, doing):
        if "step 1" in doing:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        protect(photo, tmp_path / "p.png", models, stop, refined=True)
    assert list(tmp_path.iterdir()) == [photo]


@pytest.mark.parametrize("strip", [False, True])
def test_the_file_holds_the_place_only_if_it_is_to(strip, models, tmp_path):
    photo = with_exif(tmp_path / "photo.png")
    protect(photo, tmp_path / "page.png", models, strip_metadata=strip)
    with Image.open(tmp_path / "page.png") as page:
        found = page.getexif()
        assert (ExifTags.Base.Model in found, bool(found.get_ifd(ExifTags.IFD.GPSInfo))) == (not strip, not strip)


def test_the_verdict_is_on_the_written_file_and_the_share_on_full_strength(photo, models, tmp_path):
    said = protect(photo, tmp_path / "p.png", models, gallery=models.manipulators, strength=0.5)[1]
    (frame,) = protect_photo(read_photo(photo), models.protector, models.detector).frames
    full = protect_photo(read_photo(photo), models.protector, models.detector).photo.pixels
    pixels = (read_photo(photo).pixels, read_photo(tmp_path / "p.png").pixels, full)
    clean, *others = (torch.from_numpy(face_crop(each, frame, 64)) for each in pixels)
    expected = [effects(clean, others, manipulator, models.recognizer) for manipulator in models.manipulators]
    for one, (effect, _) in zip(said.judged, expected, strict=True):
        assert one.effects[AS_IT_IS] == pytest.approx(effect, abs=1e-5)
        assert f"| {one.name} | nothing | {effect.l2_face:.4f} | {effect.similarity:.2f} |" in said.figures()
    assert str(said).startswith(f"## {grade(said.judged, 'full strength or “Stronger (about a minute)”')}\n")
    some, whole = (fmean(each[i].l2_face for each in expected) for i in (0, 1))
    assert 0 < some < whole
    assert f"is changed {some / whole:.0%} as much. At full strength it would be: " in str(said)


def test_at_full_strength_nothing_is_said_of_less(photo, models, tmp_path):
    said = protect(photo, tmp_path / "p.png", models, gallery=models.manipulators[:1])[1]
    assert "full strength" not in str(said)
    assert said.stronger == "“Stronger (about a minute)”"


def test_the_edit_matters_and_an_unknown_one_is_refused(photo, models, tmp_path):
    assert models.edits() == ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
    blond, male = (
        protect(photo, tmp_path / "p.png", models, gallery=models.manipulators[:1], edit=edit)[0].forged[0].faces
        for edit in ("Blond_Hair", "Male")
    )
    assert not torch.equal(blond, male)
    with pytest.raises(IDGuardError, match="do not know the edit 'Wings'"):
        protect(photo, tmp_path / "p.png", models, gallery=models.manipulators, edit="Wings")


def test_a_manipulator_without_the_edit_shows_its_first(photo, models, tmp_path):
    mixed = models._replace(manipulators=(models.manipulators[0], tiny("taef2")))
    assert mixed.edits() == [*models.edits(), "reconstruction"]
    html = pictures(protect(photo, tmp_path / "p.png", mixed, gallery=mixed.manipulators, edit="Male")[0])
    assert "<h3>What StarGAN makes of it (male)</h3>" in html
    assert "<h3>What TAEF2 makes of it (reconstruction)</h3>" in html


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
def test_strength_scales_the_perturbation_before_it_is_rounded(strength, photo, models, tmp_path):
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    weak, full = WeakenedProtector(models.protector, strength)(x), models.protector(x)
    for some, whole in zip(weak, full, strict=True):
        torch.testing.assert_close(some - x, strength * (whole - x))
    said = str(protect(photo, tmp_path / "p.png", models, strength=strength)[1])
    changed = np.abs(difference(tmp_path / "p.png")).max()
    assert 0 < changed <= int(strength * 0.05 * 255 / 2)
    assert f"no colour is changed by more than {changed} of 255 levels" in said
    assert "No tool was asked" in said
    assert ("This strength protects less" in said) == (strength < 1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5, float("nan"), float("inf"), "1", None, [1]])
def test_a_strength_outside_its_range_is_refused(strength, photo, models, tmp_path):
    with pytest.raises(IDGuardError, match="strength"):
        protect(photo, tmp_path / "p.png", models, strength=strength)


def test_every_face_is_protected_and_the_page_says_which_one_it_judges(models, tmp_path):
    photo = two_faces(tmp_path / "two.png")
    said = protect(photo, tmp_path / "p.png", models, gallery=models.manipulators[:1])[1]
    assert "2 faces were found and all of them protected; the largest is judged" in str(said)
    changed = np.abs(difference(tmp_path / "p.png", photo)).max(axis=(0, 2)) > 0
    assert changed[:512].any()
    assert changed[512:].any()


def test_whole_is_for_photos_without_a_face(models, tmp_path):
    photo = tmp_path / "plain.png"
    Image.new("RGB", (80, 60), "gray").save(photo)
    with pytest.raises(NoFaceError, match="no face found"):
        protect(photo, tmp_path / "p.png", models)
    protection, said = protect(photo, tmp_path / "p.png", models, gallery=models.manipulators, whole=True)
    assert str(said).startswith("No face was found: the whole picture was protected, and there is no face to judge it")
    assert said.figures() == ""
    assert pictures(protection).count("<section>") == 1
    assert ask_all(photo, tmp_path / "p.png", models) == ()


@pytest.mark.slow
def test_all_are_asked_as_verify_does(photo, models, tmp_path):
    config = ProtectConfig(verify=True)
    judges = Judges(
        config=config,
        manipulators=models.manipulators,
        recognizer=models.recognizer,
        side=models.protector.side,
        classifier=attribute_classifier.default(),
    )
    job = PhotoJob(config=config, protector=models.protector, judge=judges)
    target = tmp_path / "photo.protected.png"
    outcome, _ = job.run(photo, target, Manifest(tmp_path), "settings")
    told = []
    judged = ask_all(photo, target, models, lambda *all_: told.append(all_))
    assert outcome.verdict.split("; ")[2:] == [str(one) for one in judged]
    assert [list(one.effects) for one in judged] == [list(OPERATIONS)] * 2
    assert told[1:] == [(0.0, "Asking StarGAN for all its edits"), (0.5, "Asking RelGAN for all its edits")]


numbers = st.floats(-1, 1) | st.just(float("nan"))
judges = st.dictionaries(st.sampled_from(list(OPERATIONS)), st.builds(Effect, numbers, numbers)).map(
    lambda others: Judged("StarGAN", {AS_IT_IS: Effect(0.01, 0.9)} | others)
)


@given(st.lists(judges, max_size=3))
def test_words_come_first_and_the_numbers_have_a_row_each(judged):
    said = Result(faces=1, found="One face.", weakened="", stronger="full strength", judged=tuple(judged))
    assert re.match("## (Weak|Fair|Strong): " if judged else "One face. No tool was asked", str(said))
    assert str(said).count("\n- ") == len(judged)
    assert ("Every edit that suits the face was tried" in str(said)) == any(len(one.effects) > 1 for one in judged)
    assert said.figures().count("| StarGAN |") == sum(len(one.effects) for one in judged)
    assert not re.search("epsilon|frame|P-Pert|disrupted|--", str(said))
