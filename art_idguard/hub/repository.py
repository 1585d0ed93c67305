"""Files of a model in a local folder or on the Hub, and the errors on the way to them."""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from huggingface_hub import constants, get_session, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from art_idguard.errors import IDGuardError, WeightsError
from art_idguard.files.digests import sha256
from art_idguard.hub.shipped import NAMES, resolve

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
STAGED = f".{WEIGHTS}"
"""The weights of a save that is about to publish them, or was killed after its config.json had replaced the old one."""
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of files that can run code when they are read."""

_NAME = re.compile(r'(W/)?"?[\w=+-]+(\.[\w=+-]+)*"?')
"""An ETag or a commit that names a file, and no path."""

LARGEST_CONFIG = 64 * 1024
_EXPECTED = (
    "expected a folder or Hub id with a config.json that has a model_type, or name=file for an official checkpoint"
)
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN to a token that may read it"


def locate(model: str | Path, filename: str, **download: Any) -> Path:
    """A file of a model: in a folder, or downloaded to the Hub's cache (once). Nothing that ships is asked of the Hub.

    Args:
        model: folder, name of what ships, or Hub id.
        filename: the file's name.
        download: revision, token and so on, as `hf_hub_download` takes them; of no meaning to a folder.

    Raises:
        WeightsError: there is no such file, it is a link that leaves the folder, or the Hub does not give it.
    """
    model = resolve(model)
    if os.path.isfile(model):
        raise WeightsError(f"{model} is a file; {_EXPECTED}")
    if os.path.isdir(model):
        return _inside(Path(model), filename)
    if _is_path(model):
        raise WeightsError(f"no folder {model} is here, and nothing of that name ships (but {', '.join(NAMES)})")
    revision = download.get("revision") or "main"
    # The cache has a file named after each revision.
    if os.path.isabs(revision) or ".." in Path(revision).parts:
        raise WeightsError(f"{revision!r} is no revision; expected a branch, a tag or a commit")
    with explained(str(model), filename, revision), _no_names_outside_the_cache():
        return Path(hf_hub_download(str(model), filename, **download))


def _is_path(model: str | Path) -> bool:
    """Whether this cannot be meant as USER/NAME of the Hub, which is not asked for it then."""
    user, _, name = os.fspath(model).partition("/")
    return (
        isinstance(model, Path)
        or not name
        or "/" in name
        or user in ("", ".", "..", "~")
        or os.path.isdir(user)
        or Path(name).suffix in (*PICKLES, ".safetensors", ".json")
    )


def weights_of(folder: Path) -> Path:
    """Where a folder's weights are: those that a killed save has left to be renamed, if config.json names them."""
    staged = folder / STAGED
    with suppress(WeightsError):
        named = staged.is_file() and (folder / CONFIG).is_file() and parse_config(folder / CONFIG).get("sha256")
        if named and named == sha256(staged):
            return staged
    return folder / WEIGHTS


def finish_save(folder: Path) -> None:
    """Do the last step of a save that was killed before it; to call in `alone_in`."""
    if (staged := weights_of(folder)) == folder / STAGED:
        staged.replace(folder / WEIGHTS)


def _inside(folder: Path, filename: str) -> Path:
    path = weights_of(folder) if filename == WEIGHTS else folder / filename
    if not path.is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
        hint = f"; {pickles[0]} is refused, a pickle can run code: convert it to safetensors first" if pickles else ""
        if within := sorted(str(path.parent) for path in folder.glob(f"*/{CONFIG}")):  # of a training run
            hint = f"; name a model in it: {', '.join(within)}"
        raise WeightsError(f"no {filename} in {folder}{hint}")
    check_link(path, folder)
    return path


def check_link(path: Path, folder: Path) -> None:
    """Refuse a file of a model folder that is a link to somewhere else.

    Raises:
        WeightsError: the file lies outside `folder`; and outside the cache, if that is a snapshot in the Hub's.
    """
    root, target = folder.resolve(), path.resolve()
    if root.parent.name == "snapshots" and root.parents[1].name.startswith("models--"):
        root = root.parents[2]
    if not target.is_relative_to(root):
        raise WeightsError(f"{path} is a link to {target}, outside of the model's folder; put the file itself there")


