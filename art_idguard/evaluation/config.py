"""The settings of evaluations; imports nothing heavy, so that the command line can list them."""

from dataclasses import dataclass, field
from typing import Literal

from art_idguard.files.recipe import Settings

Edits = Literal["all", "cycle"]
"""Every edit for every face, or edit i mod E for face i."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Settings):
    """Protectors beside their baselines."""

    may_be_zero = ("seed", "reference_faces")

    protector: tuple[str, ...] = field(default=(), metadata={"action": "extend", "metavar": "[NAME=]FOLDER"})
    """Folders or Hub ids, each with a row and one of its P-Pert; default: the one that ships. Without a name of its own
    the first is ID-Guard and others have their folder's. All have one epsilon."""
    manipulators: tuple[str, ...] = ()
    """Names of those that ship, folders or Hub ids, or name=file for official checkpoints; default: all that ship."""
    recognizers: tuple[str, ...] = ()
    """Likewise; the training's first, then at least one that it did not use (without, the report carries a warning).
    Default: the SFace that ships."""
    data: tuple[str, ...]
    """Data sets, NAME=PATH[,split=test][,framing=resize|align]: the central square of each picture, or the face in it
    warped to where CelebA's faces are."""
    output: str
    """Folder for NAME.json, .md and .png, and report.html, a page with tables, plots and pictures of all."""
    limit: int | None = None
    """Use this many faces of each data set at most."""
    edits: Edits = "all"
    """Every edit for every face, or cycle: face i, edit i modulo their number, a fifth of the cost of five."""
    operations: tuple[str, ...] = field(default=(), metadata={"metavar": "NAME=STRENGTH"})
    """What all photos, clean and protected, go through before the manipulators see them: none, jpeg=75, blur=1,
    resize=0.5, noise=0.05 (Fig. 13); every pair of manipulator and operation has its own columns."""
    restorers: tuple[str, ...] = ()
    """What forgeries of protected photos are inpainted by: telea, navier-stokes, learned (Table V); every pair of
    manipulator and restorer has its own columns, and is compared with the clean forgery as it is."""
    baselines: tuple[str, ...] | None = field(default=None, metadata={"nargs": "*", "metavar": "NAME[=MODEL]"})
    """Also these (without names: all): noise; disrupting (PGD-10, for each model); cmua; pg and iap, whose generators
    are trained; anti-forgery (100 steps, for each model). NAME=MODEL knows that model alone: pg=stargan."""
    baseline_manipulators: tuple[str, ...] = ()
    """Whom baselines know, and are trained against, named as manipulators are; default: those that are measured."""
    baseline_folder: str | None = None
    """Keeps trained baselines, which evaluations can share; default: the output."""
    baseline_faces: str | None = None
    """NAME=PATH on whose first faces CMUA, PG and IAP are trained; default: the training split of the first data set,
    which a mere folder or tar lacks: a warning tells if faces are in both."""
    baseline_limit: int = 128
    """How many faces they are trained on (128 in CMUA's paper)."""
    baseline_steps: int = 100
    """Of training PG, for each model, and IAP, on batches of 4; for 100 a CPU core needs 5 minutes, and half an hour.
    PG is published with 30,000."""
    cmua_edits: Literal["turn", "each"] = "turn"
    """10 steps of CMUA in which the edits take turns, or its official 10 for each, at five times the cost."""
    refine: tuple[int | Literal["auto"], ...] = field(default=(), metadata={"metavar": "STEPS"})
    """Also the first protector with this much PGD behind it, auto: until no more is won; of several, a row for each; 0:
    no such row. It knows the recognizers but the last, or the only one, and no face's later edit."""
    refine_against: tuple[str, ...] = ()
    """Manipulators that refining knows; default: all."""
    reference_faces: int = 0
    """Faces that white boxes attack: PGD on the whole picture, and one aimed at the criterion, whose share the figures
    are. It knows all recognizers but the last, or the only one, so that the last of several judges and no more."""
    reference_steps: int = 40
    """Steps of each white box."""
    reference_restarts: int = 1
    """Of the one aimed at the criterion, each of as many steps; a face keeps its best."""
    attack_precision: Literal["no", "bf16", "auto"] = "no"
    """Of the networks that refining and white boxes attack: less than half of the time in bf16, where the processor has
    it. What they reach is measured in float32 always."""
    calibrate: str | None = field(default=None, metadata={"metavar": "NAME=PATH"})
    """Faces named Ada_Lovelace_0001.jpg (LFW: ,framing=align): also how many forgeries each recogniser, at a false
    accept rate of 1 % and 0.1 % there, takes for another person."""
    protocol: Literal["paper", "icml2026"] = "paper"
    """Or the Proactive Defense Benchmark's (ICML 2026): epsilon 0.05, PGD with 30 steps of 0.01, blond hair, its
    measures, 100 faces; a table with the published figures beside ours. The last recogniser judges."""
    lpips: str | None = field(default=None, metadata={"metavar": "FILE"})
    """Weights of LPIPS with AlexNet, for icml2026: what torch.save makes of lpips.LPIPS(net='alex').state_dict()."""
    batch_size: int = 16
    """Faces at a time."""
    seed: int = 0
    """Of noise and of random starts."""
    size: int | None = None
    """Side of the faces in pixels; default: the protector's."""


