"""Measures of an evaluation, a row each: of forgeries, of protected photos, and those that follow from others."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from art_idguard.metrics import (
    NOTICEABLE,
    ColourDifference,
    colour_difference,
    disrupted,
    identity_similarity,
    l2_face,
    l2_image,
    l2_residual,
    low_frequency_share,
    psnr,
    ssim,
)
from art_idguard.types import Images, Maps

Embeddings = Float[Tensor, "B D"]


@dataclass(frozen=True)
class ForgedPair:
    """One manipulator's forgeries of clean faces and of protected ones, on the [-1, 1] scale."""

    clean: Images
    protected: Images
    delta: Images
    """The protected minus the clean photos."""
    face: Maps
    embeddings: Mapping[str, tuple[Embeddings, Embeddings]]
    """By recogniser, of the clean and of the protected photo's forgery."""


@dataclass(frozen=True)
class PhotoPair:
    """Clean and protected photos, on the [-1, 1] scale."""

    clean: Images
    protected: Images
    face: Maps

    @cached_property
    def colour(self) -> ColourDifference:
        """CIEDE2000 in the face."""
        return colour_difference(self.protected, self.clean, self.face)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is measured, and how a table shows it."""

    name: str
    """In a report's JSON."""
    title: str
    """Of its column."""
    of: Callable[[Any], Tensor]
    """Values from a `ForgedPair`, a `PhotoPair`, or for what follows from others, from their values by name."""
    higher_is_better: bool | None = True
    """None where nothing is to be ranked."""
    digits: int = 3
    is_rate: bool = False
    """Whether values are 0 and 1."""
    recognizer: str | None = None
    far: str | None = None
    """The false accept rate, "1%", at which the recogniser was calibrated."""
    in_tables: bool = True

    @property
    def column(self) -> str:
        """The title with its direction."""
        return self.title + {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def full_title(self) -> str:
        """The column with its recogniser."""
        return self.column + (f" ({self.recognizer})" if self.recognizer else "")


FORGERIES = (  # models that are hard to move have distances of some thousandths
    Measure(name="l2_face", title="L2_face", of=lambda f: l2_face(f.clean, f.protected, f.face), digits=4),
    Measure(
        name="l2_residual",
        title="residual L2_face",
        of=lambda f: l2_residual(f.clean, f.protected, f.delta, f.face),
        digits=4,
    ),
    Measure(name="l2_image", title="L2", of=lambda f: l2_image(f.clean, f.protected), digits=4, in_tables=False),
)
"""Of each protection, manipulator, face and edit; `similarity` of each recogniser comes behind them."""

PHOTOS = (
    Measure(name="psnr", title="PSNR (dB)", of=lambda p: psnr(p.protected, p.clean)),
    Measure(name="ssim", title="SSIM", of=lambda p: ssim(p.protected, p.clean)),
    Measure(name="ciede_mean", title="colour, mean", of=lambda p: p.colour.mean, higher_is_better=False, digits=2),
    Measure(
        name="ciede_p95", title="colour, 95th percentile", of=lambda p: p.colour.p95, higher_is_better=False, digits=2
    ),
    Measure(
        name="ciede_share",
        title=f"share of face over {NOTICEABLE}",
        of=lambda p: p.colour.share,
        higher_is_better=False,
    ),
    Measure(
        name="low_frequency",
        title="tint",
        of=lambda p: low_frequency_share(p.protected - p.clean),
        higher_is_better=False,
    ),
    Measure(
        name="max_delta",
        title="max abs. perturbation",
        of=lambda p: (p.protected - p.clean).abs().amax(dim=(1, 2, 3)),
        higher_is_better=None,
    ),
)
"""Of each protection and photo."""


def similarity(recognizer: str) -> Measure:
    """Identity similarity of the two forgeries."""
    return Measure(
        name=f"similarity.{recognizer}",
        title="ID sim.",
        of=lambda forged: identity_similarity(*forged.embeddings[recognizer]),
        higher_is_better=False,
        recognizer=recognizer,
    )


def success(recognizer: str) -> Measure:
    """1 where the defence succeeds (section IV-A4), 0 where not: its mean is the DSR."""

    def of(values: Mapping[str, Tensor]) -> Tensor:
        distance, alike = values["l2_face"], values[f"similarity.{recognizer}"]
        succeeded = disrupted(distance.flatten(), alike.flatten()).view_as(distance)
        return succeeded.to(distance).masked_fill((distance + alike).isnan(), math.nan)

    return Measure(name=f"dsr.{recognizer}", title="DSR", of=of, is_rate=True, recognizer=recognizer)


def misdirection(recognizer: str, far: str, threshold: float) -> Measure:
    """1 where the similarity is below the recogniser's threshold of this false accept rate, 0 where not."""

    def of(values: Mapping[str, Tensor]) -> Tensor:
        alike = values[f"similarity.{recognizer}"]
        return (alike < threshold).to(alike).masked_fill(alike.isnan(), math.nan)

    return Measure(
        name=f"misdirected@{far}.{recognizer}",
        title=f"{recognizer}, FAR {far}",
        of=of,
        is_rate=True,
        recognizer=recognizer,
        far=far,
    )
