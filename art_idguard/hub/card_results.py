"""Results of the evaluations in a model's folder, for its card: for the Hub's index, and as Markdown."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.dataclasses import type_validator

from art_idguard.errors import IDGuardError
from art_idguard.files.parsing import read_json

_AGGREGATES = ("mean over manipulators", "worst manipulator", "photo")

Result = Mapping[str, Any]
"""A report as `report.Report.to_json` writes it, or another with "metadata" and estimates that have a "mean"."""


def read_results(folder: Path) -> dict[Path, Result]:
    """evaluation/*.json and quality.json of a model's folder.

    Raises:
        IDGuardError: one is damaged, or no report.
    """
    paths = [*sorted(folder.glob("evaluation/*.json")), *sorted(folder.glob("quality.json"))]
    return {path: _checked(read_json(path), path) for path in paths}


def _checked(report: Any, path: Path) -> Result:
    try:
        type_validator("report", report, dict[str, Any])
        for name in ("metadata", "summary"):
            type_validator(name, report.get(name, {}), dict[str, Any])
        metadata = report.get("metadata", {})
        type_validator("data", metadata.get("data", ""), str | dict[str, Any])
        type_validator("weights", metadata.get("weights"), str | dict[str, str] | None)
        for name in _AGGREGATES if "ID-Guard" in report.get("summary", {}) else ():
            type_validator(name, report["summary"]["ID-Guard"][name], dict[str, Any])
        list(index(report))
    except (TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise IDGuardError(f"{path} is no report of an evaluation: {error}") from error
    return report


def is_of(report: Result, config: Mapping[str, Any]) -> bool:
    """Whether these very weights were measured, alone or after a name, as far as report and config.json say."""
    weights = report.get("metadata", {}).get("weights")
    hashes = [weights] if isinstance(weights, str) else list((weights or {}).values())
    digest = config.get("sha256")
    return not hashes or digest is None or any(found.endswith(str(digest)) for found in hashes)


def index(report: Result) -> Iterator[EvalResult]:
    """The model's own means: of a protector the row ID-Guard over manipulators, of others everything."""
    data = report.get("metadata", {}).get("data", {})
    data = data if isinstance(data, Mapping) else {"name": data}
    summary = report.get("summary", report)
    own = {name: summary["ID-Guard"][name] for name in _AGGREGATES} if "ID-Guard" in summary else summary
    for path, mean in _means(own):
        yield EvalResult(
            task_type="image-to-image",
            dataset_type=str(data.get("name", "faces")),
            dataset_name=str(data.get("name", "faces")),
            dataset_split=data.get("split"),
            metric_type=path[-1],
            metric_name=", ".join(path),
            metric_value=mean,
        )


def _means(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """The estimates in a report, which have a mean (None where nothing was measured), by where they stand."""
    if isinstance(tree, Mapping):
        mean = tree.get("mean")
        if path and mean is not None and not isinstance(mean, Mapping):
            if type(mean) not in (int, float) or not math.isfinite(mean):
                raise TypeError(f"the mean of {', '.join(path)} is {mean!r}; expected a finite number")
            yield path, float(mean)
        else:
            for name, value in tree.items():
                yield from _means(value, (*path, name))


def markdown(path: Path, report: Result) -> str:
    """Data set, setting, and the table that was written beside the report, or one of its means."""
    table = path.with_suffix(".md")
    text = table.read_text(encoding="utf-8", errors="replace") if table.is_file() else _plain_table(report)
    return f"{_setting(path, report)}\n\n{_tables(text).strip()}"


def _tables(text: str) -> str:
    """Without the title and the facts, which `_setting` says."""
    return re.sub(r"\A# .*\n\n(- .*\n)*\n?", "", text)


def _setting(path: Path, report: Result) -> str:
    """Heading and setting of one data set."""
    known = report.get("metadata", {})
    data = known.get("data", {})
    if not isinstance(data, Mapping):
        data = {"name": data}
    heading = [str(data.get("name", path.stem)), *([f"{data['split']} split"] if "split" in data else [])]
    heading += [f"{known['n']} faces"] if "n" in known else []
    heading += ["warped to CelebA's framing"] if data.get("framing") == "align" else []
    edits = {"cycle": "one edit a face (face i meets edit i modulo their number)", "all": "every edit of every face"}
    said = [edits.get(str(known.get("edits")), "")]
    said += [f"epsilon {known['epsilon']} on {known.get('range', '[-1, 1]')}"] if "epsilon" in known else []
    said += [f"white-box attack on {known['reference_faces']} faces"] if known.get("reference_faces") else []
    said += [f"{name} {known[name]}" for name in ("seed", "hardware", "date") if name in known]
    line = "; ".join(part for part in said if part)
    return f"### {', '.join(heading)}\n\n" + (f"Setting: {line}. Raw: `{path.name}`." if line else "")


def _plain_table(report: Result) -> str:
    means = list(_means(report.get("summary", report)))
    return "\n".join(["| measure | mean |", "|---|---:|", *(f"| {', '.join(p)} | {mean:.4g} |" for p, mean in means)])
