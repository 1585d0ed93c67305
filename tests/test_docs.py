"""What documents say holds: links lead somewhere, commands are taken, versions agree, and the site asks nobody else."""

import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import suppress
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import art_idguard
from art_idguard.attacks import ATTACKS
from art_idguard.cli import _parser
from tests import ROOT
from tests.test_tree import DOCUMENTS, text_of

PAGES = [path for path in DOCUMENTS if path.suffix == ".md"]
README = (ROOT / "README.md").read_text()


def name(path):
    return str(path.relative_to(ROOT))


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(path):
    """As GitHub and the site make them of headings."""
    headings = re.findall(r"^#+ +(.+)$", without_code(path.read_text()), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"(?<!`)\]\((?!\w+:)([^)\s]+)\)", without_code(text_of(page))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def commands(text):
    """Those of the package, in blocks and in the line, without a continuation's backslash."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    for line in lines + re.findall(r"`([^`\n]+)`", without_code(text)):
        if found := re.match(r"(?:\S*/)?art-idguard ([a-z-].*)", line.strip()):
            yield found[1]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_taken(page, capsys):
    for command in commands(text_of(page)):
        with suppress(SystemExit):  # also of --help
            _parser().parse_args([word for word in shlex.split(command, comments=True) if word != "..."])
        assert not capsys.readouterr().err, command


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/howto/art.md", "docs/howto/develop.md", "docs/howto/research.md"])
def test_python_runs(page, tmp_path, monkeypatch, capsys):
    """With a portrait for what a reader brings along."""
    with Image.open(ROOT / "examples/astronaut.png") as portrait:
        portrait.convert("RGB").save(tmp_path / "photo.jpg")
        crop = portrait.convert("RGB").crop((130, 20, 320, 210)).resize((64, 64))
    face = np.asarray(crop, np.float32).transpose(2, 0, 1)[None] / 255
    monkeypatch.chdir(tmp_path)
    brought = {"x": face, "faces": torch.from_numpy(2 * face - 1), "__name__": "document"}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    try:
        for block in blocks:
            exec(block, brought)
    finally:
        art_idguard.MANIPULATORS.pop("brighter", None)


def test_the_readme_is_short_and_begins_with_two_commands():
    assert len(README.splitlines()) <= 120
    assert [block.splitlines()[0] for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)] == [
        "# protect",
        "# test",
    ]


def test_public_names_are_in_the_reference():
    reference = (ROOT / "docs/reference.md").read_text()
    assert [public for public in art_idguard.__all__ if not re.search(rf"[.`]{public}\b", reference)] == []


CLASSES = {
    name: member for name in art_idguard.__all__ if isinstance(member := getattr(art_idguard, name), type)
} | ATTACKS


@pytest.mark.parametrize("public", CLASSES.values(), ids=CLASSES)
def test_public_classes_have_an_example(public):
    assert doctest.DocTestParser().get_examples(public.__doc__)


def test_versions_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert art_idguard.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"version = {{{version}}}" in (ROOT / "docs/paper.md").read_text()
    assert f"\n## {version}\n" in (ROOT / "docs/changelog.md").read_text()


def test_the_paper_is_cited_alike():
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    bibtex = re.sub(r"[{}]", "", (ROOT / "docs/paper.md").read_text())
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    for part in (paper["title"], authors, paper["journal"], str(paper["year"])):
        assert part in bibtex
    assert paper["title"] in re.sub(r"\s+", " ", README)


def test_others_run_the_same_checks():
    """What CONTRIBUTING names is in the workflow, which tries every Python from the lowest on."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    steps = "\n".join(step.get("run", "") for step in jobs["checks"]["steps"])
    line = next(line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("ruff check"))
    assert [check for check in line.split(" && ") if check not in steps] == []
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert matrix["python"][0] == matrix["include"][0]["python"] == lowest


class Requests(HTMLParser):
    """What a page makes a browser fetch by itself."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        fetched = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        if fetched and attributes.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(fetched)


@pytest.mark.slow
def test_the_site_builds_and_asks_nobody_else(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=500, env=os.environ | {"TZ": "UTC"}
    )
    assert built.returncode == 0, built.stdout + built.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        parser = Requests()
        parser.feed(page.read_text())
        for address in parser.found:
            assert not re.match(r"\w+:|//", address), f"{page.name}: {address}"
            assert page.name == "404.html" or (page.parent / address.partition("?")[0]).exists(), f"{page}: {address}"
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text()), sheet
    assert (tmp_path / "site/hub/RESULTS.html").is_file()
