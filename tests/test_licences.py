"""What the package requires is permissive, or known not to be; docs/licences.py knows licences by what metadata say."""

import runpy

import pytest

from tests import ROOT

LICENCES = runpy.run_path(str(ROOT / "docs/licences.py"))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Metadata of distributions as pip leaves them, of a name and further lines."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, *lines):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("\n".join(("Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines)))

    return write


def stated(name):
    return LICENCES["licence"](LICENCES["distribution"](name))


def test_nothing_speaks_against_what_is_required():
    found = LICENCES["licences"]()
    assert {"torch", "numpy", "pytest"} <= found.keys()
    assert found["numpy"][1] == []
    assert found["pytest"][1] == ["test"]
    assert [said for name, (licence, _) in found.items() if (said := LICENCES["objection"](name, licence))] == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["License-Expression: mit or gpl-2.0-only", "License: BSD"], "MIT OR GPL-2.0-only"),
        (["License: BSD 3-Clause License\n        Copyright (c) somebody"], "BSD-3-Clause"),
        (["License:  Apache 2.0"], "Apache-2.0"),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: ISC License (ISCL)"], "ISC"),
        (["License: see the file", "Classifier: Topic :: MIT License"], ""),
        ([], ""),
    ],
)
def test_a_licence_is_known_by_what_the_metadata_say(lines, expected, install):
    install("something", *lines)
    assert stated("something") == expected


@pytest.mark.parametrize("licence", ["MIT", "Apache-2.0 WITH LLVM-exception AND (0BSD OR MIT)", "LicenseRef-BSD"])
def test_permissive_licences_are_accepted(licence):
    assert LICENCES["objection"]("something", licence) == ""


@pytest.mark.parametrize(
    "licence",
    ["GPL-3.0-only", "MIT AND AGPL-3.0-or-later", "MPL-2.0", "LicenseRef-Ours", "GPL-3.0-only WITH GCC-exception-3.1"],
)
def test_others_are_objected_to_with_a_sentence(licence):
    assert LICENCES["objection"]("something", licence) == (
        f"something has the licence {licence}: read it, and let docs/licences.py accept it, or do without something"
    )
    assert "its metadata do not tell" in LICENCES["objection"]("something", "")


def test_known_exceptions_are_for_one_licence_each():
    assert LICENCES["objection"]("tqdm", "MPL-2.0 AND MIT") == ""
    assert LICENCES["objection"]("tqdm", "MPL-2.0 AND GPL-3.0-only")
    assert LICENCES["objection"]("nvidia-cublas", "LicenseRef-NVIDIA") == ""


def test_what_the_required_require_is_found_with_the_extras_asked_for(install):
    install("first", "Requires-Dist: Second[more]; python_version > '3'", "Requires-Dist: fifth; extra == 'unasked'")
    install("second", "Requires-Dist: third; extra == 'more'", "Requires-Dist: first")
    install("third", "Requires-Dist: not-installed-here")
    install("fifth")
    assert brought_by("first>=1") == {"first", "second", "third"}
    assert brought_by("first[unasked]", "art-idguard[test]") == {"first", "second", "third", "fifth"}


def brought_by(*requirements):
    return set(LICENCES["brought"](requirements))


def test_the_page_has_the_table():
    page = LICENCES["on_page_markdown"]((ROOT / "docs/licences.md").read_text())
    assert "\n| torch |" in page
    assert LICENCES["on_page_markdown"]("another page") == "another page"
