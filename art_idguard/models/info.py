"""`art-idguard info`: what a model is, and what this installation has."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData

from art_idguard.errors import WeightsError
from art_idguard.hub.card_metadata import read_metadata
from art_idguard.hub.repository import CONFIG, locate, parse_config
from art_idguard.hub.shipped import NAMES, resolve, shipped
from art_idguard.images import epsilon_to_unit
from art_idguard.manipulators import MANIPULATORS, published
from art_idguard.manipulators.base import Manipulator, Published
from art_idguard.models.loading import load
from art_idguard.perturbation import Protector
from art_idguard.types import ATTRIBUTES


def describe(model: str | None, *, revision: str | None) -> dict[str, Any]:
    """Facts about a model (folder, Hub id at a revision, or name of a manipulator that others publish), or about this
    installation.

    Raises:
        IDGuardError: there is no such model, or its weights do not fit.
    """
    if model is None:
        return _installation()
    member = published(model)
    if member is not None and member.published is not None:
        return _published(member, member.published)
    return _model(model, revision)


def _published(member: type[Manipulator], place: Published) -> dict[str, Any]:
    """Of a manipulator whose weights are its authors'."""
    edits = member().edits(torch.zeros(1, len(ATTRIBUTES)))
    first, *others = (Path(file).name for file in place.files)
    return {
        "model": member.name,
        "kind": "a manipulator whose weights its authors publish: get them there",
        "source": place.source,
        "file": ", ".join(place.files),
        "sha256": ", ".join(place.files.values()),
        "terms": place.terms,
        "edits": ", ".join(edit.name for edit in edits),
        "use": f"--manipulators {member.name}=path/to/{first}{''.join(f', with {file} beside it' for file in others)}",
    }


def _model(model: str, revision: str | None) -> dict[str, Any]:
    path = locate(model, CONFIG, revision=revision)
    config = parse_config(path)
    remote = not Path(resolve(model)).is_dir()
    commit = path.parent.name if remote else None  # the cache's folder; config, weights and card are of one commit
    network = load(model, revision=commit)
    facts = {"model": model, "kind": config["model_type"]}
    if remote:
        facts |= {"revision": revision or "main", "commit": commit}
    facts["config"] = json.dumps({k: v for k, v in config.items() if k != "sha256"})
    facts["parameters"] = f"{sum(p.numel() for p in network.parameters()):,}"
    if isinstance(network, Protector):
        facts["epsilon"] = f"{network.epsilon} on [-1, 1], {epsilon_to_unit(network.epsilon)} on [0, 1]"
    digest = config.get("sha256")  # from_pretrained has compared them, if there is one
    facts["sha256"] = "none in config.json, not verified" if digest is None else f"{digest} (verified)"
    return facts | _card(model, commit)


def _card(model: str, revision: str | None) -> dict[str, Any]:
    """What the model's card says, if it has one."""
    try:
        path = locate(model, "README.md", revision=revision)
    except WeightsError:
        return {}
    data = read_metadata(path)
    facts = {"license": data.get("license_name") or data.get("license") or "not stated"}
    results = data.eval_results if isinstance(data, ModelCardData) else None
    for result in results or []:
        place = f"{result.dataset_name}, {result.dataset_split}" if result.dataset_split else result.dataset_name
        facts[f"{place}: {result.metric_name or result.metric_type}"] = str(result.metric_value)
    return facts


def _installation() -> dict[str, Any]:
    return {
        "art-idguard": version("art-idguard"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "published elsewhere": ", ".join(name for name, member in MANIPULATORS.items() if member.published),
        "shipped": ", ".join(f"{name} ({path})" for name, path in NAMES.items() if shipped(path).is_dir()),
    }
