"""A report as its reader meets it, described once: as Markdown, and as one HTML file that needs nothing beside it."""

import base64
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from art_idguard.files.atomic import write_text

PAGE = "report.html"
"""The name of the HTML file, one for all that a command measured."""


class Marked(NamedTuple):
    """A cell whose number stands out: the best of its column, or the second."""

    tag: str
    """In HTML: strong, or u for underlined."""
    number: str
    rest: str


class Table(NamedTuple):
    """The first column has names, the others numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Marked]]


class Section(NamedTuple):
    """A heading, what a reader of the table must know, and the table; each may be missing."""

    title: str = ""
    text: str = ""
    table: Table | None = None


class Picture(NamedTuple):
    """A PNG or JPEG, and what it shows."""

    file: Path
    caption: str


@dataclass(frozen=True)
class Document:
    """What was measured, the short table, the pictures, then all else."""

    title: str
    facts: Mapping[str, str]
    headline: Section
    sections: Sequence[Section]
    pictures: Sequence[Picture] = ()

    def markdown(self) -> str:
        """All but the pictures."""
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        parts = [f"# {self.title}", facts, *_markdown(self.headline)]
        return "\n\n".join([*parts, *(part for section in self.sections for part in _markdown(section))]) + "\n"


def facts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What every report begins with, as far as its metadata say it; of a file's sha256 the first twelve digits."""
    weights = metadata.get("weights") or {}
    named = weights.items() if isinstance(weights, Mapping) else [("model", weights)]
    size = metadata.get("size")
    known = {
        "data": data_name(metadata),
        "faces": metadata.get("n"),
        "size": size and f"{size} px",
        "weights (sha256)": "; ".join(f"{name} {digest or 'unknown'}" for name, digest in named),
        "epsilon": metadata.get("epsilon"),
        "seed": metadata.get("seed"),
        "hardware": metadata.get("hardware"),
    }
    short = {name: re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", str(value)) for name, value in known.items()}
    return {name: value for name, value in short.items() if value not in ("None", "")}


def data_name(metadata: Mapping[str, Any]) -> str:
    """Data set and split; nothing where they are not known."""
    data = metadata.get("data", "")
    if not isinstance(data, Mapping):
        return str(data)
    return f"{data.get('name')} ({data['split']})" if "split" in data else str(data.get("name", ""))


def _markdown(section: Section) -> list[str]:
    title = f"**{section.title}**" if section.title else ""
    parts = [": ".join(part for part in (title, section.text) if part)]
    if section.table:
        rule = ["---", *("---:" for _ in section.table.head[1:])]
        rows = [map(_cell, section.table.head), rule, *(map(_cell, row) for row in section.table.rows)]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return [part for part in parts if part]


def _cell(cell: str | Marked) -> str:
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    number = f"**{cell.number}**" if cell.tag == "strong" else f"<u>{cell.number}</u>"
    return number + cell.rest


def write_html(path: Path, documents: Sequence[Document]) -> None:
    """Write documents as one page with their pictures in it; it is whole or absent, and no date is in it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["address"] = _address
    template = environment.from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    write_text(path, template.render(documents=documents) + "\n")


def _address(file: Path) -> str:
    """The file itself as an address."""
    content = base64.b64encode(file.read_bytes()).decode()
    return f"data:{mimetypes.guess_type(file.name)[0]};base64,{content}"
