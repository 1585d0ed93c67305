"""The scores of the Proactive Defense Benchmark (Baek et al., ICML 2026) from values per face, beside those published.

A score is that of a defence on a generator, which here is a manipulator.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from art_idguard.evaluation.document import Document, Section, Table, data_name, facts
from art_idguard.evaluation.statistics import Estimate, interval
from art_idguard.files.atomic import write_text

MEASURES = ("mse", "lpips", "cidr")
"""What is measured of a face's two forgeries: the larger, the better."""

SCORES = {"mse": 4, "lpips": 3, "cidr": 3, "rob": 3, "te": 3}
"""The columns of a table, and their digits."""

PUBLISHED = Path(__file__).with_name("icml2026.json")


class Defence(NamedTuple):
    """A method, and the generator that it attacked; None of a black box, whose one picture meets all generators."""

    method: str
    source: str | None = None

    @property
    def setting(self) -> str:
        """As the benchmark calls it."""
        return "white box" if self.source else "black box"


@dataclass(frozen=True)
class Leaderboard:
    """Values per face; NaN where nothing was measured.

    Attributes:
        defences: D of them; a white box has a row for each generator that it attacked.
        generators: names of the K manipulators.
        values: by `MEASURES`, M of them; the first of the S states of a protected photo is as it is, in the others it
            went through a probe each.
        metadata: data, weights, seed, hardware, date.
    """

    defences: tuple[Defence, ...]
    generators: tuple[str, ...]
    values: Float[Tensor, "M S D K N"]
    metadata: Mapping[str, Any]

    def score(self, name: str, method: str, generator: str) -> Estimate:
        """Of `SCORES`, with the bootstrap's 95 % interval over faces; NaN where it is not defined.

        Means are over faces. ROB and TE are means of shares of at most 1, each the ratio of two such means, over the
        measures that there are: ROB of what a probe leaves of the effect, over the probes; TE of a picture's effect on
        another generator by that of the same attack on that one, over the other generators.
        """

        def of(faces: Int64[Tensor, "R n"]) -> Float[Tensor, " R"]:
            means = {
                (d, k): self.values[:, :, i, j][..., faces].nanmean(dim=-1)
                for i, d in enumerate(self.defences)
                for j, k in enumerate(self.generators)
                if d.method == method
            }
            return _SCORES.get(name, _effect(name))(means, generator)

        n = self.values.shape[-1]
        return Estimate(of(torch.arange(n)[None]).item(), *(interval(of, n) if n > 1 else (math.nan, math.nan)))

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order of their rows."""
        return tuple(dict.fromkeys(defence.method for defence in self.defences))

    def setting(self, method: str) -> str:
        """Black box or white box."""
        return next(d.setting for d in self.defences if d.method == method)

    def summary(self) -> dict[str, Any]:
        """Generator -> method -> score, as JSON takes it."""
        return {
            k: {
                method: {"setting": self.setting(method)}
                | {name: self.score(name, method, k).json() for name in SCORES}
                for method in self.methods
            }
            for k in self.generators
        }

    def to_json(self, path: Path) -> None:
        """Write what is measured and what is published, apart; the file is whole or absent."""
        content = {"metadata": dict(self.metadata), "measured": self.summary(), "published": published()}
        write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def document(self) -> Document:
        """Tables for each generator, of what was measured and of what is published; each row says what it is of."""
        head = ("Method", "setting", *(f"{name.upper()}↑" for name in SCORES), "weights, size, data")
        sections = []
        for k in self.generators:
            theirs = [
                _published_row(row, t["of"]) for t in published()["tables"] if t["generator"] == k for row in t["rows"]
            ]
            sections.append(Section(f"{k}, measured here", table=Table(head, [self._row(m, k) for m in self.methods])))
            sections += [Section(f"{k}, published", table=Table(head, theirs))] * bool(theirs)
        title = f"Proactive Defense Benchmark (ICML 2026): {data_name(self.metadata)}"
        return Document(title, facts(self.metadata), Section(text=self.metadata["about"]), sections)

    def _row(self, method: str, generator: str) -> list[str]:
        scores = [_dash(self.score(name, method, generator), digits) for name, digits in SCORES.items()]
        return [method, self.setting(method), *scores, self.metadata["of"][generator]]


def published() -> dict[str, Any]:
    """The benchmark's own figures: their source, and tables by generator and data."""
    return json.loads(PUBLISHED.read_text())


def _published_row(row: Mapping[str, Any], of: str) -> list[str]:
    scores = ["-" if row[name] is None else f"{row[name]:.{digits}f}" for name, digits in SCORES.items()]
    return [row["method"], row["setting"], *scores, of]


def _dash(estimate: Estimate, digits: int) -> str:
    return "-" if math.isnan(estimate.mean) else estimate.text(digits)


Means = Mapping[tuple[Defence, str], Float[Tensor, "M S R"]]
"""Of one method's defences on each generator, over R draws of faces."""


def _own(means: Means, generator: str) -> Float[Tensor, "M S R"]:
    """Those of the black box, or of the white box that attacked this generator."""
    return next(of for (d, k), of in means.items() if k == generator and d.source in (None, generator))


def _effect(measure: str) -> Callable[[Means, str], Float[Tensor, " R"]]:
    return lambda means, generator: _own(means, generator)[MEASURES.index(measure), 0]


def _share(effect: Tensor, of: Tensor) -> Tensor:
    """NaN where there is no effect to have a share of."""
    return (effect / of.where(of > 0, math.nan)).clamp(max=1)


def _rob(means: Means, generator: str) -> Float[Tensor, " R"]:
    own = _own(means, generator)
    return _share(own[:, 1:], own[:, :1]).nanmean(dim=0).nanmean(dim=0)


def _te(means: Means, generator: str) -> Float[Tensor, " R"]:
    others = [
        _share(of[:, 0], _own(means, k)[:, 0]).nanmean(dim=0)
        for (d, k), of in means.items()
        if d.source == generator and k != generator
    ]
    missing = torch.full_like(_own(means, generator)[0, 0], math.nan)
    return torch.stack(others or [missing]).nanmean(dim=0)


_SCORES: Mapping[str, Callable[[Means, str], Float[Tensor, " R"]]] = {"rob": _rob, "te": _te}
