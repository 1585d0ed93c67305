"""The settings of `art-idguard reproduce`; imports nothing heavy, so that the command line can list them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from art_idguard.files.recipe import Settings


@dataclass(frozen=True, kw_only=True)
class ReproductionConfig(Settings):
    """A table or a figure of the paper."""

    experiment: str
    """table1 to table8, fig9, fig10, fig11, fig13, fig16 or fig17."""
    scale: Literal["small", "paper"] = "small"
    """small: 64 px, networks of a quarter of the width, hours of one CPU core; paper: 128 px, published widths, a
    GPU."""
    faces: str
    """Data set with labels, on whose training split everything is trained."""
    data: tuple[str, ...] = ()
    """NAME=PATH[,split=test][,framing=resize|align]: data sets to measure on. Default: the test split of the faces."""
    recognizers: tuple[str, ...] = ()
    """Who judges identity, besides the SFace that ships, with which everything is trained; not in table7 and table8."""
    strangers: str | None = None
    """NAME=PATH of faces named Ada_Lovelace_0001.jpg (LFW: ,framing=align), for Fig. 11: enrolled beside those that are
    measured, and 310 or more of them make the thresholds of verification at a false accept rate."""
    output: str = "runs/reproduce"
    """Folder: SCALE/manipulators, protectors and watermarkers are what is trained, which experiments share;
    SCALE/EXPERIMENT has DATA.json, .md and plots, and report.html, a page with all of it."""
    limit: int = 100
    """Faces of each data set."""
    seeds: tuple[int, ...] = (0,)
    """Of the trainings, each of which is made once for each seed; the table has the mean over them. table8 has a row
    for each, table7 the first alone."""
    quick: bool = False
    """A first look within minutes: 20 faces, and what ships or is trained already; no baseline that learns."""

    @classmethod
    def presets(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """What `quick` means for the number of faces."""
        return {"limit": 20} if values.get("quick") else {}
