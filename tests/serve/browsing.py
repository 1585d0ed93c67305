"""What a person does on the page in Chromium."""

import re
from pathlib import Path


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
