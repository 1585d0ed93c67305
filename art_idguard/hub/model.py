"""Models with weights in the Hub's layout, config.json and model.safetensors: loaded strictly, saved, pushed."""

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, get_type_hints

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from art_idguard.errors import WeightsError
from art_idguard.files.atomic import alone_in, write_text
from art_idguard.files.digests import sha256
from art_idguard.files.tensors import save_atomically
from art_idguard.hub import cards
from art_idguard.hub.repository import CONFIG, STAGED, WEIGHTS, explained, finish_save, locate, parse_config
from art_idguard.hub.weights import BuildLimit, Undrawn, fitted, load_strict, read_state_dict
from art_idguard.types import float32

DOWNLOAD_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")
_LARGEST = 2**16
"""No width, depth or side of a network is larger; a config.json that says so is damaged or hostile."""


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="art-idguard", tags=["art-idguard"]):
    """A model with from_pretrained, save_pretrained and push_to_hub; `name` is its config's model_type.

    config.json has the constructor's options, model_type, the licence, and the sha256 of model.safetensors. Weights are
    read from safetensors only, strictly, and come back as float32 in eval mode; those that did not change are saved in
    the precision that they were read in.
    """

    name: ClassVar[str]
    family: ClassVar[str] = ""
    """What its card calls it, a name of `cards.KINDS`."""
    licence: Mapping[str, str] = {}
    """What the model that was loaded said, license and license_name; it is saved with it."""
    _dtypes: Mapping[str, torch.dtype] = {}
    """Of the weights as they were loaded."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **options: Any,
    ) -> Self:
        """A trained model from a folder or Hub id, in eval mode.

        The environment rules as it does elsewhere: HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME, HF_TOKEN.

        Args:
            pretrained_model_name_or_path: folder, name of what ships (see `shipped.NAMES`), or Hub id; a folder of
                that name wins.
            revision: branch, tag or commit on the Hub; by default the newest of main.
            cache_dir: where downloads are kept, by default the Hub's cache.
            force_download: download even what the cache has.
            local_files_only: do not ask the Hub, use what the cache has.
            token: of the Hub; by default that of `hf auth login`.
            options: the model's own, where they differ from its config.json.

        Raises:
            WeightsError: there is no such model, the Hub does not give it, it is of another kind, or its weights
                are damaged, are not those that config.json names, or do not fit.
        """
        call = f"{cls.__name__}.from_pretrained, which takes {', '.join(DOWNLOAD_OPTIONS)} and settings,"
        options = _checked(options, cls, call)
        download: dict[str, Any] = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
        }
        source = pretrained_model_name_or_path
        path = locate(source, CONFIG, revision=revision, **download)
        config = parse_config(path)
        if config["model_type"] != cls.name:
            raise WeightsError(f"{source} is of kind {config['model_type']!r}, not {cls.name!r}; name another model")
        # The folder that the Hub's cache has it in is named by commit: config and weights are of one.
        weights = locate(source, WEIGHTS, revision=path.parent.name, **download)
        digest = config.get("sha256")
        if digest is not None and digest != (found := sha256(weights)):
            if parse_config(path) != config:  # another process has saved meanwhile
                return cls.from_pretrained(source, revision=revision, **download, **options)
            raise WeightsError(
                f"{weights} is not what it should be: its sha256 is {found}, {path} says {str(digest)[:64]}. "
                f"Delete {weights.resolve()} and get it anew (from the Hub: force_download=True)"
            )
        given = {key: value for key, value in config.items() if key not in ("model_type", "sha256", *cards.LICENCE)}
        model = cls._load(given | options, weights, path)
        model.licence = cards.licence(path.parent, config)
        return model

    @classmethod
    def _load(cls, config: dict[str, Any], weights: Path, source: Path) -> Self:
        state = read_state_dict(weights)
        try:
            config = _checked(config, cls, source)
            with float32():
                with torch.device("meta"), BuildLimit(state, source):  # neither memory nor time, whatever is asked for
                    fitted(cls(**config), state, weights)
                with Undrawn():
                    model = cls(**config)
        except WeightsError:
            raise
        except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
            raise WeightsError(f"{source} does not describe a {cls.__name__}: {error}") from error
        load_strict(model, state, weights)
        model._dtypes = {name: tensor.dtype for name, tensor in fitted(model, state, weights).items()}
        return model.eval()

    @classmethod
    def from_checkpoint(cls, path: str | Path, **config: Any) -> Self:
        """The official repository's file, read safely and strictly; returned in eval mode.

        Raises:
            WeightsError: the file is missing, damaged, unsafe, or does not fit this model.
        """
        config = _checked(config, cls, f"{cls.__name__}.from_checkpoint")
        state, sizes = cls._read_official(Path(path))
        with float32():
            model = cls(**_checked(sizes | config, cls, path))
        load_strict(model, state, path)
        return model.eval()

    @classmethod
    def _read_official(cls, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The official file's tensors by this model's names, and the settings that they tell."""
        return read_state_dict(path), {}

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> str | None:
        """Write config.json, model.safetensors and, unless someone wrote one by hand, a card.

        A model that was in the folder loads until the new one does, whenever this is killed.

        Args:
            save_directory: folder.
            repo_id: where to push to, by default the folder's name.
            push_to_hub: push as well; returns the commit's address.
            model_card_kwargs: source, what the card says to load; by default the folder's name.
            options: of `push_to_hub`.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            self._save_pretrained(folder)
            if not cards.is_by_hand(folder):
                card = self.generate_model_card(folder, **(model_card_kwargs or {}))
                write_text(folder / cards.CARD, f"{card}\n")
        return self.push_to_hub(repo_id or folder.name, **options) if push_to_hub else None

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload config.json, model.safetensors and a card; returns the commit's address.

        Args:
            repo_id: where to; made if it is not there.
            options: private, branch, token and so on, see `PyTorchModelHubMixin.push_to_hub`.

        Raises:
            WeightsError: the Hub does not take it.
        """
        with explained(repo_id):
            return super().push_to_hub(repo_id, **options | {"model_card_kwargs": {"source": repo_id}})

    def generate_model_card(self, folder: Path, *, source: str | None = None) -> ModelCard:
        """The card of this model as saved in `folder`, see `cards.generate`."""
        return cards.generate(folder, source=source, kind=self.family)

    def _save_pretrained(self, save_directory: Path) -> None:
        finish_save(save_directory)
        staged = save_directory / STAGED
        state = {name: _narrowed(value, self._dtypes.get(name)) for name, value in self.state_dict().items()}
        save_atomically(state, staged)
        options: Any = self._hub_mixin_config or {}
        config = {"model_type": self.name, **options, **self.licence, "sha256": sha256(staged)}
        # The rename of config.json replaces the model: `weights_of` finds the weights that it names.
        write_text(save_directory / CONFIG, json.dumps(config, sort_keys=True, indent=2) + "\n")
        finish_save(save_directory)


