"""`IDGuardAttack.generate` against the bare generator, and PGD-10 of ART and torchattacks on five manipulators."""

import time
from argparse import Namespace
from collections.abc import Callable

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent

from art_idguard import MANIPULATORS, IDGuardAttack, PyTorchManipulator
from art_idguard.estimators.classifier import DisruptionLogits
from art_idguard.hub.shipped import list_models
from art_idguard.images import resize, to_signed

from .measuring import operations, operations_of_steps, seconds, turns
from .step import PAPERS
from .suite import Suite

OURS = "IDGuardAttack.generate"
EPS, STEP, STEPS = 0.025, 0.005, 10
"""Of PGD, on [0, 1]."""


def noise(count: int, size: int) -> np.ndarray:
    """Images (count, 3, size, size) on [0, 1]: speed does not depend on what they show."""
    return np.random.default_rng(0).random((count, 3, size, size), dtype=np.float32)


def bare_forward(attack: IDGuardAttack, x: np.ndarray) -> Callable[[], object]:
    """The generator alone, over batches that lie ready on its device."""
    protector = attack.protector.to(attack.device).eval()
    images = to_signed(torch.from_numpy(x).to(attack.device))
    prior = resize(protector.prior.detach(), (x.shape[2], x.shape[3])).expand_as(images)
    ready = torch.cat([images, prior], dim=1).split(attack.batch_size)

    @torch.no_grad()
    def forward() -> None:
        for batch in ready:
            protector.generator(batch)

    return forward


def protections(suite: Suite, batch: int) -> dict[str, IDGuardAttack]:
    """The protectors that are here, in the precisions that pay."""
    wide = {", protector-wide": "protector-wide"} if list_models("protector-wide") else {}
    precisions = suite.precisions(IDGuardAttack.from_pretrained().device)
    return {
        f"{OURS}{model}{', bf16' * (precision == 'bf16')}": IDGuardAttack.from_pretrained(
            name, batch_size=batch, verbose=False, precision=precision
        )
        for model, name in ({"": None} | wide).items()
        for precision in precisions
    }


def art_pgd(estimator: PyTorchManipulator, x: np.ndarray, steps: int) -> None:
    """ART's, as its users call it."""
    ProjectedGradientDescent(estimator, eps=EPS, eps_step=STEP, max_iter=steps, verbose=False).generate(x)


def torchattacks_pgd(estimator: PyTorchManipulator, x: np.ndarray, steps: int) -> None:
    """That of torchattacks, on logits that know one image."""
    import torchattacks  # an extra

    for i in range(len(x)):
        logits = DisruptionLogits(estimator, x[i : i + 1], guarded=False)
        image = torch.tensor(x[i : i + 1], device=estimator.device)
        torchattacks.PGD(logits, eps=EPS, alpha=STEP, steps=steps)(image, image.new_zeros(1, dtype=torch.long))


def measure(suite: Suite, options: Namespace) -> None:
    """What protecting an image costs."""
    attacks = protections(suite, options.batch)
    idguard = attacks[OURS]
    x = noise(options.images, options.size)
    suite.about(
        f"An image of {options.size} px, on {idguard.device}: {len(x)} images in batches of {options.batch}, "
        f"{options.pgd_images} for PGD-{STEPS}, which attacks full-size networks with random weights."
    )
    few = x[: options.pgd_images]
    runs = {name: (lambda attack=attack: attack.generate(x)) for name, attack in attacks.items()}
    bare = {name: bare_forward(attack, x) for name, attack in attacks.items()}
    work = {name: operations(run) / len(x) for name, run in bare.items()}
    runs["bare generator"], work["bare generator"] = bare[OURS], work[OURS]
    libraries = {"ART": art_pgd} | ({"torchattacks": torchattacks_pgd} if suite.optional("torchattacks") else {})
    estimators = {name: PyTorchManipulator(MANIPULATORS[name](), input_shape=x.shape[1:]) for name in PAPERS}
    work_of_pgd = {
        (library, name): operations_of_steps(lambda n, pgd=pgd, e=estimator: pgd(e, x[:1], n), STEPS)
        for library, pgd in libraries.items()
        for name, estimator in estimators.items()
    }

    def add(name: str, taken: np.ndarray, work: float) -> None:
        figures = {"seconds": float(taken[0]), "CPU seconds": float(taken[1])}
        precision = "bfloat16" if name.endswith("bf16") else "float32"
        suite.add(name, figures, of=OURS, operations=work, peak=f"{idguard.device.type} {precision}")

    for order in turns(options.repeats, runs):
        for name, run in order:
            add(name, timed(run) / len(x), work[name])
        for library, pgd in libraries.items():
            total = np.zeros(2)
            for name, estimator in estimators.items():
                total += (taken := timed(lambda pgd=pgd, e=estimator: pgd(e, few, STEPS)) / len(few))
                add(f"{library} PGD-{STEPS} on {name}", taken, work_of_pgd[library, name])
            all_of = sum(work_of_pgd[library, name] for name in estimators)
            add(f"{library} PGD-{STEPS}, {len(estimators)} manipulators", total, all_of)


def timed(run: Callable[[], object]) -> np.ndarray:
    """Seconds by the clock, and of this process's CPU time, which other processes do not lengthen."""
    start = time.process_time()
    return np.array([seconds(run), time.process_time() - start])
