"""What `Suite.summary` has, as a line and as Markdown."""

from collections.abc import Callable
from typing import Any

Summary = dict[str, Any]
"""All, a section or a row of `Suite.summary`."""

QUICK = (
    "**Quick**: small networks and faces, hardly a repeat. Its figures show that all runs, and stand for nothing else."
)


def number(value: float | None) -> str:
    """Three digits, or all of a whole number up to a million; "fails" of none."""
    if value is None:
        return "fails"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def line(row: Summary) -> str:
    """A row in words."""
    parts = [", ".join(f"{number(value)} {figure}" for figure, value in row["figures"].items())]
    if row["ratios"] and row["of"] != row["label"]:
        parts.append(f"{', '.join(map(number, row['ratios'].values()))} of {row['of']}")
    if row["of the peak"] is not None:
        parts.append(f"{number(row['of the peak'])} of the peak")
    repeats = max(map(len, row["repeats"].values()))
    return f"{row['label']}: {'; '.join(parts)}" + (f"; {repeats} repeats" if repeats > 1 else "")


def markdown(summary: Summary) -> str:
    """The machine, then each section."""
    peaks = summary["machine"]["peak GFLOP/s"]
    facts = summary["machine"] | {"peak GFLOP/s": ", ".join(f"{n} {number(p)}" for n, p in peaks.items())}
    machine = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    sections = (section_markdown(name, section) for name, section in summary["sections"].items())
    return "\n\n".join(["# Benchmark", *[QUICK] * summary["quick"], machine, *sections]) + "\n"


def section_markdown(name: str, section: Summary) -> str:
    """What its reader must know, and a table of the rows that stand alone, and one for each thing that grows."""
    parts = [f"## {name}", section["about"], *section["notes"]]
    kinds = dict.fromkeys(row["at"] and row["at"][0] for row in section["rows"])
    tables = (_table([row for row in section["rows"] if (row["at"] and row["at"][0]) == kind]) for kind in kinds)
    return "\n\n".join([*filter(None, parts), *tables])


def _table(rows: list[Summary]) -> str:
    """A column for each figure, its share of another row's, and the share of the peak, where there are any."""
    columns: dict[str, Callable[[Summary], str]] = {"": lambda row: row["label"]}
    for figure in dict.fromkeys(figure for row in rows for figure in row["figures"]):
        columns[figure] = lambda row, f=figure: _cell(row["figures"], f)
        if any(figure in row["ratios"] for row in rows):
            columns[f"{figure}, share"] = lambda row, f=figure: _cell(row["ratios"], f)
    if any(row["ratios"] for row in rows):
        columns["of"] = lambda row: row["of"] if row["ratios"] else ""
    if any(row["of the peak"] is not None for row in rows):
        columns["GFLOP"] = lambda row: number(row["GFLOP"]) if row["GFLOP"] else ""
        columns["of the peak"] = lambda row: number(row["of the peak"]) if row["of the peak"] else ""
    lines = [" | ".join(columns), " | ".join(["---", *["---:"] * (len(columns) - 1)])]
    lines += [" | ".join(cell(row) for cell in columns.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(values: dict[str, float | None], figure: str) -> str:
    return number(values[figure]) if figure in values else ""
