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
    """Every message of 12 bits, and a random 4,000 of 16, counted."""
    random = np.random.default_rng(0).random((4000, 16)) < 0.5
    for messages, near in ((product((0, 1), repeat=12), 1e-6), (random, 0.02)):
        read = [decode(np.array(message, bool)) for message in messages]
        found = [payload for payload in read if payload]
        for mended in {payload.mended for payload in found}:
            share = sum(payload.mended <= mended for payload in found) / len(read)
            (said,) = {payload.chance for payload in found if payload.mended == mended}
            assert said == pytest.approx(share, abs=near)


@pytest.mark.parametrize("bits", [30, 64])
@pytest.mark.parametrize("value", [False, True])
def test_a_reader_that_says_the_same_of_all_bits_finds_nothing(bits, value):
    assert decode(np.full(bits, value)) is None
