"""What a protection does for one photo, in a person's words: a grade, what is left to whom, and what to try."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from art_idguard.metrics import L2_THRESHOLD, SIMILARITY_THRESHOLD
from art_idguard.photos.config import ProtectConfig
from art_idguard.photos.effects import AS_IT_IS, Effect


class Judged(NamedTuple):
    """A manipulator, and what a protection does to its forgeries.

    `effects` are by what the face went through before, of `effects.OPERATIONS`; `AS_IT_IS` is always among them.
    """

    name: str
    effects: Mapping[str, Effect]

    def __str__(self) -> str:
        """Whether it still makes a recognisable face, with the similarity, and after what if only then."""
        left = {name: effect.similarity for name, effect in self.effects.items()}
        after = list(left)[int(np.argmax([*left.values()]))]  # a NaN, where there is one
        if _recognisable(left[AS_IT_IS]) or not _recognisable(left[after]):
            return f"{self.name}: {'still' if _recognisable(left[after]) else 'not'} recognisable ({left[after]:.2f})"
        return f"{self.name}: not recognisable ({left[AS_IT_IS]:.2f}), but again after {after} ({left[after]:.2f})"


def least(judged: Sequence[Judged]) -> Effect:
    """The smallest L2_face and the largest similarity of all, each by itself; NaN where one is."""
    l2, similarity = np.array([effect for one in judged for effect in one.effects.values()]).T
    return Effect(l2.min().item(), similarity.max().item())


def verdict(judged: Sequence[Judged], config: ProtectConfig) -> str:
    """A grade with what to try; where more than one thing was tried, what each manipulator still does.

    The grades are how far the worst of all meets the criterion of section IV-A4 (`metrics.disrupted`): weak where the
    similarity is not below its threshold, because the identity is what is to be destroyed; fair where it is; strong
    where L2_face is above its own, too. A NaN meets nothing.

    Args:
        judged: at least one manipulator.
        config: what the photo was protected with.
    """
    details = judged if len(judged) > 1 or len(judged[0].effects) > 1 else ()
    return "; ".join([grade(judged, _stronger(config)), *map(str, details)])


def grade(judged: Sequence[Judged], stronger: str) -> str:
    """The grade alone; `stronger` is what to try, as the person is to read it, or nothing."""
    advice = f"try {stronger}" if stronger else "no setting is stronger: do not rely on it"
    who, number = [one.name for one in judged if not holds(one)], len(judged)
    if len(who) == 1:
        return f"Weak: {who[0]} still produces a recognisable you; {advice}"
    if who:
        some = f"all {number}" if len(who) == number else f"{len(who)} of {number}"
        return f"Weak: {some} tools still produce a recognisable you; {advice}"
    nobody = f"{judged[0].name} no longer" if number == 1 else f"none of {number} tools"
    if least(judged).l2_face > L2_THRESHOLD:
        return f"Strong: {nobody} produces a recognisable you, and what it makes is damaged"
    return f"Fair: {nobody} produces a recognisable you, but what it makes is hardly damaged; {advice}"


def holds(judged: Judged) -> bool:
    """Whether the manipulator no longer makes a recognisable face, whatever was tried."""
    return not _recognisable(least([judged]).similarity)


def figures(effect: Effect) -> str:
    """The numbers, each with its threshold."""
    return (
        f"L2_face {effect.l2_face:.4f} (damaged above {L2_THRESHOLD}), "
        f"identity similarity {effect.similarity:.2f} (recognisable from {SIMILARITY_THRESHOLD})"
    )


def _recognisable(similarity: float) -> bool:
    return not similarity < SIMILARITY_THRESHOLD


def _stronger(config: ProtectConfig) -> str:
    full = ["--strength 1"] * (config.strength != 1)
    longer = ["more --minutes"] * (config.minutes is not None)
    return " ".join(full + (longer if config.refine == "auto" else ["--until holds"]))
