"""What `art-idguard protect` takes for done: made of this photo, with these settings and weights, and whole."""

import csv
import errno
import io
import json
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from art_idguard import manipulators
from art_idguard.cli import main
from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.files import formats
from art_idguard.files.atomic import replacing
from art_idguard.files.digests import sha256
from art_idguard.files.listing import visible_files
from art_idguard.files.photo import read_photo
from art_idguard.perturbation import Protector
from art_idguard.photos import batch, job, manifest
from art_idguard.photos.finding import find_photos
from art_idguard.photos.job import SHOWN
from art_idguard.photos.manifest import NAME, Entry, Manifest
from art_idguard.photos.table import Outcome, PhotoTable
from tests.toys import PORTRAIT, tiny_manipulators, write_portraits


@pytest.fixture
def place(tmp_path):
    write_portraits(tmp_path / "portraits", 3, size=96)
    for seed, name in enumerate(("model", "other")):
        made = Protector(generator_config={"channels": 8, "norm": "instance"}, size=32)
        made.prior.data.fill_(0.01 * seed)
        made.save_pretrained(tmp_path / name)
    return tmp_path


@pytest.fixture
def protect(place, capsys):
    """Run the batch on inputs; gives failed photos, skipped ones, and results by name."""

    def run(*inputs, output=None, **options):
        options = {"model": str(place / "model"), "check": "none"} | options
        failed = batch.protect_files(list(map(str, inputs)), output=output, **options)
        return failed, capsys.readouterr().out.count("skipped: ")

    return run


