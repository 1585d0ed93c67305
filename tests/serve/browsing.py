"""The page in Chromium: how it is started, and what a person does there."""

import re
import shutil
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # no network but this computer
]


def upload(page, path):
    page.locator("input[type=file]").set_input_files(path)
    page.locator(".file-preview").get_by_text(Path(path).stem[:8]).first.wait_for()  # has arrived


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def wait_until_done(page):
    page.get_by_role("button", name="Stop").wait_for(state="hidden")
    page.get_by_role("button", name="Protect", exact=True).and_(page.locator(":enabled")).wait_for()


def verdict(page):
    return page.get_by_role("heading", name=re.compile("^(Weak|Fair|Strong): "))
