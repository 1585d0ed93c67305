"""What the README.md of a model says about it; the file may be a stranger's."""

from pathlib import Path

import yaml
from huggingface_hub import CardData, ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from art_idguard.errors import WeightsError

_LARGEST = 1024 * 1024
_LARGEST_METADATA = 64 * 1024
_MOST_BRACKETS = 1000
"""PyYAML takes minutes for some thousands of brackets inside each other."""


def read_metadata(path: Path) -> CardData:
    """The YAML at the head of a README.md, empty where there is none.

    Raises:
        WeightsError: it is damaged, or could take for ever to read.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise WeightsError(f"{path} is larger than {_LARGEST // 1024} KiB, as no model's card is")
        text = path.read_text(encoding="utf-8-sig")
        if found := REGEX_YAML_BLOCK.search(text):
            _check(found[2], path)
        return ModelCard(text, ignore_metadata_errors=True).data
    except WeightsError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise WeightsError(
            f"{path} is no model card, its metadata are damaged: {' '.join(str(error).split())}"
        ) from error


def _check(metadata: str, path: Path) -> None:
    if len(metadata) > _LARGEST_METADATA or metadata.count("[") + metadata.count("{") > _MOST_BRACKETS:
        raise WeightsError(f"{path} has far more metadata than a model's card has")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(metadata, Loader=yaml.SafeLoader)):
        raise WeightsError(
            f"{path} has metadata with YAML aliases, a few of which make gigabytes; write the values out"
        )
