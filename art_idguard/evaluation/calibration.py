"""Thresholds of identity similarity at a false accept rate, from pairs of different people.

The 0.4 of section IV-A4 is no recogniser's own; a verification system has a threshold at a false accept rate (FAR).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePath

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard.data.faces import Faces
from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import arcface_frame
from art_idguard.files.tensors import cached
from art_idguard.recognizers.base import Recognizer

FALSE_ACCEPTS = {"1%": 100, "0.1%": 1000}
"""The false accept rates: one in so many pairs of different people passes."""

FEWEST = 30
"""How many pairs must pass for a rate to be an estimate (the rule of 30, Doddington et al. 2000)."""


def people(names: Sequence[str]) -> list[str]:
    """Who is in each picture, by LFW's file names.

    >>> people(["Ada_Lovelace_0001.jpg", "lfw/Grace_Hopper/Grace_Hopper_0012.png"])
    ['Ada_Lovelace', 'Grace_Hopper']

    Raises:
        IDGuardError: a name does not end in an underscore and a number.
    """
    found = []
    for name in names:
        match = re.fullmatch(r"(.+)_\d+", PurePath(name).stem)
        if not match:
            raise IDGuardError(f"{name} does not say who it is; expected file names such as Ada_Lovelace_0001.jpg")
        found.append(match[1])
    return found


def impostor_pairs(names: Sequence[str]) -> int:
    """How many pairs of pictures show different people.

    >>> impostor_pairs(["Ada_1.jpg", "Ada_2.jpg", "Grace_1.jpg", "Mary_1.jpg"])
    5
    """
    same = sum(count**2 for count in Counter(people(names)).values())
    return (len(names) ** 2 - same) // 2


@torch.no_grad()
def impostor_similarities(recognizer: Recognizer, faces: Faces, *, batch_size: int = 64) -> Float[Tensor, " R"]:
    """Identity similarity of every pair of faces of different people (`people`), aligned by their own points."""
    size = (faces.size, faces.size)
    embeddings = [recognizer(b.images, arcface_frame(b.landmarks, size)) for b in faces.batches(batch_size)]
    unit, who = F.normalize(torch.cat(embeddings)).cpu(), people(faces.names)
    number = {person: i for i, person in enumerate(dict.fromkeys(who))}
    person = torch.tensor([number[w] for w in who])
    return torch.cat([unit[i + 1 :][person[i + 1 :] != person[i]] @ unit[i] for i in range(len(unit))])


def threshold(impostors: Float[Tensor, " R"], one_in: int) -> float:
    """The lowest similarity that at most one in `one_in` of the impostors' reaches.

    Raises:
        IDGuardError: so few pairs that under `FEWEST` may pass.
    """
    passing = len(impostors) // one_in
    if passing < FEWEST:
        pairs = FEWEST * one_in
        raise IDGuardError(
            f"{len(impostors)} pairs of different people are too few for a false accept rate of 1 in {one_in}; "
            f"expected {pairs} or more, such as {math.ceil(0.5 + math.sqrt(0.25 + 2 * pairs))} people make"
        )
    highest_refused = impostors.topk(passing + 1).values[-1]
    return torch.nextafter(highest_refused, torch.full_like(highest_refused, torch.inf)).item()


def thresholds(
    recognizers: Mapping[str, Recognizer],
    faces: Faces,
    *,
    weights: Mapping[str, str | None],
    kept: str | Path | None = None,
) -> dict[str, dict[str, float]]:
    """`threshold` of each recogniser at each of `FALSE_ACCEPTS`, by name.

    Args:
        recognizers: on the device of the faces.
        faces: whose file names say who they are (`people`).
        weights: sha256 of each recogniser's weights.
        kept: file that keeps the thresholds of these faces and weights.

    Raises:
        IDGuardError: what `people` and `threshold` raise, or the file is damaged.
    """
    who = people(faces.names)

    def at_rates(recognizer: Recognizer) -> Float[Tensor, " F"]:
        impostors = impostor_similarities(recognizer, faces)
        return torch.tensor([threshold(impostors, one_in) for one_in in FALSE_ACCEPTS.values()])

    found = {}
    for name, recognizer in recognizers.items():
        setting = json.dumps([faces.digest(), who, name, weights[name], FALSE_ACCEPTS])
        key = f"thresholds.{sha256(setting.encode()).hexdigest()}"
        values = cached(kept, key, partial(at_rates, recognizer))
        found[name] = dict(zip(FALSE_ACCEPTS, values.tolist(), strict=True))
    return found
