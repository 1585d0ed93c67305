"""The pictures of the page in docs: each state, as a visitor meets it.

`python -m tests.serve.screenshots` makes them anew, in five minutes; it needs a Chromium.
"""

import io
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from tests import ROOT
from tests.chromium import CHROMIUM, FLAGS
from tests.serve.browsing import press, upload, verdict, wait_until_done

FOLDER = ROOT / "docs" / "pictures"
PORTRAIT = ROOT / "examples" / "astronaut.png"


def take(page, folder):
    """Go through the states of a page that was just opened."""
    shot = partial(_shot, page, folder)
    page.set_viewport_size({"width": 1100, "height": 860})
    page.get_by_role("button", name="Protect", exact=True).wait_for()
    shot("empty")
    upload(page, PORTRAIT)
    page.locator("img[alt]").first.wait_for()
    shot("photo")
    press(page, "Protect")
    page.wait_for_function("document.querySelector('button.working')?.checkVisibility()")
    shot("working")
    verdict(page).wait_for()
    wait_until_done(page)
    shot("result")
    _zoom(page.get_by_test_id("imageslider-image").first)
    shot("zoomed")
    press(page, "Ask all tools (half a minute)")
    page.get_by_text("Every edit that suits the face was tried").wait_for()
    wait_until_done(page)
    _top(page)
    shot("all-tools")
    press(page, re.compile("The numbers"))
    page.get_by_role("columnheader", name="likeness").scroll_into_view_if_needed()
    shot("numbers")
    press(page, re.compile("The numbers"))
    press(page, "Stronger (about a minute)")
    page.wait_for_function("document.querySelector('.progress-level')?.textContent.includes('stronger: step')")
    shot("working-stronger")
    wait_until_done(page)
    _top(page)
    shot("stronger")
    page.get_by_role("spinbutton").fill("0.2")
    page.get_by_role("spinbutton").press("Enter")
    press(page, "Protect")
    page.get_by_text("This strength protects less than full strength.").wait_for()
    wait_until_done(page)
    _top(page)
    shot("weakened")
    page.set_viewport_size({"width": 390, "height": 844})
    verdict(page).evaluate("heading => heading.scrollIntoView()")
    shot("phone")
    page.set_viewport_size({"width": 1100, "height": 860})
    page.get_by_role("button", name="Clear").first.click()
    with TemporaryDirectory() as other:
        (Path(other) / "notes.txt").write_text("no picture")
        upload(page, Path(other) / "notes.txt")
        page.get_by_text("no readable picture").wait_for()
    shot("error")


def _zoom(image):
    image.evaluate("image => image.scrollIntoView({block: 'center'})")
    image.hover(position={"x": 320, "y": 110})  # the face; beside the line
    for _ in range(15):
        image.page.mouse.wheel(0, -200)


def _top(page):
    page.evaluate("scrollTo(0, 0)")


def _shot(page, folder, name):
    page.wait_for_timeout(500)  # fonts, and what slides in
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.save(folder / f"{name}.webp", quality=50, method=6)


def main():
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "art_idguard.cli", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, sync_playwright() as playwright:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page()
        page.set_default_timeout(600_000)
        page.goto(address)
        take(page, FOLDER)
        process.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
