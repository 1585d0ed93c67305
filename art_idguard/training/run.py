"""What a protector's training consists of, made from its settings or found at its checkpoint."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from art_idguard import manipulators as manipulators_
from art_idguard import recognizers
from art_idguard.cache import cached
from art_idguard.data import FaceBatch, Faces, read_faces
from art_idguard.errors import IDGuardError
from art_idguard.losses import LossConfig
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import GENERATORS, Protector, initial_prior, pgd
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import heat_maps
from art_idguard.robustness import require_known
from art_idguard.training.base import TrainingRun, begin
from art_idguard.training.checkpoint import restore_moments
from art_idguard.training.config import ProtectorConfig
from art_idguard.types import Edit, Images
from art_idguard.weighting import TaskWeighting, make_weighting, prior_weights
from art_idguard.weights import digest

PROBE_FACES = 8  # of the small-sample heuristic


class Parts(NamedTuple):
    """What a caller has in memory already, in place of what the settings name."""

    faces: Faces
    manipulators: list[Manipulator]
    protector: Protector


@dataclass(kw_only=True)
class Run(TrainingRun):
    """What the training of a protector consists of."""

    config: ProtectorConfig
    faces: Faces
    manipulators: list[Manipulator]
    recognizer: Recognizer
    protector: Protector
    optimizer: torch.optim.Adam
    weighting: TaskWeighting

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            **super().state(),
            "protector": self.protector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "weighting": self.weighting.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().load_state(state)
        self.protector.load_state_dict(state["protector"])
        restore_moments(self.optimizer, state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])


def prepare(config: ProtectorConfig, *, resume: bool = False, parts: Parts | None = None, verbose: bool = True) -> Run:
    """Data, frozen networks, protector and optimiser of a run, at its checkpoint if it resumes."""
    _check_names(config)
    accelerator, checkpoint = begin(config, resume=resume)
    device = accelerator.device
    targets = parts.manipulators if parts else [manipulators_.load(spec) for spec in config.manipulators]
    targets = [target.to(device) for target in targets]
    recognizer = recognizers.load(config.recognizer) if config.recognizer else recognizers.default()
    recognizer = recognizer.to(device)
    with accelerator.main_process_first():  # one process fills the cache, the others read it
        faces = _faces(config, recognizer, parts).to(device)
    torch.manual_seed(config.seed)
    protector = _protector(config, accelerator, parts)
    if not (checkpoint or config.start or parts):
        with accelerator.main_process_first():
            start = _initial_prior(config, faces, progress=verbose and accelerator.is_main_process)
        protector.prior.data.copy_(start)
    protector = protector.to(device)
    run = Run(
        config=config,
        accelerator=accelerator,
        inputs={
            "faces": faces.digest(),
            "labels": digest([faces.attributes]),
            "manipulators": digest(tensor for target in targets for tensor in target.state_dict().values()),
            "recognizer": digest(recognizer.state_dict().values()),
        },
        faces=faces,
        manipulators=targets,
        recognizer=recognizer,
        protector=protector,
        optimizer=torch.optim.Adam(protector.parameters(), lr=config.lr, betas=(0.5, 0.999)),
        weighting=_weighting(config, targets, faces, protector.epsilon, resumed=checkpoint is not None).to(device),
    )
    if checkpoint:
        run.load_state(checkpoint)
    if config.compile:  # not the generator: a step may go back through its graph more than once
        for target in targets:
            target.compile()
    return run


def _check_names(config: ProtectorConfig) -> None:
    """A typo shows before the faces are read."""
    require_known(config.augment)
    if config.generator not in GENERATORS:
        raise IDGuardError(f"unknown generator {config.generator!r}; choose from: {', '.join(GENERATORS)}")
    _make_weighting(config, config.alpha or (1.0,) * len(config.manipulators))


def _faces(config: ProtectorConfig, recognizer: Recognizer, parts: Parts | None) -> Faces:
    if parts:
        return heat_maps(parts.faces, recognizer, method=config.heat, aligned=config.aligned)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "art-idguard"
    regions = config.regions or cache / "regions.safetensors"
    faces = read_faces(config.faces, split=config.split, size=config.size, limit=config.limit, regions=regions)
    if len(faces) < config.batch_size:
        raise IDGuardError(f"{len(faces)} faces do not fill a batch of {config.batch_size}")
    return heat_maps(faces, recognizer, method=config.heat, aligned=config.aligned, regions=regions)


def _protector(config: ProtectorConfig, accelerator: Accelerator, parts: Parts | None) -> Protector:
    """The one to go on from, or line 10 of Algorithm 1: a random generator."""
    start = parts.protector if parts else Protector.from_pretrained(config.start) if config.start else None
    protector = _new(config) if start is None else start.requires_grad_().train()
    protector.prior.requires_grad_(config.train_prior)
    if not accelerator.use_distributed:
        return protector
    normalised = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in protector.modules())
    if normalised and accelerator.device.type == "cpu":
        raise IDGuardError("CPU processes cannot share BatchNorm's statistics; use --norm instance or one process")
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(protector)


def _new(config: ProtectorConfig) -> Protector:
    options = {"norm": config.norm, "channels": config.channels} if config.generator == "resnet" else {}
    return Protector(
        generator=config.generator,
        generator_config=options,
        epsilon=config.epsilon,
        bound=config.bound,
        size=config.size,
    )


def _initial_prior(config: ProtectorConfig, faces: Faces, *, progress: bool) -> Float[Tensor, "1 3 S S"]:
    """Lines 1-9 of Algorithm 1, kept for a run that ends before its first checkpoint."""
    settings = (config.prior, config.epsilon, config.seed, config.prior_faces)
    return cached(
        Path(config.output) / "initial_prior.safetensors",
        "-".join(map(str, (*settings, faces.digest()))),
        lambda: initial_prior(
            config.prior,
            faces.images[: config.prior_faces],
            epsilon=config.epsilon,
            seed=config.seed,
            progress=progress,
        ).cpu(),
    )


def _weighting(
    config: ProtectorConfig,
    targets: list[Manipulator],
    faces: Faces,
    epsilon: float,
    *,
    resumed: bool,
) -> TaskWeighting:
    alpha = config.alpha or (1.0,) * len(targets)
    # A resumed run takes alpha from the weighting's state.
    if config.alpha is None and config.weighting in ("prior", "kpi") and not resumed:
        alpha = tuple(prior_weights(probe(targets, faces.batch(slice(PROBE_FACES)), epsilon)).tolist())
    return _make_weighting(config, alpha)


def _make_weighting(config: ProtectorConfig, alpha: tuple[float, ...]) -> TaskWeighting:
    return make_weighting(config.weighting, alpha=alpha, space=config.mgda_space, solver=config.mgda_solver)


def probe(targets: list[Manipulator], batch: FaceBatch, epsilon: float) -> Float[Tensor, " K"]:
    """The small-sample heuristic of section III-C2: each model's mean squared distance under the same slight PGD."""
    distances = []
    for target in targets:
        edit = target.edits(batch.attributes)[0]
        with torch.no_grad():
            clean = target(batch.images, edit).output

        def distance(x: Images, target: Manipulator = target, edit: Edit = edit, clean: Images = clean) -> Tensor:
            return F.mse_loss(target(x, edit).output, clean)

        generator = torch.Generator().manual_seed(0)
        attacked = pgd(distance, batch.images, epsilon=epsilon, steps=5, generator=generator)
        with torch.no_grad():
            distances.append(distance(attacked))
    return torch.stack(distances)


def edits_of(targets: list[Manipulator], batch: FaceBatch, step: int) -> list[Edit]:
    """One edit of each manipulator, in turn from step to step."""
    choices = [target.edits(batch.attributes) for target in targets]
    return [edits[step % len(edits)] for edits in choices]


def loss_config(config: ProtectorConfig) -> LossConfig:
    """Eq. (9)'s settings of a run."""
    return LossConfig(**{name: getattr(config, name) for name in LossConfig.__dataclass_fields__})
