"""The page of `art-idguard serve`: what it shows in Chromium, whom it refuses, and that nothing stays on disk."""

import contextlib
import gc
import http.client
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import metadata_load
from packaging.specifiers import SpecifierSet
from PIL import Image

from art_idguard.cli import main
from art_idguard.errors import IDGuardError
from art_idguard.files.photo import read_photo
from art_idguard.photos.protect import protect_photo
from art_idguard.pixels import epsilon_to_levels
from art_idguard.serve import sessions
from art_idguard.serve.sessions import SessionFiles
from tests import ROOT
from tests.serve import screenshots
from tests.serve.browsing import press, upload, verdict, wait_until_done
from tests.serve.pictures import difference, with_exif

pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra `serve`")

SPACE = ROOT / "hub" / "space"


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
with install_import_hook("art_idguard.serve", "tests.check"):
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


def words(page):
    """All that a person reads on the page, with what is folded opened."""
    for folded in ("Settings", "The numbers"):
        press(page, re.compile(folded))
    return page.locator("body").inner_text()


COLLECT = """
window.told = [];
new MutationObserver(() => document.querySelectorAll(".progress-level").forEach(e => told.push(e.textContent)))
    .observe(document, {subtree: true, childList: true, characterData: true});
"""


@pytest.mark.slow
def test_chromium_uploads_protects_and_downloads(page, server, models, tmp_path):
    upload(page, photo := with_exif(tmp_path / "photo.png"))
    page.locator("img").first.wait_for()  # the thumbnail
    page.evaluate(COLLECT)
    press(page, "Protect")
    verdict(page).wait_for()
    wait_until_done(page)
    assert re.search("(Looking for faces|Asking StarGAN|Asking RelGAN) - ", " ".join(page.evaluate("told")))
    titles = [heading.inner_text() for heading in page.get_by_role("heading", level=3).all()]
    makes = "What {} makes of it (blond hair)"
    assert titles == ["What was changed", "The face", makes.format("StarGAN"), makes.format("RelGAN")]
    with page.expect_download() as download:
        press(page, "Download protected photo")
    assert download.value.suggested_filename == "photo.protected.png"
    download.value.save_as(tmp_path / "got.png")
    expected = protect_photo(read_photo(photo), models.protector, models.detector).photo.pixels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "got.png")), expected)
    assert 0 < np.abs(difference(tmp_path / "got.png")).max() <= epsilon_to_levels(0.05)
    with Image.open(tmp_path / "got.png") as got:
        assert not got.getexif()
    kept = {"photo.png", "photo.original.png", "photo.protected.png"}
    assert {path.name for path in pictures(server[1])} == kept


@pytest.mark.slow
def test_two_photos_are_compared_under_a_line_and_zoomed(page, photo):
    upload(page, photo)
    press(page, "Protect")
    verdict(page).wait_for()
    shown = page.get_by_test_id("imageslider-image")
    shown.nth(1).wait_for()
    before = [image.get_attribute("style") for image in shown.all()]
    assert len(before) == 2
    shown.first.hover(position={"x": 20, "y": 60})
    page.mouse.wheel(0, -300)
    until(lambda: [image.get_attribute("style") for image in shown.all()] != before)
    for image in shown.all():
        assert page.request.get(image.get_attribute("src")).headers["cache-control"] == "no-store"


@pytest.mark.slow
def test_less_strength_says_what_it_costs_before_the_download_and_all_are_asked(page):
    press(page, "Use an example photo")
    page.get_by_text("astronaut").first.wait_for()
    page.get_by_role("spinbutton").fill("0.2")
    page.get_by_role("spinbutton").press("Enter")
    press(page, "Protect")
    page.get_by_text("This strength protects less than full strength.").wait_for()
    page.get_by_text(re.compile(r"is changed \d+% as much. At full strength it would be: ")).wait_for()
    wait_until_done(page)
    press(page, "Ask all tools (half a minute)")
    page.get_by_text("Every edit that suits the face was tried").wait_for()
    assert re.search("epsilon|perturbation|frame|P-Pert|disrupted|manipulator", words(page), re.IGNORECASE) is None
    assert page.get_by_role("cell", name="halving its size").count() == 2


EDGES = """
() => {
    const told = [...document.querySelectorAll(".progress-level")].find(e => e.textContent.includes("stronger: step"));
    if (!told) return null;
    const [inner, outer] = [told, told.closest(".block")].map(e => e.getBoundingClientRect());
    return [outer.top, inner.top, inner.bottom, outer.bottom];
}
"""
"""Of what is told while a photo is refined, and of the room that it has, from top to bottom."""


@pytest.mark.slow
def test_stronger_shows_how_far_it_is_and_stops(page, photo):
    upload(page, photo)
    press(page, "Protect")
    verdict(page).wait_for()
    wait_until_done(page)
    before = verdict(page).inner_text()
    press(page, "Stronger (about a minute)")
    page.evaluate("scrollTo(0, 300)")
    edges = [0, *page.wait_for_function(EDGES).json_value()]
    assert edges == sorted(edges)
    press(page, "Stop")
    wait_until_done(page)
    assert verdict(page).inner_text() == before
    assert page.get_by_role("button", name="Download protected photo").is_enabled()


@pytest.mark.slow
def test_a_phone_shows_all_in_its_width(page, photo):
    page.set_viewport_size({"width": 390, "height": 844})
    upload(page, photo)
    press(page, "Protect")
    verdict(page).wait_for()
    words(page)
    page.get_by_role("columnheader", name="likeness").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_the_pictures_in_docs_are_of_the_states_that_the_page_has(page, tmp_path):
    screenshots.take(page, tmp_path)
    shown = sorted(screenshots.FOLDER.iterdir())
    assert [path.name for path in shown] == sorted(path.name for path in tmp_path.iterdir())
    assert max(path.stat().st_size for path in shown) <= 60 << 10
    guide = (ROOT / "docs" / "howto" / "page.md").read_text()
    assert all(f"](../pictures/{path.name})" in guide for path in shown)


