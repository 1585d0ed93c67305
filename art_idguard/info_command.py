"""`art-idguard info`: what a model is, and what this installation has."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from art_idguard.errors import IDGuardError
from art_idguard.hub import WEIGHTS, HubModel, read_config, shipped
from art_idguard.manipulators import MANIPULATORS
from art_idguard.perturbation import Protector
from art_idguard.recognizers import RECOGNIZERS

MODELS: dict[str, type[HubModel]] = {Protector.name: Protector, **MANIPULATORS, **RECOGNIZERS}


def describe(model: str | None) -> dict[str, Any]:
    """Facts about a model (folder or Hub id), or about this installation.

    Raises:
        IDGuardError: there is no such model, or its weights do not fit.
    """
    return _installation() if model is None else _model(model)


def _model(model: str) -> dict[str, Any]:
    config = read_config(model)
    if config["model_type"] not in MODELS:
        raise IDGuardError(f"unknown model_type {config['model_type']!r}; known: {', '.join(MODELS)}")
    network = MODELS[config["model_type"]].from_pretrained(model)
    local = Path(model) / WEIGHTS
    weights = local if local.is_file() else Path(hf_hub_download(model, WEIGHTS))
    facts = {
        "model": model,
        "config": json.dumps(config),
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    if license_ := _license(model):
        facts["license"] = license_
    if isinstance(network, Protector):
        facts["epsilon"] = f"{network.epsilon} on [-1, 1], {network.epsilon / 2} on [0, 1]"
    return facts


def _license(model: str) -> str | None:
    """What the model's card says."""
    local = Path(model) / "README.md"
    try:
        data = ModelCard.load(local if local.is_file() else model).data
    except (OSError, EntryNotFoundError):  # no card
        return None
    return data.get("license_name") or data.get("license")


def _installation() -> dict[str, Any]:
    folders = sorted(path.parent for path in shipped("").glob("*/*/config.json"))
    return {
        "art-idguard": version("art-idguard"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "shipped": ", ".join(str(folder.relative_to(shipped(""))) for folder in folders),
    }
