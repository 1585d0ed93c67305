"""The page of examples/browser: in Chromium it protects a photo as the package does, and sends it to nobody."""

import json
import re
import runpy
import shutil
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import ExifTags, Image

from art_idguard.faces import detection, framing
from art_idguard.files.photo import read_photo
from art_idguard.perturbation import Protector
from art_idguard.photos import protect as photos
from tests import ROOT
from tests.toys import PORTRAIT

PAGE = ROOT / "examples" / "browser"
TOLD = """
window.told = [];
new MutationObserver(() => told.push(document.querySelector("#status").textContent))
    .observe(document.querySelector("#status"), {childList: true});
"""
FINISH = """async () => {  // Playwright's own waiting needs eval, which the page forbids
    for (let i = 0; choose.disabled || !/^$|found and/.test(told.at(-1) ?? "none"); i++) {
        if (i > 2400) throw new Error(`timed out: ${told}`);
        await new Promise(resolve => setTimeout(resolve, 50));
    }
    return told.splice(0);
}"""


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def copyfile(self, *files):
        with suppress(ConnectionError):  # the page was closed
            super().copyfile(*files)


@pytest.fixture(scope="module")
def site(tmp_path_factory, browser):
    """The address of the page, complete with its models."""
    if not (PAGE / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("needs onnxruntime-web: npm ci in examples/browser")
    folder = tmp_path_factory.mktemp("site")
    for path in PAGE.glob("*.*"):
        shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(PAGE / "node_modules")
    runpy.run_path(PAGE / "prepare.py")["prepare"](folder / "models")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def page(site, browser):
    """The page, at a phone's width; all that it asks for are its own files, and it sends nothing."""
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.set_default_timeout(120_000)
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request))
        page.on("pageerror", lambda error: errors.append(error))
        page.on(
            "console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None
        )
        page.goto(site)
        ready(page)
        page.evaluate(TOLD)
        yield page
        assert errors == []
        assert any(request.url.endswith(".wasm") for request in requests)
        assert {request.url for request in requests if not request.url.startswith((site, "blob:" + site))} == set()
        assert {(request.method, request.post_data) for request in requests} == {("GET", None)}


@pytest.fixture(scope="module")
def expected():
    """What the package makes of a photo, through torch."""
    protector, detector = Protector.from_pretrained().requires_grad_(False), detection.FaceDetector()
    return lambda path: photos.protect_photo(read_photo(path), protector, detector).photo


def ready(page):
    page.locator("#choose:enabled").wait_for()


def choose(page, path):
    """Choose a photo and wait for what becomes of it."""
    page.get_by_label("Choose a photo").set_input_files(path)
    finish(page)


def finish(page):
    """Wait until the page says what became of a photo; all that it said."""
    return page.evaluate(FINISH)


def download(page, path):
    with page.expect_download() as found:
        page.get_by_role("link", name="Download").click()
    found.value.save_as(path)
    return found.value.suggested_filename


def as_seen(rgb, alpha):
    """On black; what lies under transparent parts is not kept."""
    return rgb.astype(float) if alpha is None else rgb * (alpha[..., None] / 255)


def assert_same(path, photo):
    with Image.open(path) as picture:
        assert (picture.format, dict(picture.getexif())) == ("PNG", {})
    found = read_photo(path)
    assert found.pixels.shape == photo.pixels.shape
    if photo.alpha is not None:
        assert np.array_equal(found.alpha, photo.alpha)
    assert abs(as_seen(found.pixels, found.alpha) - as_seen(photo.pixels, photo.alpha)).max() <= 1


def portrait(side=512):
    return Image.open(PORTRAIT).convert("RGB").resize((side, side))


def on_grey(width, height, *places):
    """Faces of 300 pixels' width at (x, y) in a larger photo."""
    picture = Image.new("RGB", (width, height), (90, 120, 100))
    for place in places:
        picture.paste(portrait(300), place)
    return picture


def transparent():
    """All but the face fades out."""
    picture = on_grey(800, 400, (450, 50))
    alpha = np.full((400, 800), 255, np.uint8)
    alpha[:, :256] = np.arange(256)
    picture.putalpha(Image.fromarray(alpha))
    return picture


def turned():
    """A phone's: it lies on its side, and EXIF says so."""
    picture = portrait().rotate(90, expand=True)
    picture.getexif()[ExifTags.Base.Orientation] = 6
    return picture


PHOTOS = {
    "two.png": lambda: Image.fromarray(np.tile(np.asarray(portrait(256)), (1, 2, 1))),
    "tall.webp": lambda: on_grey(310, 1500, (5, 700)),
    "wide.png": lambda: on_grey(5400, 400, (2500, 50)),  # searched in tiles
    "small.png": lambda: portrait(150),
    "halved.png": lambda: portrait(768),
    "head.png": lambda: portrait().rotate(180),
    "grey.png": lambda: portrait().convert("L"),
    "palette.png": lambda: portrait().convert("P"),
    "transparent.png": transparent,
    "turned.jpg": turned,
}