@pytest.mark.slow
def test_chromium_shows_errors_and_forgets_the_photo_before(page, server, photo, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    Image.new("1", (10_001, 10_000)).save(tmp_path / "enormous.png")
    Image.new("RGB", (300, 300), "gray").save(tmp_path / "faceless.png")
    press(page, "Protect")
    page.get_by_text("Choose a photo first").wait_for()
    press(page, "Ask all tools (half a minute)")
    page.get_by_text("Protect a photo first").wait_for()
    for name, message in (
        ("notes.txt", "notes.txt is no readable picture"),
        ("enormous.png", "enormous.png has 10001 x 10000 pixels, more than 50,000,000; shrink it first"),
        ("faceless.png", "No face found. If there is one, choose “Protect the whole picture"),
    ):
        upload(page, tmp_path / name)
        if name == "faceless.png":  # of the others it says so at once
            press(page, "Protect")
        page.get_by_text(message).wait_for()
        assert page.locator("figure").count() == 0
        assert {path.name for path in pictures(server[1])} <= {name, "faceless.original.png"}
        page.get_by_role("button", name="Clear").first.click()
        until(lambda: pictures(server[1]) == [])
    assert re.search(f"Traceback|{server[1]}", page.locator("body").inner_text()) is None


def test_a_page_that_is_closed_while_it_works_leaves_nothing(page, photo):
    upload(page, photo)
    press(page, "Stronger (about a minute)")
    page.get_by_role("button", name="Stop").wait_for()


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


def handlers(models, files):
    from art_idguard.serve.handlers import Handlers

    return Handlers(models, files)


def request():
    from gradio import Request

    return Request(session_hash="page")


def ask(models, files, *choices):
    """What the page's button does, with these choices."""
    return handlers(models, files).protect(*choices, False, True, request())


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen", [[0] * 1000, [0.0, -1, 2, 10**9, "0", None, float("nan"), [0]]], ids=["often", "any"]
)
def test_a_client_makes_each_manipulator_work_once_at_most(chosen, photo, models):
    with SessionFiles.temporary() as files:
        said, _, kept, update, _, html, _ = ask(models, files, str(photo), 1, chosen, "Blond_Hair")
        assert html.count("<section>") == 3  # what was changed, the face, and one manipulator
        assert said.count("\n- ") == 1
        assert Path(update["value"]) == kept.target
        assert kept.target.is_file()


@pytest.mark.slow
def test_a_photo_protected_again_leaves_the_pictures_of_the_last_time_alone(photo, models):
    with SessionFiles.temporary() as files:
        page = handlers(models, files)
        first, second = (page.protect(str(photo), s, [], "Male", False, True, request())[2].target for s in (1, 0.5))
        assert not first.exists()
        assert second.is_file()
        assert len(pictures(files.folder)) == 3  # and what is compared


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("given", [(None, "Blond_Hair"), ("1", "Blond_Hair"), (1, None), (1, ["Male"]), (1, "Wings")])
def test_what_a_client_makes_up_is_refused_by_name(given, photo, models):
    strength, edit = given
    with SessionFiles.temporary() as files:
        said, *_ = ask(models, files, str(photo), strength, [0], edit)
        assert re.match(r"\*\*.*(strength is a share|do not know the edit).*\.\*\*$", said)
        assert pictures(files.folder) == []


def test_what_is_gone_or_is_our_fault_is_a_sentence_without_folders(photo, models, monkeypatch, capsys):
    with SessionFiles.temporary() as files:
        path = files.new("page", "gone.png")
        assert ask(models, files, str(path), 1, [], "Male")[0] == "**no file at gone.png.**"
        monkeypatch.setattr("art_idguard.serve.handlers.read_photo", lambda *_, **__: 1 / 0)
        said, _ = handlers(models, files).preview(str(photo), request())
        assert said == "**That is a fault of art-idguard, not yours (ZeroDivisionError); please report it.**"
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("event", ["stop", "take", "forget"])
def test_work_ends_and_leaves_no_file_when_nobody_waits_for_it(event, photo, models, monkeypatch):
    with SessionFiles.temporary() as files:
        page = handlers(models, files)
        happen = {"stop": page.stop, "take": lambda request: page.take(None, request), "forget": page.forget}[event]
        asked = []

        def work(path, target, models, choices, note):
            target.write_bytes(b"half")
            happen(request())
            note(0.5, "Going on")
            asked.append(note)

        monkeypatch.setattr("art_idguard.serve.handlers.protect_upload", work)
        page.begin(request())
        assert page.protect(str(photo), 1, [0], "Male", False, True, request()) == {"__type__": "update"}
        assert asked == []
        assert pictures(files.folder) == []


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


def test_it_says_that_it_loads_and_ctrl_c_ends_that_without_a_traceback():
    command = [sys.executable, "-m", "art_idguard.cli", "serve", "--port", str(free_port())]
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs, such as ours, do not
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as process:
        assert process.stderr.readline().startswith("Loading the page and its models")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=120)[1] == "art-idguard: interrupted\n"
    assert process.returncode in (130, -signal.SIGINT)  # Python may choose the latter


def test_without_gradio_the_extra_is_named(monkeypatch, capsys):
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
        patch.setattr("art_idguard.serve.serve", lambda **options: called.update(options))
        runpy.run_path(str(SPACE / metadata["app_file"]), run_name="__main__")
    assert called == {"host": "0.0.0.0", "port": 7860}