def portrait(place, number, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(place / "portraits" / f"00{number}.png", to)
    return to


def is_protection_of(result, photo):
    a, b = read_photo(result).pixels.astype(int), read_photo(photo).pixels.astype(int)
    return a.shape == b.shape and 0 < abs(a - b).max() <= 7


CHANGES = {
    "weights": {"model": "other"},
    "metadata": {"strip_metadata": True},
    "whole": {"whole": True},
    "format": {"format": "webp"},
    "quality": {"format": "webp", "quality": 80},
    "strength": {"strength": 0.5},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_settings_are_done_anew_and_the_same_are_not(change, place, protect):
    photo = portrait(place, 0, place / "in" / "a.png")
    assert protect(photo) == (0, 0)
    assert protect(photo) == (0, 1)
    options = {key: str(place / value) if key == "model" else value for key, value in CHANGES[change].items()}
    assert protect(photo, **options) == (0, 0)
    assert protect(photo, **options) == (0, 1)


def test_a_photo_in_which_other_faces_would_be_found_now_is_done_anew(place, protect, monkeypatch):
    photo = portrait(place, 0, place / "in" / "a.png")
    monkeypatch.setattr(FaceDetector, "revision", FaceDetector.revision - 1)
    protect(photo)
    monkeypatch.undo()
    assert protect(photo) == (0, 0)
    assert protect(photo) == (0, 1)


@pytest.mark.slow
def test_a_persons_own_picture_of_before_and_after_stays(place, protect, capsys, monkeypatch):
    monkeypatch.setattr(manipulators, "shipped_manipulators", lambda: [place / "stargan"])
    tiny_manipulators(("stargan",))[0].save_pretrained(place / "stargan")
    photo = portrait(place, 0, place / "in" / "a.png")
    own = portrait(place, 1, photo.with_name("a.before-after.png"))
    content = own.read_bytes()
    assert protect(photo, show=True) == (1, 0)
    assert own.read_bytes() == content
    assert protect(photo, show=True, overwrite=True) == (0, 0)
    assert own.read_bytes() != content
    assert protect(photo) == (0, 1)
    assert protect(photo, strip_metadata=True) == (0, 0)  # without a picture: that of before stays, and is ours
    assert protect(photo, show=True) == (0, 0)
    assert protect(photo, show=True) == (0, 1)


def test_a_newer_photo_of_the_same_name_is_protected(place, protect):
    photo = portrait(place, 0, place / "in" / "a.png")
    protect(photo)
    portrait(place, 1, photo)
    assert protect(photo) == (0, 0)
    assert is_protection_of(place / "in" / "a.protected.png", photo)


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
def test_every_photo_of_a_name_gets_its_own_result(together, place, protect):
    """Of two folders into one, and of two formats beside each other, in one run or in several."""
    photos = [portrait(place, i, place / folder / "x.png") for i, folder in enumerate(("a", "b", "c"))]
    out = place / "out"
    for some in [photos] if together else [[photo] for photo in photos]:
        assert protect(*some, output=out) == (0, 0)
    names = ["x.protected.png", "x.png.protected.png", "x.png-2.protected.png"]
    for name, photo in zip(names, photos, strict=True):
        assert is_protection_of(out / name, photo)
    assert protect(*photos, output=out) == (0, 3)
    Image.open(photos[1]).save(place / "a" / "x.bmp")
    assert protect(photos[0]) == protect(place / "a" / "x.bmp") == (0, 0)
    assert is_protection_of(place / "a" / "x.bmp.protected.png", place / "a" / "x.bmp")


def test_results_have_names_that_differ_by_more_than_case(place, protect):
    """A file system that sees no case would take the second for the first."""
    photos = [portrait(place, 0, place / "a" / "x.png"), portrait(place, 1, place / "b" / "X.PNG")]
    assert protect(*photos, output=place / "out") == (0, 0)
    assert is_protection_of(place / "out" / "x.protected.png", photos[0])
    assert is_protection_of(place / "out" / "X.PNG.protected.png", photos[1])
    assert protect(*photos, output=place / "out") == (0, 2)


def test_a_folder_that_moved_with_its_results_is_done(place, protect):
    photo = portrait(place, 0, place / "in" / "a.png")
    protect(photo)
    shutil.move(photo.parent, place / "moved")
    assert protect(place / "moved") == (0, 1)


def test_folders_within_a_folder_are_kept(place, protect):
    photos = [portrait(place, i, place / "in" / year / "IMG_1.png") for i, year in enumerate(("2019", "2020/May"))]
    assert protect(place / "in", output=place / "out") == (0, 0)
    for photo in photos:
        result = place / "out" / photo.parent.relative_to(place / "in") / "IMG_1.protected.png"
        assert is_protection_of(result, photo)


def test_a_photo_spelled_in_several_ways_is_done_once(place, protect, monkeypatch):
    photo = portrait(place, 0, place / "in" / "a.png")
    (place / "link.png").symlink_to(photo)
    monkeypatch.chdir(photo.parent)
    found = find_photos(["a.png", str(photo), "../in/a.png", str(place / "link.png")])
    assert (list(found.photos), found.again) == ([Path("a.png")], 3)


def test_a_damaged_or_unrecorded_result_is_no_result(place, protect, capsys):
    photo = portrait(place, 0, place / "in" / "a.png")
    protect(photo)
    result = place / "in" / "a.protected.png"
    result.write_bytes(result.read_bytes()[:-9])
    assert protect(photo) == (0, 0)
    assert is_protection_of(result, photo)
    (place / "in" / NAME).unlink()
    before = result.read_bytes()
    assert batch.protect_files([str(photo)], model=str(place / "model"), check="none") == 1
    assert "nothing says of what it was made; use --overwrite" in capsys.readouterr().err
    assert result.read_bytes() == before
    assert protect(photo, overwrite=True) == (0, 0)
    assert protect(photo) == (0, 1)


def test_a_result_that_cannot_be_read_back_is_not_kept(place, protect, monkeypatch, capsys):
    photo = portrait(place, 0, place / "in" / "a.png")
    write = job.write_photo

    def damaged(photo, path, **options):
        write(photo, path, **options)
        path.write_text("x")

    monkeypatch.setattr(job, "write_photo", damaged)
    assert protect(photo) == (1, 0)
    assert sorted(path.name for path in photo.parent.iterdir()) == ["a.png"]


@pytest.fixture
def shown(place, monkeypatch):
    """Where the picture of before and after lies, of one small manipulator."""
    tiny_manipulators(("stargan",))[0].save_pretrained(place / "stargan")
    monkeypatch.setattr(manipulators, "shipped_manipulators", lambda: [place / "stargan"])
    return place / "in" / "a.before-after.png"


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True])
def test_an_asked_for_picture_of_before_and_after_is_made(whole, place, protect, shown):
    photo = portrait(place, 0, place / "in" / "a.png")
    protect(photo, whole=whole)
    assert protect(photo, show=True, whole=whole) == (0, 0)
    assert shown.is_file()
    assert protect(photo, show=True, whole=whole) == protect(photo, whole=whole) == (0, 1)
    Image.new("RGB", (64, 64)).save(place / "in" / "b.png")
    assert protect(place / "in" / "b.png", show=True, whole=True) == (0, 0)
    assert protect(place / "in" / "b.png", show=True, whole=True) == (0, 1)  # there is no face to show


def test_a_picture_of_before_and_after_belongs_to_its_result(place, protect, shown):
    """A kill between the two, and a run in between that did not ask for it, leave none of other settings."""
    photo = portrait(place, 0, place / "in" / "a.png")
    protect(photo, show=True)
    first = shown.read_bytes()
    protect(photo, model=str(place / "other"))
    assert protect(photo, model=str(place / "other"), show=True) == (0, 0)
    assert shown.read_bytes() != first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Manifest, "add", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            protect(photo, show=True)
    assert protect(photo, show=True) == (0, 0)
    assert shown.read_bytes() == first