def read_config(model: str | Path, **download: Any) -> dict[str, Any]:
    """The config.json of a folder or Hub id; `download` as `locate` takes it.

    Raises:
        WeightsError: there is none, or it is no JSON object with a model_type.
    """
    try:
        path = locate(model, CONFIG, **download)
    except WeightsError as error:
        raise WeightsError(f"cannot tell what {model} is: {error}; {_EXPECTED}") from error
    return parse_config(path)


def parse_config(path: Path) -> dict[str, Any]:
    """The content of a config.json.

    Raises:
        WeightsError: it is no JSON object with a model_type, or larger than 64 KiB.
    """
    if path.stat().st_size > LARGEST_CONFIG:
        raise WeightsError(f"{path} is larger than {LARGEST_CONFIG // 1024} KiB, as no model's config.json is")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no JSON: {error}; {_EXPECTED}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or len(kind) > 100:
        raise WeightsError(f"{path} is no JSON object with a model_type; {_EXPECTED}")
    return config


@contextmanager
def _no_names_outside_the_cache() -> Iterator[None]:
    """The Hub's cache takes names of files and folders from the answers' headers, as they are."""
    hooks = get_session().event_hooks["response"]
    hooks.append(_check_names)
    try:
        yield
    finally:
        hooks.remove(_check_names)


def _check_names(response: Any) -> None:
    if response.request.method != "HEAD":  # that a download begins with; later answers name nothing
        return
    etag = "X-Linked-Etag" if "X-Linked-Etag" in response.headers else "ETag"
    for header in (etag, "X-Repo-Commit", "X-Xet-Hash"):
        value = response.headers.get(header, "")
        if value and not _NAME.fullmatch(value):
            raise WeightsError(
                f"{constants.ENDPOINT} answers with {header} {value!r}, which is no name for a file in the cache; "
                "check HF_ENDPOINT"
            )


@contextmanager
def explained(model: str, filename: str = "", revision: str = "main") -> Iterator[None]:
    """Say of every failure of the Hub what to do about it.

    Raises:
        WeightsError: in place of any error of the Hub or of the network.
    """
    try:
        yield
    except IDGuardError:
        raise
    except HFValidationError as error:
        raise WeightsError(f"{model} is neither a folder nor a Hub id: {error}") from error
    except Exception as error:  # of several libraries, which have no common base
        # Behind "not in the cache" and "error while uploading" stands why.
        wraps = isinstance(error, (LocalEntryNotFoundError, RuntimeError))
        cause = (error.__cause__ if wraps else None) or error
        raise WeightsError(f"{_reason(cause, model, filename, revision)} ({_first_line(cause)})") from error


def _reason(error: BaseException, model: str, filename: str, revision: str) -> str:
    place, name = constants.ENDPOINT or "an address without a name", f"{filename} of {model}" if filename else model
    if isinstance(error, GatedRepoError):
        return f"{model} is gated: accept its terms at {place}/{model} and {_LOG_IN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"no model {model} at {place}, or it is private: check the id, and {_LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return f"{model} has no revision {revision!r}: name a branch, tag or commit that {place}/{model} has"
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return (
            f"{name} at revision {revision!r} is not in the cache, and this is offline (HF_HUB_OFFLINE or "
            "local_files_only): load it once while online"
        )
    if isinstance(error, EntryNotFoundError):
        return f"{model} has no {filename} at revision {revision!r}; only safetensors are read, never a pickle"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return f"{place} refuses access to {model} ({status}): {_LOG_IN}"
        return f"{place} failed on {name} ({status}): try again later"
    proxied = getproxies().keys() - {"no"}
    proxy = ", and the proxy (ALL_PROXY, HTTPS_PROXY)" if proxied else ""
    if isinstance(error, HTTPError):
        checks = f"check the name, the network and HF_ENDPOINT{proxy}"
        return f"no folder {model} is here, and {place} is out of reach: {checks}"
    if isinstance(error, ImportError):
        return (
            f"to reach {place}{' through a proxy' * bool(proxied)} a package is missing: install it, or unset ALL_PROXY"
        )
    if isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)):
        return (
            f"cannot read or write {error.filename or constants.HF_HUB_CACHE}: downloads are kept under HF_HOME; "
            "set it to a folder that you may write and that has room"
        )
    if not isinstance(error, (OSError, RuntimeError)):
        return f"{place} cannot be asked for {name}: check HF_TOKEN, HF_ENDPOINT{proxy}"
    return f"the transfer of {name} broke off at {place}: try again"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
