"""What others install: the sdist has what the wheel is made of, the wheel what the code asks for, and nothing else."""

import hashlib
import json
import re
import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import pytest
from hatchling.build import build_sdist, build_wheel

import art_idguard
from art_idguard.cli import _parser
from art_idguard.hub.shipped import NAMES
from tests import ROOT

PROJECT = f"art_idguard-{art_idguard.__version__}"
PYPI_TAKES = 100 * 1000**2
SHIPS = ("classifiers", "detectors", "manipulators", "protectors", "recipes", "recognizers")
"""Of hub/; hardened models, the other protectors and the inpainter do not fit."""

SBOM = ROOT / "hub/art-idguard.cdx.json"


def tracked():
    """Files of the repository that git knows or would take, without those that it ignores."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    paths = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {path for path in paths if (ROOT / path).is_file()}


def payload():
    """What the wheel is made of: path in the repository, path in the wheel."""
    folders = {"art_idguard/": "art_idguard/"} | {f"hub/{room}/": f"art_idguard/_hub/{room}/" for room in SHIPS}
    paths = tracked()
    return {
        path: there + path.removeprefix(here)
        for here, there in folders.items()
        for path in paths
        if path.startswith(here)
    }


@pytest.fixture(scope="module")
def sdist():
    with TemporaryDirectory() as folder:  # pytest would keep 400 MB of each of its last three runs
        with chdir(ROOT):
            name = build_sdist(folder)
        yield Path(folder, name)


@pytest.fixture(scope="module")
def wheel(sdist):
    """Built of the sdist, as `python -m build` and `uv build` do it."""
    with TemporaryDirectory() as folder:
        with tarfile.open(sdist) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in Python 3.11.2
            archive.extractall(folder)
        with chdir(Path(folder, PROJECT)):
            name = build_wheel(folder)
        yield Path(folder, name)


@pytest.mark.slow
def test_the_sdist_has_what_the_wheel_is_made_of(sdist):
    with tarfile.open(sdist) as archive:
        names = {member.name.removeprefix(f"{PROJECT}/") for member in archive if member.isfile()}
    assert names - {"PKG-INFO"} == payload().keys() | {
        ".gitignore",
        "LICENSE",
        "NOTICE",
        "README.md",
        "hub/art-idguard.cdx.json",
        "pyproject.toml",
    }


@pytest.mark.slow
def test_the_wheel_has_the_repositorys_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        checksums = {member.filename: member.CRC for member in archive.infolist()}
    about = {name.partition("/")[2] for name in checksums if name.startswith(f"{PROJECT}.dist-info/")}
    assert about == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "licenses/NOTICE",
        f"sboms/{SBOM.name}",
    }
    assert {name: checksum for name, checksum in checksums.items() if name.startswith("art_idguard/")} == {
        there: crc32((ROOT / here).read_bytes()) for here, there in payload().items()
    }
    assert {name.partition("/")[0] for name in checksums} == {"art_idguard", f"{PROJECT}.dist-info"}


@pytest.mark.slow
def test_the_wheels_code_finds_what_ships(wheel):
    """Run from the wheel's files, with no hub/ beside them."""
    installed = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    program = """if True:
        import art_idguard.hub
        from art_idguard.faces import FaceDetector
        from art_idguard.files.shipped import find_recipe
        from art_idguard.hub.shipped import list_models, resolve

        FaceDetector()
        print(find_recipe("smoke"), *list_models(), *map(resolve, list_models()), sep="\\n")
    """
    ran = subprocess.run([sys.executable, "-c", program], cwd=installed, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    recipe, *found = ran.stdout.splitlines()
    names = sorted(
        name for name, path in NAMES.items() if not path.startswith(("hardened/", "small/", "wide/", "restorers/"))
    )
    hub = installed / "art_idguard/_hub"
    assert recipe == str(hub / "recipes/smoke.toml")
    assert found == [*names, *(str(hub / NAMES[name]) for name in names)]


@pytest.mark.slow
def test_the_wheels_sbom_has_all_its_weights(wheel):
    """Where PEP 770 wants it."""
    with zipfile.ZipFile(wheel) as archive:
        listed = json.loads(archive.read(f"{PROJECT}.dist-info/sboms/{SBOM.name}"))["components"]
        weights = {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if name.endswith((".safetensors", ".onnx"))
        }
    assert weights == {
        entry["evidence"]["occurrences"][0]["location"]: entry["hashes"][0]["content"] for entry in listed
    }


@pytest.mark.slow
@pytest.mark.parametrize("built", ["sdist", "wheel"])
def test_pypi_takes_it(built, request):
    """Four manipulators are 62 of the 86 MB, SFace 18, the protector 4."""
    assert request.getfixturevalue(built).stat().st_size < PYPI_TAKES


def test_the_sbom_is_up_to_date():
    assert json.loads(SBOM.read_text()) == runpy.run_path(str(ROOT / "hub/sbom.py"))["sbom"](), "run python hub/sbom.py"


def test_the_project_states_every_licence_of_what_ships():
    """PEP 639 wants that of the wheel's files, not of the code alone."""
    components = json.loads(SBOM.read_text())["components"]
    licences = [entry["licenses"][0]["license"] for entry in components]
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"].split(" AND ")
    assert set(stated) == {found.get("id") or f"LicenseRef-{found['name']}" for found in licences}


def test_the_sbom_credits_the_weights_of_others():
    """Those under a public licence; our own may be used for research only."""
    of_others = {
        entry["name"]: entry
        for entry in json.loads(SBOM.read_text())["components"]
        if entry["licenses"] != [{"license": {"name": "non-commercial-research"}}]
    }
    assert {name: entry["licenses"][0]["license"]["id"] for name, entry in of_others.items()} == {
        "SFace": "Apache-2.0",
        "YuNet": "MIT",
    }
    notice = " ".join((ROOT / "NOTICE").read_text().split())
    for entry in of_others.values():
        assert entry["externalReferences"][0]["url"] in notice
        for author in entry["authors"]:
            assert author["name"] in notice


def test_the_images_context_has_what_its_build_reads():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build, project = pyproject["tool"]["hatch"]["build"], pyproject["project"]
    read = [
        *build["only-include"],
        *build["targets"]["wheel"]["sbom-files"],
        *project["license-files"],
        project["readme"],
    ]
    lines = (ROOT / "examples/Dockerfile.dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    assert {"pyproject.toml", *(path.partition("/")[0] for path in read)} == {
        line[1:] for line in lines if line.startswith("!")
    }
    assert set(lines[1:]).isdisjoint(read)


def test_the_image_serves_the_page_where_it_says():
    dockerfile = (ROOT / "examples/Dockerfile").read_text()
    command = json.loads(re.findall("^CMD (.*)", dockerfile, re.MULTILINE)[-1])
    options = _parser().parse_args(command[1:])
    assert command[0] == "art-idguard"
    assert options.host == "0.0.0.0"
    assert f"EXPOSE {options.port}\n" in dockerfile
    assert f"http://127.0.0.1:{options.port}" in dockerfile
    assert f":{options.port} art-idguard\n" in (ROOT / "docs/howto/publish.md").read_text()