def test_runs_at_the_same_time_keep_each_others_results(place, protect):
    """Each begins before the other has recorded anything; a record that another was killed in is no obstacle."""
    photos = [portrait(place, i, place / folder / "x.png") for i, folder in enumerate("ab")]
    out = place / "out"
    real, before = batch._left_to_do, []

    def slow(found, this):
        todo = real(found, this)
        if not before:
            before.append(this)
            assert protect(photos[1], output=out) == (0, 0)
            with (out / NAME).open("a") as file:
                file.write('{"result": "x.prot')
        return todo

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_left_to_do", slow)
        protect(photos[0], output=out)
    assert is_protection_of(out / "x.protected.png", photos[1])
    assert is_protection_of(out / "x.png.protected.png", photos[0])
    abandoned = out / f".{'0' * 16}.tmp"
    abandoned.touch()
    foreign = out / ".tmpAb12Cd"  # as safetensors has them, and other programs
    foreign.touch()
    assert protect(*photos, output=out) == (0, 2)
    assert not abandoned.exists()
    assert foreign.exists()


def test_a_batch_ends_with_a_summary(place, protect, capsys):
    for i, name in enumerate("ab"):
        portrait(place, i, place / "in" / f"{name}.png")
    protect(place / "in" / "a.png")
    (place / "in" / "c.png").write_text("no picture")
    words = ["protect", place / "in", place / "in" / "a.png", "--model", place / "model", "--check", "none"]
    assert main(list(map(str, words))) == 1
    assert (
        "art-idguard: 1 protected, 1 skipped, 1 failed, 0 left out; 1 named more than once" in capsys.readouterr().err
    )


@pytest.fixture
def run(place, capsys):
    """The command on the folder "in"; gives its exit code and its last line."""

    def run(*words):
        code = main(
            ["protect", str(place / "in"), "--model", str(place / "model"), "--check", "none", *map(str, words)]
        )
        return code, capsys.readouterr().err.splitlines()[-1]

    return run


def test_a_folders_run_says_what_it_leaves_out_and_why(place, run):
    for name in ("a.png", "sub/scan", "sub/scan.2019", "sub/a.jpg?width=300"):
        portrait(place, 0, place / "in" / name)
    for name in ("notes.txt", "a.pdf", "README", "Python notes", "empty", ".DS_Store", ".cache/b.png", "sub/._a.png"):
        path = place / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("" if name == "empty" else name)
    (place / "in" / "gone.png").symlink_to(place / "nowhere")
    os.mkfifo(place / "in" / "pipe.png")
    why = "3 hidden, 3 no picture by content, 2 no file, 2 no picture by name"
    words = ["--csv", place / "in" / "table.txt"]
    assert run(*words) == (0, f"art-idguard: 4 protected, 0 skipped, 0 failed, 10 left out ({why})")
    assert len(list((place / "in").rglob("*.protected.png"))) == 4
    assert run(*words) == (0, f"art-idguard: 0 protected, 4 skipped, 0 failed, 10 left out ({why})")


def test_a_recipe_names_photos_and_options_and_quiet_leaves_out_what_is_waited_for(place, capsys):
    for i, name in enumerate("ab"):
        portrait(place, i, place / "in" / f"{name}.png")
    recipe = place / "r.toml"
    recipe.write_text(
        f"inputs = '{place / 'in'}'\nmodel = '{place / 'model'}'\ncheck = 'none'\nformat = 'webp'\noverwrite = true\n"
    )
    for words, suffix, bar in (([], "webp", True), (["--quiet", "--format", "png", "--no-overwrite"], "png", False)):
        assert main(["protect", "--recipe", str(recipe), *words]) == 0
        assert sorted(path.name for path in (place / "in").glob(f"*.{suffix}"))[-1] == f"b.protected.{suffix}"
        said = capsys.readouterr().err
        assert ["loading the networks" in said, "photo/s]" in said] == [bar, bar]


@pytest.mark.parametrize("inputs", ["", "inputs = []"])
def test_without_a_photo_the_code_is_2(inputs, place, capsys):
    (place / "r.toml").write_text(inputs)
    assert main(["protect", "--recipe", str(place / "r.toml")]) == 2
    assert "no photos are named; give pictures, folders" in capsys.readouterr().err


