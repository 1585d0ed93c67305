"""Payloads: what goes in comes out, also where bits are misread, and chance reads nothing more often than is said."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from art_idguard.errors import IDGuardError
from art_idguard.forensics.payload import decode, encode, payload_length

LENGTHS = st.integers(12, 64)


def mendable(bits):
    """Wrong symbols that parity can mend: half of what the payload leaves of the code word."""
    return (min(bits // 4, 15) - 2 * payload_length(bits)) // 2


@given(LENGTHS, st.data())
def test_reed_solomon_mends_half_as_many_symbols_as_it_has_parity(bits, data):
    content = data.draw(st.binary(min_size=payload_length(bits), max_size=payload_length(bits)))
    message = encode(content, bits)
    assert decode(message) == (content, 0, pytest.approx(decode(message).chance))
    wrong = data.draw(st.sets(st.integers(0, min(bits // 4, 15) - 1), max_size=mendable(bits)))
    for symbol in wrong:
        flips = data.draw(st.lists(st.booleans(), min_size=4, max_size=4).filter(any))
        message[4 * symbol : 4 * symbol + 4] ^= np.array(flips)
    found = decode(message)
    assert (found.content, found.mended) == (content, len(wrong))


@pytest.mark.parametrize(("bits", "length"), [(12, 1), (30, 2), (60, 5), (64, 5)])
def test_two_thirds_of_the_symbols_are_payload(bits, length):
    assert payload_length(bits) == length
    for wrong in (b"", bytes(length + 1)):
        with pytest.raises(IDGuardError, match=rf"has {len(wrong)} bytes; a message of {bits} bits holds {length}"):
            encode(wrong, bits)


def test_chance_is_the_share_of_all_messages_that_read_as_some_payload():
    """Every message of 12 and of 16 bits, counted."""
    for bits in (12, 16):
        read = [decode(np.array(message, bool)) for message in product((0, 1), repeat=bits)]
        found = [payload for payload in read if payload]
        for mended in {payload.mended for payload in found}:
            share = sum(payload.mended <= mended for payload in found) / len(read)
            (said,) = {payload.chance for payload in found if payload.mended == mended}
            assert said == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("bits", [30, 64])
@pytest.mark.parametrize("value", [False, True])
def test_a_reader_that_says_the_same_of_all_bits_finds_nothing(bits, value):
    assert decode(np.full(bits, value)) is None
