"""Run of a protector's training, made from its settings or at its checkpoint."""

import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from art_idguard.data.faces import Faces
from art_idguard.data.reading import read_faces
from art_idguard.distortions import require_known
from art_idguard.errors import IDGuardError
from art_idguard.files.tensors import cached, digest
from art_idguard.hub.shipped import short_name
from art_idguard.manipulators import load as load_manipulator
from art_idguard.manipulators import shipped_manipulators
from art_idguard.manipulators.base import Manipulator
from art_idguard.perturbation import GENERATORS, Protector, Visibility, initial_prior
from art_idguard.recognizers import default as default_recognizer
from art_idguard.recognizers import load as load_recognizer
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions import heat_maps, masked_faces
from art_idguard.training.base import open_run
from art_idguard.training.checkpoint import load_checkpoint, restore_moments
from art_idguard.training.protector.clean_cache import CleanCache
from art_idguard.training.protector.config import ProtectorConfig
from art_idguard.training.protector.probe import build_weighting, weighting_and_scale
from art_idguard.training.protector.run import Preloaded, ProtectorRun, loss_config


def build_run(
    config: ProtectorConfig, *, resume: bool = False, parts: Preloaded | None = None, verbose: bool = True
) -> ProtectorRun:
    """Data, frozen networks, protector and optimiser of a run, at its checkpoint if it resumes."""
    _check_names(config)
    accelerator, checkpoint = open_run(config, resume=resume)
    device = accelerator.device
    targets = [m.to(device) for m in (parts.manipulators if parts else map(load_manipulator, _targets(config)))]
    recognizers = _recognizers(config, device)
    with accelerator.main_process_first():  # one process fills the cache, the others read it
        faces = _faces(config, recognizers[0], parts, verbose=verbose).to(device)
    torch.manual_seed(config.seed)
    protector = _protector(config, accelerator, parts)
    if not (checkpoint or config.start or parts):
        with accelerator.main_process_first():
            start = _initial_prior(config, faces, progress=verbose and accelerator.is_main_process)
        protector.prior.data.copy_(start)
    protector = protector.to(device)
    inputs = _digests(faces, targets, recognizers) | _start_digest(config, protector)
    weighting, kpi_scale = weighting_and_scale(
        config, targets, faces, recognizers, protector.epsilon, resumed=checkpoint is not None
    )
    run = ProtectorRun(
        config=config if parts else _named(config),
        accelerator=accelerator,
        inputs=inputs,
        faces=faces,
        manipulators=targets,
        recognizers=recognizers,
        protector=protector,
        average=deepcopy(protector).requires_grad_(False) if config.ema else None,
        optimizer=_optimizer(config, protector),
        weighting=weighting.to(device),
        kpi_scale=kpi_scale.to(device),
        clean=_clean_caches(config, targets, faces, recognizers, inputs, accelerator.mixed_precision),
    )
    if checkpoint:
        run.load_state(checkpoint)
    else:
        _take_moments(run)
    if config.compile:  # not the generator: a step may go back through its graph more than once
        for target in targets:
            target.compile()
    return run


def _recognizers(config: ProtectorConfig, device: torch.device) -> list[Recognizer]:
    named = [load_recognizer(spec) for spec in config.recognizers]
    return [recognizer.to(device) for recognizer in named or [default_recognizer()]]


def _digests(faces: Faces, targets: list[Manipulator], recognizers: list[Recognizer]) -> dict[str, str]:
    """What a resumed run has to find again."""
    return {
        "faces": faces.digest(),
        "labels": digest([faces.attributes]),
        "manipulators": digest(tensor for target in targets for tensor in target.state_dict().values()),
        "recognizers": digest(tensor for recognizer in recognizers for tensor in recognizer.state_dict().values()),
    }


def _start_digest(config: ProtectorConfig, protector: Protector) -> dict[str, str]:
    return {"start": digest(protector.state_dict().values())} if config.start else {}


def _check_names(config: ProtectorConfig) -> None:
    """A typo shows before the faces are read."""
    require_known(config.augment)
    Visibility(**_visibility(config))
    if config.generator not in GENERATORS:
        raise IDGuardError(f"unknown generator {config.generator!r}; choose from: {', '.join(GENERATORS)}")
    build_weighting(config, config.alpha or (1.0,) * len(_targets(config)))


def _targets(config: ProtectorConfig) -> list[str]:
    return list(config.manipulators) or shipped_manipulators()


def _named(config: ProtectorConfig) -> ProtectorConfig:
    """With the names of all manipulators that ship, where these are meant: another version may ship others."""
    return replace(config, manipulators=tuple(map(short_name, _targets(config))))


def _faces(config: ProtectorConfig, recognizer: Recognizer, parts: Preloaded | None, *, verbose: bool) -> Faces:
    if parts:
        return heat_maps(parts.faces, recognizer, method=config.heat, aligned=config.aligned, verbose=verbose)
    cache = _cache(config)
    faces = read_faces(
        config.faces,
        split=config.split,
        size=config.size,
        limit=config.limit,
        cache=cache,
        decoded_in=config.decoded_in,
        verbose=verbose,
    )
    if len(faces) < config.batch_size:
        raise IDGuardError(f"{len(faces)} faces do not fill a batch of {config.batch_size}")
    return heat_maps(faces, recognizer, method=config.heat, aligned=config.aligned, cache=cache, verbose=verbose)