def test_the_help_has_exit_codes_and_the_last_line(capsys):
    with pytest.raises(SystemExit):
        main(["protect", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for said in ("Exit code: 0 where", "1 where one is not", "2 where there is none", "1 failed, 3 left out (2 hidden"):
        assert said in text


def test_a_folder_without_photos_says_what_is_in_it(place, run):
    (place / "in").mkdir()
    (place / "in" / "a.pdf").write_text("no picture")
    code, line = run()
    assert code == 2
    assert re.search(r"no photo at .* \(1 left out \(1 no picture by name\)\); expected a picture", line)


def test_an_unreadable_subfolder_is_named_and_spares_the_others(place, run, monkeypatch):
    portrait(place, 0, place / "in" / "a.png")
    portrait(place, 0, place / "in" / "private" / "b.png")
    scandir = os.scandir

    def denied(path):
        if Path(path).name == "private":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)  # permissions are none to root
    assert run() == (1, "art-idguard: 1 protected, 0 skipped, 1 failed, 0 left out")
    with pytest.raises(IDGuardError, match=r"cannot read .*in/private: Permission denied; change its permissions"):
        visible_files(place / "in")


def test_a_photo_that_cannot_be_read_any_more_spares_the_others(place, run, monkeypatch):
    for name in ("a.png", "b.png"):
        portrait(place, 0, place / "in" / name)
    run()
    (place / "in" / "b.protected.png").unlink()

    def digest(path):
        if path.name == "a.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return sha256(path)

    for module in (manifest, job):
        monkeypatch.setattr(module, "sha256", digest)
    assert run() == (1, "art-idguard: 1 protected, 0 skipped, 1 failed, 0 left out")


PHOTOS = {"a.avif": "AVIF", "b.JFIF": "JPEG", "c.jpe": "JPEG", "d.jp2": "JPEG2000", "e.tif": "TIFF", "f.ppm": "PPM"}


def test_a_folders_run_reads_what_is_read_by_name(place, protect, capsys):
    Image.init()
    names = [name for name, format in PHOTOS.items() if format in Image.SAVE]
    folder = place / "in"
    folder.mkdir()
    with Image.open(place / "portraits" / "000.png") as picture:
        for name in names:
            picture.save(folder / name, format=PHOTOS[name])
    assert protect(folder) == (0, 0)
    assert len(list(folder.glob("*.protected.png"))) == len(names)


def test_a_picture_in_heif_says_what_reads_it(place, protect, monkeypatch, capsys):
    monkeypatch.setattr(formats, "_known", lambda: ("PNG",))
    (place / "in").mkdir()
    (place / "in" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    assert batch.protect_files([str(place / "in")], model=str(place / "model"), check="none") == 1
    assert "IMG_1.HEIC is a HEIF picture; to read it: pip install pillow-heif" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["photo.jpg", "photo.eps", "photo.png"])
def test_no_photo_starts_a_program(name, place, monkeypatch):
    """PostScript under any name: Pillow would call Ghostscript."""
    monkeypatch.setattr("subprocess.check_call", lambda *given, **options: pytest.fail("a program was started"))
    path = place / name
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(IDGuardError, match="of an unknown kind"):
        read_photo(path)


def places(folder):
    found = {name: Manifest(folder).find(folder / name) for name in "ab"}
    return {name: entry.place for name, entry in found.items() if entry}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("ab"), st.text("xyz", max_size=3)), max_size=8), st.integers(0, 40))
def test_a_manifest_cut_anywhere_keeps_its_whole_lines(tmp_path, entries, cut):
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    (folder / NAME).unlink(missing_ok=True)
    written = Manifest(folder)
    for result, place in entries:
        written.add(Entry(result, place, "photo", "settings", "bytes"))
    content = (folder / NAME).read_bytes() if entries else b""
    (folder / NAME).write_bytes(content[: len(content) - cut])
    whole = [json.loads(line) for line in content[: len(content) - cut].split(b"\n") if line.endswith(b"}")]
    expected = {entry["result"]: entry["place"] for entry in whole}
    assert places(folder) == expected
    Manifest(folder).add(Entry("a", "later", "photo", "settings", "bytes"))
    assert places(folder) == expected | {"a": "later"}


@pytest.mark.parametrize("line", ["[" * 100_000, "[]", "{}", '{"result": 1}', "\x00", "é" * 9])
def test_what_is_no_record_in_a_manifest_is_passed_over(tmp_path, line):
    (tmp_path / NAME).write_text(f"{line}\n", encoding="latin-1")
    Manifest(tmp_path).add(Entry("a", "place", "photo", "settings", "bytes"))
    assert places(tmp_path) == {"a": "place"}