def _narrowed(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The value in the smaller type that its file had, if that loses nothing."""
    if dtype is None or dtype.itemsize >= value.dtype.itemsize:
        return value
    narrow = value.to(dtype)
    return narrow if torch.equal(narrow.to(value.dtype), value) else value


def _checked(config: Mapping[str, Any], model: type[HubModel], source: Path | str) -> dict[str, Any]:
    """The options, each one of the model's, of its type, and no network's size beyond all reason."""
    hints = get_type_hints(model.__init__)
    known = list(inspect.signature(model.__init__).parameters)[1:]  # of the class, Python 3.11.2 says those of __new__
    if unknown := sorted(config.keys() - set(known)):
        raise WeightsError(
            f"{source} has unknown settings: {', '.join(unknown)[:200]}; {model.__name__} has {', '.join(known)}"
        )
    fields = [(key, float | int if hints[key] is float else hints[key]) for key in config]
    try:
        checked: Any = strict(make_dataclass("Config", fields))
        checked(**config)
    except StrictDataclassError as error:
        raise WeightsError(f"{source} does not fit {model.__name__}: {error}") from error
    sizes = {key: value for key, value in config.items() if key != "seed"}
    if any(abs(number) > _LARGEST for number in _numbers(sizes)):
        raise WeightsError(f"{source} asks for a network of impossible size: a number in it is beyond {_LARGEST}")
    return {key: float(value) if hints[key] is float else value for key, value in config.items()}  # JSON's 1 is 1.0


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, Mapping):
        yield from _numbers(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
