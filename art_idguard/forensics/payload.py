"""A few bytes as a message: Reed-Solomon over symbols of four bits (reedsolo), which mends some misread bits."""

from math import comb
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool

from art_idguard.errors import IDGuardError

if TYPE_CHECKING:
    from reedsolo import RSCodec

SYMBOL, LONGEST = 4, 15
"""Bits of a symbol; symbols of a code word over the 16 values that it has."""

SCRAMBLED = np.unpackbits(np.frombuffer(b"ID-Guard", np.uint8)).astype(bool)
"""Bits that are turned over, so that a message of zeros or ones alone, as a bad reader may read it, is no payload."""

Bits = Bool[np.ndarray, " L"]


class Payload(NamedTuple):
    """What was read from a message.

    `mended` symbols had a wrong bit. `chance`: share of random messages that read as some payload with so few.
    """

    content: bytes
    mended: int
    chance: float


def payload_length(bits: int) -> int:
    """Bytes that a message of so many bits holds: two thirds of its symbols, the others are parity.

    >>> payload_length(30), payload_length(64)
    (2, 5)
    """
    return _symbols(bits) // 3


def encode(content: bytes, bits: int) -> Bits:
    """The message of a payload; bits beyond its code word say nothing.

    Examples:
        >>> message = encode(b"me", 30)
        >>> message[5] = not message[5]
        >>> decode(message)
        Payload(content=b'me', mended=1, chance=0.025879)

    Raises:
        IDGuardError: the payload has another length than `payload_length`.
    """
    if len(content) != (length := payload_length(bits)):
        raise IDGuardError(
            f"the payload has {len(content)} bytes; a message of {bits} bits holds {length}, which are "
            f"{2 * length} hexadecimal digits"
        )
    word = np.frombuffer(bytes(_codec(bits).encode(_nibbles(content))), np.uint8)
    message = np.zeros(bits, bool)
    message[: SYMBOL * len(word)] = np.unpackbits(word[:, None], axis=1)[:, -SYMBOL:].ravel()
    return message ^ SCRAMBLED[:bits]


def decode(message: Bits) -> Payload | None:
    """The payload of a message as it was read; None where more bits are wrong than the code can mend."""
    from reedsolo import ReedSolomonError

    bits = len(message)
    symbols = (message ^ SCRAMBLED[:bits])[: SYMBOL * _symbols(bits)].reshape(-1, SYMBOL)
    word = bytearray(np.packbits(symbols, axis=1).ravel() >> SYMBOL)
    try:
        content, _, wrong = _codec(bits).decode(word)
    except ReedSolomonError:
        return None
    high, low = np.frombuffer(bytes(content), np.uint8).reshape(-1, 2).T
    return Payload(bytes(high << SYMBOL | low), len(wrong), round(_chance(bits, len(wrong)), 6))


def _symbols(bits: int) -> int:
    return min(bits // SYMBOL, LONGEST)


def _codec(bits: int) -> "RSCodec":
    from reedsolo import RSCodec  # not on every training machine

    symbols = _symbols(bits)
    return RSCodec(symbols - 2 * payload_length(bits), nsize=LONGEST, c_exp=SYMBOL)


def _nibbles(content: bytes) -> bytearray:
    return bytearray(nibble for byte in content for nibble in (byte >> SYMBOL, byte & 15))


def _chance(bits: int, mended: int) -> float:
    """Share of all words that lie within so many wrong symbols of a code word; their spheres do not touch."""
    symbols = _symbols(bits)
    sphere = sum(comb(symbols, i) * 15**i for i in range(mended + 1))
    return sphere / 16 ** (symbols - 2 * payload_length(bits))