def _cache(config: ProtectorConfig) -> Path:
    """The file of what every run with these faces would find anew."""
    if config.regions:
        return Path(config.regions)
    of_user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(of_user, "art-idguard", "regions.safetensors")


def _protector(config: ProtectorConfig, accelerator: Accelerator, parts: Preloaded | None) -> Protector:
    """The one to go on from, or line 10 of Algorithm 1: a random generator."""
    if parts:
        protector = parts.protector
    elif config.start:
        within = Path(config.start) / "protector"
        protector = Protector.from_pretrained(within if within.is_dir() else config.start, **_visibility(config))
    else:
        protector = _new(config)
    protector.train()
    protector.generator.requires_grad_(config.train_generator)
    protector.prior.requires_grad_(config.train_prior)
    if not accelerator.use_distributed:
        return protector
    normalised = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in protector.modules())
    if normalised and accelerator.device.type == "cpu":
        raise IDGuardError("CPU processes cannot share BatchNorm's statistics; use --norm instance or one process")
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(protector)


def _new(config: ProtectorConfig) -> Protector:
    options: dict[str, Any] = {"channels": GENERATORS[config.generator].width * config.channels // 64}
    if config.generator == "resnet":
        options["norm"] = config.norm
    protector = Protector(
        generator=config.generator,
        generator_config=options,
        epsilon=config.epsilon,
        bound=config.bound,
        size=config.size,
        **_visibility(config),
    )
    if config.bound == "residual":  # begins with what P-Pert does
        *_, last = (m for m in protector.generator.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return protector


def _visibility(config: ProtectorConfig) -> dict[str, Any]:
    given = {name: getattr(config, name) for name in ("lowpass", "chroma", "fade")}
    return {name: value for name, value in given.items() if value is not None}


def _optimizer(config: ProtectorConfig, protector: Protector) -> torch.optim.Adam:
    """Adam with a group for the generator and one for delta_p; a group's `scale` is that of its learning rate."""
    prior_scale = config.prior_lr / config.lr if config.prior_lr is not None and config.lr else 1.0
    groups = [
        {"params": list(protector.generator.parameters()), "scale": 1.0},
        {"params": [protector.prior], "scale": prior_scale},
    ]
    return torch.optim.Adam(groups, lr=config.lr, betas=(0.5, 0.999))


def _take_moments(run: ProtectorRun) -> None:
    """Go on with Adam's moments of the run that `start` names, where it names a run and not a protector alone."""
    if not run.config.start:
        return
    try:
        if before := load_checkpoint(Path(run.config.start)):
            restore_moments(run.optimizer, before["optimizer"])
    except (KeyError, ValueError) as error:
        raise IDGuardError(
            f"{run.config.start} was trained by another version ({error}); start with {run.config.start}/protector"
        ) from error


def _clean_caches(
    config: ProtectorConfig,
    targets: list[Manipulator],
    faces: Faces,
    recognizers: list[Recognizer],
    inputs: dict[str, str],
    precision: str,
) -> list[CleanCache] | None:
    """One for each manipulator, in a folder that is named by all that its rows depend on."""
    if config.clean_cache is None:
        return None
    loss = loss_config(config)
    if loss.identity != "embedding":
        raise IDGuardError(f"clean_cache keeps embeddings; it needs identity 'embedding', found {loss.identity!r}")
    first = faces.batch(slice(1))
    frame = masked_faces(first, aligned=config.aligned).frame
    lengths = [recognizer(first.images, frame).shape[1] for recognizer in recognizers]
    common = (inputs["faces"], inputs["labels"], inputs["recognizers"], config.aligned, precision)
    caches = []
    for target in targets:
        edits = target.edits(first.attributes)
        features = tuple(target(first.images, edits[0]).features.shape[1:]) if loss.feature_weight else ()
        name = "-".join(map(str, (*common, digest(target.state_dict().values()), *features)))
        caches.append(
            CleanCache(
                Path(config.clean_cache, name),
                faces=len(faces),
                edits=len(edits),
                size=faces.size,
                features=features or (0, 1, 1),
                lengths=lengths,
            )
        )
    return caches


def _initial_prior(config: ProtectorConfig, faces: Faces, *, progress: bool) -> Float[Tensor, "1 3 S S"]:
    """Lines 1-9 of Algorithm 1, kept for a run that ends before its first checkpoint."""
    settings = (config.prior, config.epsilon, config.seed, config.prior_faces)
    return cached(
        Path(config.output) / "initial_prior.safetensors",
        "-".join(map(str, (*settings, faces.digest()))),
        lambda: initial_prior(
            config.prior,
            faces.pixels(slice(config.prior_faces)),
            epsilon=config.epsilon,
            seed=config.seed,
            progress=progress,
            cache=_cache(config),
        ).cpu(),
    )
