"""Which files may be published: those of a few kinds, which they have to be, and no pickle under any name."""

import pickle
import zipfile
from pathlib import Path
from typing import Any, Self

from safetensors import safe_open

from art_idguard.errors import WeightsError
from art_idguard.files.formats import SUFFIXES, open_picture
from art_idguard.files.parsing import read_json, read_toml
from art_idguard.hub.repository import PICKLES


def require_publishable(path: Path) -> None:
    """Refuse what is not safetensors, text (JSON, TOML, CSV, Markdown), a picture or ONNX.

    Raises:
        WeightsError: it is damaged, of another kind, or a pickle, which can run code, under whatever name.
    """
    if path.suffix.lower() in PICKLES or zipfile.is_zipfile(path) or _is_pickle(path):
        raise WeightsError(
            f"{path} is not pushed: a pickle can run code, and an archive may hold one; convert it to safetensors, or "
            "remove it"
        )
    try:
        _read(path)
    except Exception as error:  # Pillow's are of many kinds
        raise WeightsError(
            f"{path} is not pushed: it is damaged, or no safetensors, text, picture or ONNX file ({error}); remove it"
        ) from error


def _read(path: Path) -> None:
    """As what its name says; a file of another name is text."""
    match suffix := path.suffix.lower():
        case ".safetensors":
            with safe_open(path, "pt"):
                pass
        case ".json":
            read_json(path)
        case ".toml":
            read_toml(path)
        case ".onnx":
            if path.read_bytes()[:1] != b"\x08":  # the field that an ONNX file begins with
                raise ValueError("not the beginning of an ONNX file")
        case _ if suffix in SUFFIXES:
            with path.open("rb") as file, open_picture(file, path) as picture:
                picture.verify()
        case _:
            if b"\0" in path.read_bytes():
                raise ValueError("not text")
            path.read_text(encoding="utf-8")


class _CalledError(Exception):
    """A pickle has called something."""


class _Something:
    """Stands for whatever a pickle may call."""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        raise _CalledError


class _Unpickler(pickle._Unpickler):
    """Imports and calls nothing; Python's own, which takes no more memory than the file."""

    def find_class(self, module: str, name: str) -> Any:
        return type("Something", (_Something,), {})  # a new one each time, since a pickle may also set attributes

    def persistent_load(self, pid: Any) -> None:
        """As torch's pickles need."""


def _is_pickle(path: Path) -> bool:
    """Whether unpickling would run code, or come to a good end."""
    with path.open("rb") as file:
        try:
            _Unpickler(file).load()
        except _CalledError:
            return True
        except Exception:  # whatever the bytes of a text or a picture lead to
            return False
    return True
