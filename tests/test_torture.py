"""A few of each corpus of generated faults; `python -m tests.torture` tries more of them."""

from random import Random

import pytest

from tests.torture.corpora import CORPORA

CASES = [(name, seed) for name, corpus in CORPORA.items() for seed in range(corpus.IN_SUITE)]


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_generated_case_ends_well(name, seed, tmp_path):
    assert CORPORA[name].attempt(Random(seed), tmp_path)
