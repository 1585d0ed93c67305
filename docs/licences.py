"""The licences of what the package requires, as the installed distributions state them; mkdocs fills in licences.md."""

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
IN_WORDS = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache License v2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "LicenseRef-BSD",
    "BSD License": "LicenseRef-BSD",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC license": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""SPDX identifiers of what older metadata say; of how many clauses a BSD licence is, they do not always tell."""

PERMISSIVE = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "LicenseRef-BSD"),
    *("MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib"),
}
MPL = ("certifi", "hypothesis", "orjson", "pathspec", "tqdm")
"""Under the Mozilla Public License, of which licences.md says what it asks for."""
NVIDIA = ("nvidia-*", "cuda-*")
"""What PyTorch's builds for NVIDIA's GPUs bring, under NVIDIA's own terms."""


def licence(found: Distribution) -> str:
    """SPDX expression of a distribution's licence; empty where its metadata have none that is known."""
    metadata = found.metadata
    stated = [metadata.get("License-Expression", ""), metadata.get("License", "").strip().partition("\n")[0]]
    stated += [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License")]
    for words in stated:
        try:
            return canonicalize_license_expression(IN_WORDS.get(words, words))
        except InvalidLicenseExpression:
            continue
    return ""


def objection(name: str, expression: str) -> str:
    """What speaks against requiring a distribution under such a licence, in a sentence; empty where nothing does."""
    named = set(re.findall(r"[\w.-]+", re.sub(r" WITH \S+", "", expression))) - {"AND", "OR"}
    unknown = named - PERMISSIVE - ({"MPL-2.0"} if name in MPL else set())
    if any(fnmatch(name, pattern) for pattern in NVIDIA) or (named and not unknown):
        return ""
    stated = f"the licence {expression}" if named else "a licence that its metadata do not tell"
    return f"{name} has {stated}: read it, and let docs/licences.py accept it, or do without {name}"


def brought(requirements: Iterable[str]) -> dict[str, Distribution]:
    """Under their names, the installed distributions that these requirements bring, theirs in turn included."""
    found: dict[str, Distribution] = {}
    done = defaultdict(set, {PROJECT["name"]: {"", *PROJECT["optional-dependencies"]}})
    todo = [Requirement(line) for line in requirements]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - done[name]:
            done[name].add(extra)
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                continue
            theirs = [Requirement(line) for line in found[name].requires or []]
            todo += [one for one in theirs if one.marker is None or one.marker.evaluate({"extra": extra})]
    return found


def licences() -> dict[str, tuple[str, list[str]]]:
    """Of each installed distribution that the package brings: its licence, and with which extras, none for always."""
    always = brought(PROJECT["dependencies"])
    extras = defaultdict(list)
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for name in brought(requirements).keys() - always.keys():
            extras[name].append(extra)
    return {name: (licence(distribution(name)), extras[name]) for name in sorted(always.keys() | extras)}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table where a page asks for it."""
    if "<!-- licences -->" not in markdown:
        return markdown
    rows = [f"| {name} | {stated} | {', '.join(extras)} |" for name, (stated, extras) in licences().items()]
    table = ["| distribution | licence (SPDX) | only with the extras |", "|---|---|---|", *rows]
    return markdown.replace("<!-- licences -->", "\n".join(table))


if __name__ == "__main__":
    print(on_page_markdown("<!-- licences -->"))
