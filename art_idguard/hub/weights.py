"""Weights files: read safely and strictly, written whole or not at all."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

from art_idguard.errors import WeightsError
from art_idguard.files.tensors import all_finite

_NESTINGS = ("G", "gen_test", "cleaner")
"""RelGAN's, HiSD's and TinyBeauty's official checkpoints keep the generator under these."""
_DRAWS = (init.kaiming_uniform_, init.uniform_, init.normal_)
_WRAPPERS = ("_orig_mod", "module")
"""torch.compile, and DataParallel and DistributedDataParallel, put these before the names of what they wrap."""


def official_files(path: str | Path) -> tuple[Path, ...]:
    """The files of an official model: `path`, or where it is an encoder's, that and the decoder's beside it.

    The names of the two differ in that word alone; `path` may also be the folder, if it has no other encoder.
    """
    path = Path(path)
    encoders = list(path.glob("*encoder*"))
    encoder = encoders[0] if len(encoders) == 1 else path
    decoder = encoder.parent / encoder.name.replace("encoder", "decoder")
    return (encoder, decoder) if decoder != encoder and decoder.is_file() else (path,)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, as the file nests them in official repositories.

    Torch files are read with weights_only=True: a pickle that holds code is refused.

    Raises:
        WeightsError: the file is missing, truncated, no weights file, compressed, or holds anything but dense tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; give the path of a .safetensors or torch file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is damaged, or a pickle, which is refused: {error}") from error
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error}") from error
    except Exception as error:  # whose text may tell to switch the safe reading off
        raise WeightsError(
            f"{path} was refused: it is damaged, no torch file, or holds more than tensors, and such a file can run "
            "code when it is read; get it anew, or save its state_dict alone"
        ) from error
    return _flatten(content, path)


def _flatten(content: Any, path: Path) -> dict[str, Tensor]:
    for key in _NESTINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise WeightsError(
            f"{path} holds no state_dict; expected tensors by name, alone or under " + " or ".join(_NESTINGS)
        )
    for key, value in content.items():
        if unfit := _unfit(value):
            raise WeightsError(
                f"{path}: {key} is {unfit}; expected dense tensors with values: save .to_dense() or the like"
            )
    return dict(content)


def _check_archive(path: Path) -> None:
    """A file of torch.save is a zip archive that compresses nothing; another one may unpack to any size.

    Its checksums are not looked at by torch.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size:
            raise WeightsError(
                f"{path} would unpack to {unpacked:,} bytes, which no file of torch.save does; get it anew"
            )
        if damaged := archive.testzip():
            raise WeightsError(f"{path} is damaged: the checksum of {damaged} in it does not hold; get it anew")


def _unfit(tensor: Tensor) -> str:
    """What a tensor is that no parameter can be read from; empty for a dense one."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"of the kind {type(tensor).__name__}"
    kinds = {"nested": tensor.is_nested, "quantised": tensor.is_quantized, "without values (meta)": tensor.is_meta}
    kinds["sparse"] = tensor.layout != torch.strided
    return next((kind for kind, found in kinds.items() if found), "")


class BuildLimit(TorchFunctionMode):
    """Refuses to build a network of many more tensors than its weights file has.

    Args:
        state: what the file has.
        source: of the network's settings.

    Raises:
        WeightsError: in the block, as soon as that is plain.
    """

    def __init__(self, state: Mapping[str, Tensor], source: str | Path) -> None:
        super().__init__()
        self.tensors, self.source = len(state), source
        self.left = 100 + 2 * len(state)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what torch's layers allocate; all else goes on, such as the end of a block without gradients."""
        self.left -= function is torch.empty
        if self.left < 0 and function is torch.empty:
            raise WeightsError(
                f"{self.source} does not fit the weights: it asks for a network of many more than their "
                f"{self.tensors} tensors; get both anew"
            )
        return function(*args, **(kwargs or {}))


class Undrawn(TorchFunctionMode):
    """Leaves out what layers draw when they are built, most of the time of loading: the file's weights replace it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """All else goes on."""
        kwargs = kwargs or {}
        return kwargs["tensor"] if function in _DRAWS and "tensor" in kwargs else function(*args, **kwargs)


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def fitted(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """`state` under the names of `model`, whichever of the two was wrapped (compiled, parallel).

    Every name and shape must fit, but for absent num_batches_tracked.

    Raises:
        WeightsError: a name is missing, unknown or there twice, a shape differs, or whole numbers stand for real ones.
    """
    own = model.state_dict()
    names = {_unwrapped(name): name for name in own}
    given, state = state, {names.get(_unwrapped(name), name): value for name, value in state.items()}
    if len(state) < len(given):
        raise WeightsError(f"{source} has entries twice, with and without {' or '.join(_WRAPPERS)} in their names")
    absent = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in own]
    shared = own.keys() & state.keys()
    misfit = [
        f"{k}: expected {tuple(own[k].shape)}, found {tuple(state[k].shape)}"
        for k in own
        if k in shared and own[k].shape != state[k].shape
    ]
    integers = [
        f"{k}: {state[k].dtype}"
        for k in own
        if k in shared and own[k].is_floating_point() > state[k].is_floating_point()
    ]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in (
            ("missing", absent),
            ("unknown", unknown),
            ("of another shape", misfit),
            ("not of real numbers", integers),
        )
        if found
    ]
    if problems:
        raise WeightsError(
            f"{source} does not fit {type(model).__name__}: entries {'; '.join(problems)}. "
            "Check that the file belongs to this model and configuration."
        )
    return state


def load_strict(model: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load `state` into `model`.

    Raises:
        WeightsError: as `fitted` does, or a value is not finite.
    """
    model.load_state_dict(fitted(model, state, source), strict=False)  # what may be absent was checked
    for key, value in model.state_dict().items():
        if not all_finite(value):
            raise WeightsError(f"{source}: {key} has values that are not finite; get the file anew, or train again")
