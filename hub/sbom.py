"""Write the weights that the wheel bundles, as CycloneDX: `python hub/sbom.py`, when these or NOTICE change.

It has neither a date nor a serial number, so that the same weights make the same file.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.licenses import canonicalize_license_expression

from art_idguard.files.digests import sha256
from art_idguard.hub.cards import FACTS, Facts

ROOT = Path(__file__).resolve().parents[1]
SBOM = ROOT / "hub/art-idguard.cdx.json"
NOTICE = re.compile(
    r"""^(?P<name>\w+), in (?P<path>hub/\S+)\n\n"""
    r"""Source: .*?(?P<url>https://\S+)\n"""
    r"""Authors: (?P<authors>.*?), "(?P<paper>.*?)\n"""
    r"""Changes: (?P<changes>.*?)\n\n"""
    r"""(?P<copyright>Copyright .*?\n)?""",
    re.MULTILINE | re.DOTALL,
)


def sbom() -> dict[str, Any]:
    """The list, of every file of weights in the folders that ship."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, ships = pyproject["project"], pyproject["tool"]["hatch"]["build"]["only-include"]
    files = [
        path for folder in ships for path in (ROOT / folder).rglob("*.*") if path.suffix in (".safetensors", ".onnx")
    ]
    purl = f"pkg:pypi/{project['name']}@{project['version']}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": purl,
                "name": project["name"],
                "version": project["version"],
                "licenses": [{"expression": project["license"]}],
                "purl": purl,
            }
        },
        "components": [component(file) for file in sorted(files)],
    }


def component(file: Path) -> dict[str, Any]:
    """One file of weights, with what its card and, for those of others, NOTICE say of it."""
    place = file.relative_to(ROOT / "hub").as_posix()
    facts = Facts.read(file.parent / FACTS)
    of_others = {found["path"]: found for found in NOTICE.finditer((ROOT / "NOTICE").read_text())}
    return {
        "type": "machine-learning-model",
        "bom-ref": place,
        **(published(of_others[f"hub/{place}"]) if f"hub/{place}" in of_others else {"name": file.parent.name}),
        "description": facts.title,
        "hashes": [{"alg": "SHA-256", "content": sha256(file)}],
        "licenses": [{"license": licence(facts)}],
        "evidence": {"occurrences": [{"location": f"art_idguard/_hub/{place}"}]},
    }


def published(notice: re.Match[str]) -> dict[str, Any]:
    """What NOTICE says of weights that others have trained."""
    return {
        "name": notice["name"],
        "authors": [{"name": name} for name in re.split(r",\s+|\s+and\s+", notice["authors"])],
        **({"copyright": notice["copyright"].strip()} if notice["copyright"] else {}),
        "pedigree": {"notes": f"Changes: {notice['changes']}"},
        "externalReferences": [{"type": "distribution", "url": notice["url"]}],
    }


def licence(facts: Facts) -> dict[str, str]:
    """Under its SPDX identifier, or by its name where it has none."""
    if facts.license_name:
        return {"name": facts.license_name}
    return {"id": canonicalize_license_expression(facts.license or "")}


if __name__ == "__main__":
    SBOM.write_text(json.dumps(sbom(), indent=2, ensure_ascii=False) + "\n")