def test_a_link_under_a_guessable_name_leads_nowhere(tmp_path, monkeypatch):
    """Temporary files are new and have random names: in a shared folder nobody can aim them elsewhere."""
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        assert first != second
        assert first.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    (tmp_path / "victim").write_text("mine")
    (tmp_path / f".{'0' * 16}.tmp").symlink_to(tmp_path / "victim")
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    with pytest.raises(FileExistsError), replacing(tmp_path / "b"):
        pass
    assert (tmp_path / "victim").read_text() == "mine"


NAMES = [
    *("写真.png", "=1+1.png", "-x.png", "new\nline.png", "back\rto the start.png", "\x1b[2J.png", "a\u202egnp.png"),
    *(os.fsdecode(b"\xff.png"), 'a, "b".png', "n" * 245 + ".png"),
]


def test_no_name_ends_a_batch_or_commands_the_terminal(place, monkeypatch):
    for name in NAMES:
        portrait(place, 0, place / "in" / name)
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.chdir(place / "in")
    words = ["protect", "--model", str(place / "model"), "--check", "none", "--csv", "table.csv", "--", *NAMES]
    assert main(words) == 1
    for stream in streams.values():
        stream.flush()
    out, err = (stream.buffer.getvalue().decode("ascii") for stream in streams.values())
    assert "File name too long" in err
    for shown in (r"\u5199\u771f", r"new\nline", r"back\rto the start", r"\x1b[2J", r"a\u202egnp", r"\udcff"):
        assert f"{shown}.png -> " in out
    assert out.count(" of 255 levels\n") == len(out.splitlines()) == len(NAMES) - 1
    assert len(list(Path().glob("*.protected.png"))) == len(NAMES) - 1
    rows = list(csv.reader((place / "in" / "table.csv").read_text("utf-8").splitlines()))
    assert len(rows) == len(NAMES) + 1
    assert {row[0][0] for row in rows} & set("=+-@") == set()
    assert main(words) == 1
    assert len((place / "in" / "table.csv").read_text("utf-8").splitlines()) == len(rows) + 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=5), st.integers(0, 60))
def test_every_text_is_a_row_and_a_row_is_a_line(tmp_path, files, cut):
    path = tmp_path / "table.csv"
    path.unlink(missing_ok=True)
    table = PhotoTable(path)
    for file in files:
        table.add(Outcome(file, file, error=""))
    content = path.read_bytes()
    assert content.count(b"\n") == len(content.decode().splitlines()) == len(files) + 1
    assert not any(PhotoTable(path).lacks(file) for file in files)
    cells = [row[0] for row in csv.reader(content.decode().splitlines())]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    path.write_bytes(content[: len(content) - cut])
    whole = path.read_bytes().count(b"\n")
    PhotoTable(path).add(Outcome("later", "later"))
    assert len(list(csv.reader(path.read_text("utf-8").splitlines()))) == max(whole, 1) + 1


def test_runs_that_add_to_one_table_lose_no_row(tmp_path):
    def run(number):
        for i in range(40):
            PhotoTable(tmp_path / "table.csv").add(Outcome(f"{number}-{i}", ""))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    header, *rows = csv.reader((tmp_path / "table.csv").read_text("utf-8").splitlines())
    assert header == list(Outcome._fields)
    assert {row[0] for row in rows} == {f"{number}-{i}" for number in range(4) for i in range(40)}
    assert len(rows) == 160


@pytest.mark.parametrize("kind", ["quoted", "folder", "pipe"])
def test_a_table_that_is_none_or_ends_inside_a_cell_is_refused(tmp_path, kind):
    path = tmp_path / "table.csv"
    if kind == "quoted":
        path.write_text(",".join(Outcome._fields) + '\n"a\nb.png')
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(IDGuardError, match=r"table\.csv is no .* choose another"):
        PhotoTable(path)


def test_an_empty_input_is_not_the_current_folder(tmp_path, monkeypatch, capsys):
    write_portraits(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    assert main(["protect", ""]) == 2
    assert "an input is empty, and would stand for the current folder" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.protected.*"))


def test_results_are_found_by_who_asks_for_them(tmp_path):
    for name in ("a.png", "b.protected.png", "c.before-after.png"):
        shutil.copy(PORTRAIT, tmp_path / name)
    assert {p.name for p in find_photos([str(tmp_path)]).photos} == {"a.png"}
    assert {p.name for p in find_photos([str(tmp_path)], but=[SHOWN]).photos} == {"a.png", "b.protected.png"}
    assert {p.name for p in find_photos([str(tmp_path / "*.png")], but=[SHOWN]).photos} == {"a.png", "b.protected.png"}
