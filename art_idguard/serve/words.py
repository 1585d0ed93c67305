"""What the page says of a protected photo: in words first, the figures by themselves."""

from dataclasses import dataclass
from statistics import fmean

from art_idguard.metrics import L2_THRESHOLD, SIMILARITY_THRESHOLD
from art_idguard.photos.effects import AS_IT_IS, OPERATIONS
from art_idguard.photos.job import Written
from art_idguard.photos.verdict import Judged, grade
from art_idguard.serve.work import Choices, Protection

HINT = "Choose a photo, or the example, and press **Protect**."
READY = "Press **Protect**."
STRONGER = "Stronger (about a minute)"
ASK_ALL = "Ask all tools (half a minute)"
COMMAND = "the command `art-idguard protect --until holds` (a few minutes)"
WHOLE = "Protect the whole picture if no face is found"

_HEAD = "| Tool | after | change | likeness |\n|---|---|---|---|"
_LIKENESS = (
    f"In brackets is how like you its picture still is: 1 at most, and from {SIMILARITY_THRESHOLD} on it counts as you."
)
_MEANING = (
    f"**Change** of its picture by the protection: L2_face of the paper; above {L2_THRESHOLD} it counts as damaged. "
    f"**Likeness** of the person in its two pictures, 1 at most: the cosine similarity that a face recogniser gives; "
    f"from {SIMILARITY_THRESHOLD} on it counts as the same person."
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of a protected photo.

    Attributes:
        faces: how many were found.
        found: what was done to it, in words.
        weakened: what less than full strength costs, in words; empty at full strength.
        stronger: what would be stronger, in words.
        judged: what is left to the manipulators that were asked.
    """

    faces: int
    found: str
    weakened: str
    stronger: str
    judged: tuple[Judged, ...]

    def __str__(self) -> str:
        """In Markdown: the verdict, what each manipulator still does, what the strength costs, what was done."""
        found = self.found
        if self.faces and not self.judged:
            found += f" No tool was asked what it makes of it: choose one in the settings, or press “{ASK_ALL}”."
        elif any(len(one.effects) > 1 for one in self.judged):
            *others, last = [after for after in OPERATIONS if after != AS_IT_IS]
            found += f" Every edit that suits the face was tried, also after {', '.join(others)} and {last}."
        parts = [self.weakened, found] if self.weakened else [found]
        if self.judged:
            parts[:0] = [
                f"## {grade(self.judged, self.stronger)}",
                "\n".join(f"- {one}" for one in self.judged),
                _LIKENESS,
            ]
        return "\n\n".join(parts)

    def figures(self) -> str:
        """In Markdown: a table, and what its columns mean."""
        rows = [
            f"| {one.name} | {after} | {effect.l2_face:.4f} | {effect.similarity:.2f} |"
            for one in self.judged
            for after, effect in one.effects.items()
        ]
        return "\n".join([_HEAD, *rows, "", _MEANING]) if rows else ""


def result(protection: Protection, choices: Choices) -> Result:
    """What the page says at first."""
    weakened = choices.strength != 1
    judged, full = ([one.judged(version) for one in protection.forged] for version in (0, -1))
    refined = COMMAND if choices.refined else f"“{STRONGER}”"
    stronger = ["full strength"] * weakened + [refined]
    return Result(
        faces=len(protection.done.frames),
        found=_found(protection.done),
        weakened=_weakened(judged, full) if weakened else "",
        stronger=" or ".join(stronger),
        judged=tuple(judged),
    )


def _found(done: Written) -> str:
    if not done.frames:
        what = "No face was found: the whole picture was protected, and there is no face to judge it by."
    elif (faces := len(done.frames)) == 1:
        what = "One face was found and protected."
    else:
        what = f"{faces} faces were found and all of them protected; the largest is judged."
    if done.doubtful:
        what += f" {done.doubtful} may be none, or stand otherwise: look at the pictures."
    return f"{what} In the file that you download no colour is changed by more than {done.levels} of 255 levels."


def _weakened(judged: list[Judged], full: list[Judged]) -> str:
    """The effect beside that at full strength: of each manipulator's picture, on average."""
    said = "**This strength protects less than full strength.**"
    if not judged:
        return said
    change, whole = (fmean(one.effects[AS_IT_IS].l2_face for one in each) for each in (judged, full))
    share = f"{change / whole:.0%} as much" if whole else "as little"
    best = grade(full, f"“{STRONGER}”")
    return f"{said} What the tools make of your photo is changed {share}. At full strength it would be: {best}."