@dataclass(frozen=True, kw_only=True)
class MeasurementConfig(Settings):
    """What the two measurements of manipulators have in common."""

    data: str
    """NAME=PATH[,split=test][,framing=resize|align]; its labels say how good edits are."""
    output: str
    """Folder for NAME.json, .md and .png, and report.html, a page with tables, plots and pictures."""
    limit: int | None = None
    """Use this many faces at most."""
    size: int = 128
    """Side of the faces in pixels."""
    recognizer: str | None = None
    """Judges whether the person is kept; default: the one that ships."""


@dataclass(frozen=True, kw_only=True)
class QualityConfig(MeasurementConfig):
    """How good manipulators are."""

    models: tuple[str, ...]
    """Folders or Hub ids, or name=file for official checkpoints."""
    output: str
    """Folder for MODEL/quality.json, .md and plots, and report.html, a page with all of it; hub/manipulators puts them
    beside the models that ship."""
    batch_size: int = 16
    """Faces at a time."""
    portrait: str | None = None
    """Also write MODEL/edits.jpg, a picture for the model's card: this photo's face under every edit."""


@dataclass(frozen=True, kw_only=True)
class RobustnessConfig(MeasurementConfig):
    """Table VII."""

    original: str
    """Manipulator: folder or Hub id, or name=file for an official checkpoint."""
    hardened: str | None = None
    """Its hardened version, to stand beside it."""
    attacks: tuple[str, ...] = ()
    """Rows of the table; default: all."""


@dataclass(frozen=True, kw_only=True)
class ForensicsConfig(Settings):
    """Table VIII: watermarkers, and what of their messages is left in forgeries."""

    watermarkers: tuple[str, ...] = field(metadata={"metavar": "[NAME=]FOLDER"})
    """Folders or Hub ids, each with a row; all of one size."""
    data: str
    """NAME=PATH[,split=test][,framing=resize|align]; its labels say the edits."""
    output: str
    """Folder for NAME.json and .md."""
    manipulators: tuple[str, ...] = ()
    """Names of those that ship, folders or Hub ids, or name=file for official checkpoints; default: all that ship."""
    protector: str | None = None
    """Also rows of faces that this protector, a folder, Hub id or name, has protected before they are watermarked."""
    operations: tuple[str, ...] = field(default=("none",), metadata={"metavar": "NAME=STRENGTH"})
    """What photos and forgeries go through before the message is read: none, jpeg=75, blur=1, resize=0.5,
    noise=0.05."""
    edits: Edits = "cycle"
    """Every edit for every face, or cycle: face i, edit i modulo their number."""
    limit: int | None = None
    """Use this many faces at most."""
    batch_size: int = 16
    """Faces at a time."""
    seed: int = 0
    """Of the messages."""
    recognizer: str | None = None
    """Compares forgeries where there is a protector; default: the one that ships."""
