"""The settings of `art-idguard serve`; imports nothing heavy, so that the command line can list them."""

from dataclasses import dataclass
from types import MappingProxyType

from art_idguard.files.recipe import Settings


@dataclass(frozen=True, kw_only=True)
class ServeConfig(Settings):
    """The page: where it listens, and its models."""

    at_most = MappingProxyType({"port": 65_535})

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other computers in, under any name."""
    port: int = 7860
    """To listen on, 1 to 65535."""
    model: str | None = None
    """Protector: folder or Hub id; default: the one that ships."""
    manipulators: tuple[str, ...] | None = None
    """Folders or Hub ids, or name=file for official checkpoints; default: those that ship."""
