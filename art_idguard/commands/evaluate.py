"""`art-idguard evaluate`: protectors beside their baselines."""

from pathlib import Path
from typing import Any

from art_idguard.commands._settings import steps


def add(commands: Any) -> None:
    """Add the command to the parser's commands."""
    evaluate = commands.add_parser("evaluate", help="measure protectors, beside their baselines")
    evaluate.add_argument(
        "--protector",
        dest="protectors",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]FOLDER",
        help="folders or Hub ids, with names for their rows (default: the one that ships)",
    )
    evaluate.add_argument("--manipulators", nargs="+", required=True, help="folders or Hub ids, or name=file")
    evaluate.add_argument(
        "--recognizers", nargs="+", default=[], help="the training's first, then one that it did not use"
    )
    evaluate.add_argument("--data", nargs="+", required=True, help="NAME=PATH[,split=test][,framing=resize|align]")
    evaluate.add_argument("--output", type=Path, required=True, help="folder for NAME.json, .md and .png")
    evaluate.add_argument("--limit", type=int, help="use this many faces of each data set at most")
    evaluate.add_argument("--edits", choices=("all", "cycle"), default="all", help="every edit, or face i edit i mod 5")
    evaluate.add_argument(
        "--operations",
        nargs="+",
        default=[],
        metavar="NAME=STRENGTH",
        help="what photos go through before: none, jpeg=75, blur=1, resize=0.5, noise=0.05 (Fig. 13)",
    )
    evaluate.add_argument(
        "--baselines",
        nargs="*",
        metavar="NAME",
        help="also these (without names: all): noise; disrupting (PGD-10, for each model); cmua; pg and iap, whose "
        "generators are trained; anti-forgery (100 steps, for each model)",
    )
    evaluate.add_argument(
        "--refine",
        type=steps,
        default=0,
        metavar="STEPS",
        help="also the first protector with this much PGD behind it",
    )
    evaluate.add_argument("--refine-against", nargs="+", default=(), help="manipulators that it knows (default: all)")
    evaluate.add_argument("--baseline-faces", help="NAME=PATH that CMUA, PG and IAP are trained on")
    evaluate.add_argument("--baseline-limit", type=int, default=128, help="how many faces they are trained on")
    evaluate.add_argument(
        "--baseline-steps",
        type=int,
        default=100,
        help="of training PG, for each model, and IAP, on batches of 4 (default: 100, for which a CPU core needs 5 "
        "minutes, and half an hour; PG is published with 30,000)",
    )
    evaluate.add_argument(
        "--cmua-edits",
        choices=("turn", "each"),
        default="turn",
        help="10 steps of CMUA in which the edits take turns, or its official 10 for each, at five times the cost",
    )
    evaluate.add_argument(
        "--reference-faces",
        type=int,
        default=0,
        help="faces that white boxes attack: PGD on the whole picture, and one aimed at the criterion, whose share the "
        "figures are; it knows all recognizers but the last, or the only one",
    )
    evaluate.add_argument("--reference-steps", type=int, default=40, help="steps of each white box (default: 40)")
    evaluate.add_argument(
        "--calibrate",
        metavar="NAME=PATH",
        help="faces named Ada_Lovelace_0001.jpg (LFW: ,framing=align): also identity at a false accept rate of 1 %% "
        "and 0.1 %% there",
    )
    evaluate.add_argument("--reference-restarts", type=int, default=1, help="of the one aimed at the criterion")
    evaluate.add_argument("--batch-size", type=int, default=16)
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--size", type=int, help="side of the faces (default: the protector's)")
    evaluate.set_defaults(run=_run)


def _run(**options: Any) -> int:
    from art_idguard.evaluation.benchmark import evaluate_protector
    from art_idguard.evaluation.tables import markdown

    for name, report in evaluate_protector(**options).items():
        print(f"# {name}\n\n{markdown(report)}")
    return 0
