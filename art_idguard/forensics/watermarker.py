"""The Watermarker: message encoder E_m and decoder D_m of section IV-E2.

Notation (name here -> the paper's symbol):
    encoder -> E_m        decoder -> D_m        bits -> L
"""

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from art_idguard.errors import IDGuardError
from art_idguard.forensics.networks import CELL, Decoder, Encoder
from art_idguard.forensics.payload import Payload, decode, encode
from art_idguard.hub.model import HubModel
from art_idguard.images import require_signed, resize
from art_idguard.types import Images, float32

SHORTEST, LONGEST = 12, 64
"""Bits of a message."""


class Watermarker(HubModel):
    """Puts a message into faces that can be read from them, and from what manipulators make of them.

    Deviates: the paper bounds nothing; here the change of a pixel is at most epsilon, as the protection's.

    Examples:
        >>> watermarker = Watermarker(bits=30, size=64, channels=8).eval()
        >>> faces = torch.zeros(1, 3, 64, 64)  # grey, on [-1, 1]
        >>> message = torch.from_numpy(encode(b"me", 30))[None]
        >>> with torch.inference_mode():
        ...     marked = watermarker(faces, message.float())
        ...     scores = watermarker.read(marked)
        >>> bool((marked - faces).abs().max() <= watermarker.epsilon + 1e-6), scores.shape
        (True, torch.Size([1, 30]))

    Args:
        bits: length of a message, 12 to 64; the paper's baselines have 30.
        epsilon: L-inf bound of the change, on the [-1, 1] scale.
        size: side in pixels of the faces that it is trained on, a multiple of 8; others are resized.
        channels: width of the networks' first layers, a multiple of 4.

    Raises:
        IDGuardError: one of them is out of range.
    """

    name: ClassVar[str] = "watermarker"
    family = "watermarker"

    def __init__(self, *, bits: int = 30, epsilon: float = 0.05, size: int = 128, channels: int = 32) -> None:
        super().__init__()
        if not SHORTEST <= bits <= LONGEST:
            raise IDGuardError(f"bits is {bits}; expected {SHORTEST} to {LONGEST}")
        if not 0 < epsilon <= 2:
            raise IDGuardError(f"epsilon is on the [-1, 1] scale, in (0, 2]; found {epsilon}")
        if size < CELL or size % CELL or channels % 4:
            raise IDGuardError(f"size is {size} and channels {channels}; expected multiples of {CELL} and of 4")
        self.bits, self.epsilon, self.size = bits, epsilon, size
        self.encoder = Encoder(bits=bits, size=size, channels=channels)
        self.decoder = Decoder(bits=bits, size=size, channels=channels)

    def forward(self, x: Images, message: Float[Tensor, "B L"]) -> Images:
        """E_m(x, m): the faces with a message each, 0 or 1, clamped to [-1, 1].

        Raises:
            IDGuardError: x is no float (B, 3, H, W) within [-1, 1]; not looked for in training.
        """
        if not self.training:
            require_signed(x)
        residual = self.encoder(resize(x, (self.size, self.size)), message).to(x.dtype)
        return (x + self.epsilon * resize(residual, (x.shape[-2], x.shape[-1]))).clamp(-1, 1)

    def read(self, x: Images) -> Float[Tensor, "B L"]:
        """D_m(x): a score for each bit, above 0.5 for 1.

        Raises:
            IDGuardError: as `forward` does.
        """
        if not self.training:
            require_signed(x)
        return self.decoder(resize(x, (self.size, self.size))).float()

    def marker(self, content: bytes) -> "Marker":
        """What puts one payload into faces, wherever a protector is asked for; see `payload.encode`.

        Raises:
            IDGuardError: the payload has another length than the messages hold.
        """
        return Marker(self, encode(content, self.bits))

    @torch.inference_mode()
    @float32()
    def payloads(self, faces: Float32[np.ndarray, "B 3 H W"]) -> list[Payload | None]:
        """What is read from each picture of a face, on the [-1, 1] scale; None where nothing is."""
        return [decode(row > 0.5) for row in self.read(torch.from_numpy(faces)).numpy()]


class Marker:
    """A message of its own in faces: protects photos as a `Protector` does (`photos.protect.FaceProtector`)."""

    def __init__(self, watermarker: Watermarker, message: Bool[np.ndarray, " L"]) -> None:
        self.watermarker, self.message = watermarker, torch.from_numpy(message).float()
        self.epsilon, self.side = watermarker.epsilon, watermarker.size

    @torch.inference_mode()
    @float32()
    def protect(self, faces: Float32[np.ndarray, "B 3 H W"]) -> Float32[np.ndarray, "B 3 H W"]:
        """The faces, on the [-1, 1] scale, with the message."""
        x = torch.from_numpy(faces)
        return self.watermarker(x, self.message.expand(len(x), -1)).numpy()