@pytest.mark.slow
def test_the_example_is_protected_as_by_torch(page, expected, tmp_path):
    assert "Nothing is uploaded" in page.locator("body").inner_text()
    page.get_by_role("button", name="Take the example").click()
    told = finish(page)
    found = "One face was found and protected. No colour is changed by more than 6 of 255 levels."
    turns = [f"Looking for faces, turn {turn} of 4…" for turn in range(1, 5)]
    assert told == ["Reading the photo…", *turns, "Protecting face 1 of 1…", "Writing the picture…", found]
    assert download(page, tmp_path / "a.png") == "example.protected.png"
    assert_same(tmp_path / "a.png", expected(PORTRAIT))
    assert not np.array_equal(read_photo(tmp_path / "a.png").pixels, read_photo(PORTRAIT).pixels)


@pytest.mark.slow
@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_protected_as_by_torch(name, page, expected, tmp_path):
    picture = PHOTOS[name]()
    picture.save(tmp_path / name, exif=picture.getexif(), **({"lossless": True} if name.endswith("webp") else {}))
    choose(page, tmp_path / name)
    assert download(page, tmp_path / "a.png") == f"{name.partition('.')[0]}.protected.png"
    assert_same(tmp_path / "a.png", expected(tmp_path / name))
    said = page.get_by_role("status").inner_text()
    assert said.startswith("2 faces were found and all" if name == "two.png" else "One face was found and")


@pytest.mark.slow
def test_what_cannot_be_protected_is_said(page, tmp_path):
    (tmp_path / "note.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    Image.new("RGB", (300, 200), "navy").save(tmp_path / "sea.png")
    Image.new("L", (16_400, 2)).save(tmp_path / "long.png")
    Image.new("1", (8000, 8000)).save(tmp_path / "large.png")
    for name, said in {
        "note.jpg": "is no picture that this browser can read. Choose a JPEG, PNG or WebP.",
        "sea.png": "No face was found in sea.png.",
        "empty.png": "is no picture",
        "long.png": "has 16400 x 2 pixels, which is too large",
        "large.png": "has 8000 x 8000 pixels, which is too large",
    }.items():
        choose(page, tmp_path / name)
        assert said in page.get_by_role("alert").inner_text()
        assert not page.get_by_role("link", name="Download").is_visible()


@pytest.mark.slow
def test_it_can_be_used_on_a_phone_and_by_keyboard(page, tmp_path):
    drop = """() => {
        const files = new DataTransfer();
        files.items.add(new File(["no picture"], "dropped.txt"));
        dispatchEvent(new DragEvent("drop", {dataTransfer: files, cancelable: true}));
    }"""
    page.evaluate(drop)
    finish(page)
    assert "dropped.txt is no picture" in page.get_by_role("alert").inner_text()
    choose(page, PORTRAIT)
    assert not page.get_by_role("alert").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    slider = page.get_by_label("Before and after")
    before = page.locator("#after").evaluate("image => getComputedStyle(image).clipPath")
    slider.press("ArrowRight")
    assert slider.input_value() == "51"
    assert page.locator("#after").evaluate("image => getComputedStyle(image).clipPath") != before
    assert {image.get_attribute("alt") for image in page.get_by_role("img").all()} == {
        "The photo before",
        "The protected photo",
    }


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["models/protector.onnx", "models/protector.json", "ort.wasm.bundle.min.mjs"])
def test_an_incomplete_page_says_so(site, browser, missing):
    with browser.new_context() as context:
        page = context.new_page()
        page.route(f"**/{missing}", lambda route: route.fulfill(status=404))
        page.goto(site)
        page.get_by_role("alert").get_by_text("run npm ci and prepare.py in its folder").wait_for()
        assert page.locator("#choose:disabled").is_visible()


@pytest.mark.slow
def test_the_browser_forbids_other_hosts(site, browser):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(site)
        refused = """() => new Promise(resolve => {
            addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
            fetch("http://127.0.0.1:9/", {method: "POST", body: "photo"}).catch(() => null);
        })"""
        assert page.evaluate(refused) == "connect-src"


@pytest.mark.parametrize(
    ("script", "module", "prefix", "names"),
    [
        ("detection", detection, "_", "SIDES LEAST STEP TILE OVERLAP THINNEST SMALL SURE CLEAR"),
        ("protection", photos, "", "TAPER"),
        ("protection", framing, "", "TEMPLATE_SIZE CELEBA_POINTS"),
    ],
)
def test_its_numbers_are_the_package_s(script, module, prefix, names):
    found = dict(re.findall(r"^const ([A-Z_]+) = ([\d., \[\]]+);", (PAGE / f"{script}.js").read_text(), re.MULTILINE))
    for name in names.split():
        assert np.array_equal(np.float32(json.loads(found[name])), np.float32(getattr(module, prefix + name))), name


def test_its_dependency_is_pinned_and_no_registry_is_named():
    (version,) = json.loads((PAGE / "package.json").read_text())["dependencies"].values()
    lock = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    assert lock["node_modules/onnxruntime-web"]["version"] == version
    assert all("integrity" in package and "resolved" not in package for name, package in lock.items() if name)
