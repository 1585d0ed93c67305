"""The page of `art-idguard serve`: what it computes, what it shows in Chromium, and that nothing stays on disk."""

import contextlib
import gc
import http.client
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import metadata_load
from packaging.specifiers import SpecifierSet
from PIL import ExifTags, Image

from art_idguard import recognizers
from art_idguard.cli import main
from art_idguard.errors import IDGuardError
from art_idguard.faces.detection import FaceDetector
from art_idguard.files.photo import read_photo
from art_idguard.perturbation import Protector
from art_idguard.perturbation.weakened import WeakenedProtector
from art_idguard.photos.effects import effects
from art_idguard.photos.protect import face_crop, protect_photo
from art_idguard.pixels import epsilon_to_levels
from art_idguard.serve import sessions
from art_idguard.serve.html import Models, protect_upload
from art_idguard.serve.sessions import SessionFiles
from tests import ROOT
from tests.toys import PORTRAIT, tiny, tiny_manipulators

pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra `serve`")

SPACE = ROOT / "hub" / "space"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # no network but this computer
]


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    protector = Protector(size=64, generator_config={"channels": 8, "norm": "instance"}).eval().requires_grad_(False)
    manipulators = tuple(tiny_manipulators(("stargan", "relgan")))
    return Models(protector, manipulators, recognizers.default(), FaceDetector())


@pytest.fixture
def photo(tmp_path):
    return Path(shutil.copy(PORTRAIT, tmp_path / "photo.png"))


def with_exif(path):
    """The portrait, with a camera and a place."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    exif[ExifTags.Base.Model] = "camera"
    with Image.open(PORTRAIT) as portrait:
        portrait.save(path, exif=exif)
    return path


def two_faces(path):
    """The portrait, and to its right the portrait at three quarters of its size."""
    portrait = Image.open(PORTRAIT)
    canvas = Image.new("RGB", (900, 512), "gray")
    canvas.paste(portrait, (0, 0))
    canvas.paste(portrait.resize((384, 384)), (512, 0))
    canvas.save(path)
    return path


def difference(path, photo=PORTRAIT):
    return np.asarray(Image.open(path)).astype(int) - np.asarray(Image.open(photo).convert("RGB"))


def test_the_file_is_what_protect_gives(photo, models, tmp_path):
    protect_upload(photo, tmp_path / "page.png", models)
    expected = protect_photo(read_photo(photo), models.protector, models.detector).photo.pixels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "page.png")), expected)


@pytest.mark.parametrize("strip", [False, True])
def test_the_file_holds_the_place_only_if_it_is_to(strip, models, tmp_path):
    photo = with_exif(tmp_path / "photo.png")
    protect_upload(photo, tmp_path / "page.png", models, strip_metadata=strip)
    with Image.open(tmp_path / "page.png") as page:
        found = page.getexif()
        assert (ExifTags.Base.Model in found, bool(found.get_ifd(ExifTags.IFD.GPSInfo))) == (not strip, not strip)


def test_the_figures_are_those_of_effects_on_the_written_file(photo, models, tmp_path):
    html = protect_upload(photo, tmp_path / "p.png", models, gallery=models.manipulators)
    (frame,) = protect_photo(read_photo(photo), models.protector, models.detector).frames
    crops = [torch.from_numpy(face_crop(read_photo(p).pixels, frame, 64)) for p in (photo, tmp_path / "p.png")]
    for manipulator in models.manipulators:
        (effect,) = effects(crops[0], [crops[1]], manipulator, models.recognizer)
        assert f"<td>{effect.l2_face:.4f}</td><td>{effect.similarity:.2f}</td>" in html


def test_the_edit_matters_and_an_unknown_one_is_refused(photo, models, tmp_path):
    assert models.edits() == ["Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"]
    blond, male = (
        protect_upload(photo, tmp_path / "p.png", models, gallery=models.manipulators, edit=edit)
        for edit in ("Blond_Hair", "Male")
    )
    assert blond.split("<table>")[1] != male.split("<table>")[1]
    with pytest.raises(IDGuardError, match="do not know the edit 'Wings'"):
        protect_upload(photo, tmp_path / "p.png", models, gallery=models.manipulators, edit="Wings")


def test_a_manipulator_without_the_edit_shows_its_first(photo, models, tmp_path):
    mixed = models._replace(manipulators=(models.manipulators[0], tiny("taef2")))
    assert mixed.edits() == [*models.edits(), "reconstruction"]
    html = protect_upload(photo, tmp_path / "p.png", mixed, gallery=mixed.manipulators, edit="Male")
    assert f"<th scope='row'>{models.manipulators[0].name}</th>" in html
    assert "<th scope='row'>taef2 (reconstruction)</th>" in html


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
def test_strength_scales_the_perturbation_before_it_is_rounded(strength, photo, models, tmp_path):
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    weak, full = WeakenedProtector(models.protector, strength)(x), models.protector(x)
    for some, whole in zip(weak, full, strict=True):
        torch.testing.assert_close(some - x, strength * (whole - x))
    html = protect_upload(photo, tmp_path / "p.png", models, strength=strength)
    bound = int(strength * 0.05 * 255 / 2)
    assert 0 < np.abs(difference(tmp_path / "p.png")).max() <= bound
    assert f"bound at this strength: {bound}," in html


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5, float("nan"), float("inf"), "1", None, [1]])
def test_a_strength_outside_its_range_is_refused(strength, photo, models, tmp_path):
    with pytest.raises(IDGuardError, match="strength"):
        protect_upload(photo, tmp_path / "p.png", models, strength=strength)


def test_every_face_is_protected_and_the_page_says_which_one_it_judges(models, tmp_path):
    photo = two_faces(tmp_path / "two.png")
    html = protect_upload(photo, tmp_path / "p.png", models, gallery=models.manipulators[:1])
    assert "2 faces were found and all of them protected; the table judges the largest" in html
    changed = np.abs(difference(tmp_path / "p.png", photo)).max(axis=(0, 2)) > 0
    assert changed[:512].any()
    assert changed[512:].any()


def test_whole_is_for_photos_without_a_face(models, tmp_path):
    Image.new("RGB", (80, 60), "gray").save(tmp_path / "plain.png")
    with pytest.raises(IDGuardError, match="no face found"):
        protect_upload(tmp_path / "plain.png", tmp_path / "p.png", models)
    html = protect_upload(tmp_path / "plain.png", tmp_path / "p.png", models, gallery=models.manipulators, whole=True)
    assert "there is no face to judge it by" in html
    assert "<table>" not in html


def pictures(folder):
    """The files that hold something; the server may delete some, and their folders, meanwhile."""
    found = []
    for where, _, names in os.walk(folder):
        for path in (Path(where, name) for name in names):
            with suppress(FileNotFoundError):
                found += [path] if path.stat().st_size else []
    return found


def left_behind(folder):
    """The folders of uploads and results. What is left of an upload that broke off, a file, goes within the hour."""
    return [path for path in folder.glob("art-idguard-*/*") if path.is_dir()]


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


SERVE = """
import sys
from jaxtyping import install_import_hook
with install_import_hook("art_idguard.serve.app", "tests.check"):
    from art_idguard.cli import main
    sys.exit(main(["serve", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    """The address of `art-idguard serve` in a process of its own, and where it keeps pictures."""
    folder = tmp_path_factory.mktemp("serve")
    temporary = folder / "tmp"
    temporary.mkdir()
    models.protector.save_pretrained(folder / "protector")
    words = ["--model", folder / "protector", "--port", str(free_port()), "--manipulators"]
    for manipulator in models.manipulators:
        manipulator.save_pretrained(folder / manipulator.name)
        words.append(folder / manipulator.name)
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", SERVE, *map(str, words)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=SPACE.parents[1]) as process:
        line = process.stdout.readline()
        yield re.search(r"http://127\.0\.0\.1:\d+/", line)[0], temporary
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, 130)
    assert pictures(temporary) == []
    assert list(temporary.glob("art-idguard-*")) == []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(server, browser):
    """The page, which asks no other computer for anything; when it is closed, no picture is left."""
    address, folder = server
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(address)
        yield page
        assert errors == []
        assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    until(lambda: left_behind(folder) == [])


def upload(page, path):
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_text(Path(path).stem[:8]).first.wait_for()


def click_protect(page):
    page.get_by_role("button", name="Protect", exact=True).click()


@pytest.mark.slow
def test_chromium_uploads_protects_and_downloads(page, server, models, tmp_path):
    upload(page, photo := with_exif(tmp_path / "photo.png"))
    click_protect(page)
    page.get_by_role("table", name="What each manipulator makes of the largest face").wait_for()
    names = [cell.inner_text() for cell in page.get_by_role("rowheader").all()]
    assert [name for name in names if name in ("stargan", "relgan")] == ["stargan", "relgan"]
    described = [image.get_attribute("alt") for image in page.locator("figure img").all()]
    assert described == ["Original", "Protected", "Perturbation x10 (grey: unchanged)"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download protected photo").click()
    assert download.value.suggested_filename == "photo.protected.png"
    download.value.save_as(tmp_path / "got.png")
    expected = protect_photo(read_photo(photo), models.protector, models.detector).photo.pixels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "got.png")), expected)
    assert 0 < np.abs(difference(tmp_path / "got.png")).max() <= epsilon_to_levels(0.05)
    with Image.open(tmp_path / "got.png") as got:
        assert not got.getexif()
    assert sorted(path.name for path in pictures(server[1])) == ["photo.png", "photo.protected.png"]


def test_chromium_shows_errors_and_forgets_the_photo_before(page, server, photo, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    Image.new("1", (10_001, 10_000)).save(tmp_path / "enormous.png")
    Image.new("RGB", (300, 300), "gray").save(tmp_path / "faceless.png")
    page.get_by_role("button", name="Protect", exact=True).click()
    page.get_by_text("Choose a photo first").wait_for()
    for name, message in (
        ("notes.txt", "notes.txt is no readable picture"),
        ("enormous.png", "enormous.png has 10001 x 10000 pixels, more than 50,000,000; shrink it first"),
        ("faceless.png", "no face found"),
    ):
        upload(page, tmp_path / name)
        click_protect(page)
        page.get_by_text(message).wait_for()
        assert page.locator("figure").count() == 0
        assert [path.name for path in pictures(server[1])] == [name]
        page.get_by_role("button", name="Clear").first.click()
        until(lambda: pictures(server[1]) == [])
    assert "Traceback" not in page.content()
    assert str(server[1]) not in page.content()


def test_a_page_that_is_closed_while_it_works_leaves_nothing(page, photo):
    upload(page, photo)
    click_protect(page)


def test_an_upload_that_is_too_large_is_refused(server):
    boundary = b"frontier"
    content = b"--" + boundary + b'\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
    content += bytes(50 * 1024 * 1024 + 1) + b"\r\n--" + boundary + b"--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    request = urllib.request.Request(f"{server[0]}gradio_api/upload", content, headers)
    assert refusal(request) == 413
    until(lambda: left_behind(server[1]) == [])  # a closed page may still be at work


def test_files_outside_the_folder_are_not_served(server, photo):
    assert refusal(f"{server[0]}gradio_api/file={photo}") == 403


def refusal(request):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as response:
        return response.code


def test_old_files_go_with_any_session_and_other_places_stay(tmp_path):
    with SessionFiles.temporary() as files:
        kept, old = files.new("a", "kept.png"), files.new("b", "old.png")
        for path in (kept, old):
            path.touch()
        os.utime(old, (0, 0))
        files.keep("c", tmp_path / "elsewhere" / "photo.png").parent.mkdir()
        files.keep("c", files.folder / "a-file-in-the-folder-itself")
        files.forget("c")
        assert (tmp_path / "elsewhere").is_dir()
        assert kept.exists()
        assert not old.exists()
        files.forget("a")
        assert not kept.parent.exists()
    assert not files.folder.exists()


def test_the_same_photo_in_two_pages_goes_with_the_last():
    """Gradio keeps an upload under a name made of its content."""
    with SessionFiles.temporary() as files:
        shared = files.new("a", "photo.png")
        files.keep("b", shared).touch()
        files.forget("b", but=shared)
        assert shared.exists()
        files.keep("b", shared)
        files.close("a")
        assert shared.exists()
        assert not files.has("a", shared)
        files.close("b")
        assert not shared.exists()


def test_uploads_without_a_page_are_bounded(monkeypatch):
    monkeypatch.setattr(sessions, "MAX_KEPT", 10_000)
    with SessionFiles.temporary() as files:
        untaken = [files.folder / name for name in "abc"]
        for path in untaken[:2]:
            path.touch()
        assert files.have_room()
        untaken[2].write_bytes(bytes(5000))
        taken = files.new("page", "photo.png")
        taken.touch()
        assert not files.have_room()
        for path in (*untaken, taken):
            os.utime(path, (time.time() - 100,) * 2)
        assert files.have_room()
        assert [path.exists() for path in (*untaken, taken)] == [False, False, False, True]


def serving(models, *, port):
    from art_idguard.serve.app import serving  # Gradio takes seconds to import, which collecting does without

    return serving(models, port=port)


def ask(models, files, *choices):
    """What the page's button does, with these choices."""
    from gradio import Request

    from art_idguard.serve.handlers import Handlers

    return Handlers(models, files).protect(*choices, False, True, Request(session_hash="page"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen", [[0] * 1000, [0.0, -1, 2, 10**9, "0", None, float("nan"), [0]]], ids=["often", "any"]
)
def test_a_client_makes_each_manipulator_work_once_at_most(chosen, photo, models):
    with SessionFiles.temporary() as files:
        html, update = ask(models, files, str(photo), 1, chosen, "Blond_Hair")
        assert html.count("<tr>") == 3  # the head, the faces, and one manipulator
        assert Path(update["value"]).is_file()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("given", [(None, "Blond_Hair"), ("1", "Blond_Hair"), (1, None), (1, ["Male"]), (1, "Wings")])
def test_what_a_client_makes_up_is_refused_by_name(given, photo, models):
    from gradio import Error

    strength, edit = given
    with SessionFiles.temporary() as files, pytest.raises(Error, match=r"strength is a share|do not know the edit"):
        ask(models, files, str(photo), strength, [0], edit)


def answer(port, host, method="GET", path="/", headers=()):
    """The status that a request with this Host header gets; no body is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        for name, value in (("Host", host), *headers):
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Gradio's, where it looks for a port
def test_strangers_are_refused_and_proxies_of_the_environment_do_not_count(models, monkeypatch):
    proxies = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "socks5://127.0.0.1:9",
    }
    for name, value in proxies.items():
        monkeypatch.setenv(name, value)
    with serving(models, port=free_port()) as app:
        assert os.environ.items() >= proxies.items()
        port = app.server_port
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}"):
            assert answer(port, host) == 200
        for host in (f"evil.example:{port}", f"localhost.evil.example:{port}", "192.168.0.7", ""):
            assert answer(port, host) == 400
        for path, headers, status in (
            ("/gradio_api/upload", [("Transfer-Encoding", "chunked")], 411),
            ("/gradio_api/upload", [("Content-Length", str(60 << 20))], 413),
            ("/gradio_api/queue/join", [("Content-Length", str(2 << 20))], 413),
        ):
            assert answer(port, "localhost", "POST", path, headers) == status
        monkeypatch.setattr(sessions, "MAX_KEPT", 0)
        assert answer(port, "localhost", "POST", "/gradio_api/upload", [("Content-Length", "100")]) == 503
    gc.collect()


ADDRESSES = [("127.0.0.1", 99_999), ("127.0.0.1", -1), ("127.0.0.1", 0), ("192.0.2.1", 7860), ("a..b", 7860)]


@pytest.mark.parametrize(("host", "port"), [*ADDRESSES, ("x" * 64, 7860), ("2001:db8::1", 7860), ("127.0.0.1", None)])
def test_an_address_that_cannot_be_used_is_a_line(host, port, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if port is None else port
        assert main(["serve", f"--host={host}", f"--port={port}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    named = r"cannot serve on .*--host or --port\)?" if 1 <= port <= 65_535 else rf"port is {port}; expected at .* \d+"
    assert re.fullmatch(rf"art-idguard: error: {named}", line)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # Gradio's, where it looks for a port
def test_a_taken_port_is_an_error_that_is_named(models):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(IDGuardError, match=f"cannot serve on 127.0.0.1:{port}"), serving(models, port=port):
            pass
    gc.collect()
    assert "GRADIO_TEMP_DIR" not in os.environ


def test_without_gradio_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "art_idguard.serve.app", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["serve"]) == 1
    assert "pip install 'art-idguard[serve]'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_space_runs_this_app_on_a_gradio_that_it_is_made_for():
    metadata = metadata_load(SPACE / "README.md")
    assert metadata["sdk"] == "gradio"
    assert (SPACE / metadata["app_file"]).is_file()
    (extra,) = tomllib.loads((SPACE.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "serve"
    ]
    assert SpecifierSet(extra.removeprefix("gradio")).contains(metadata["sdk_version"])
    called = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("art_idguard.serve.app.serve", lambda **options: called.update(options))
        runpy.run_path(str(SPACE / metadata["app_file"]), run_name="__main__")
    assert called == {"host": "0.0.0.0", "port": 7860}
