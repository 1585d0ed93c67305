import csv

import pytest
import torch

from art_idguard.types import ATTRIBUTES


@pytest.fixture(scope="module")
def labelled(workplace):
    """The workplace with labels and a protector, as manipulators' trainings need them."""
    from art_idguard.perturbation import Protector

    with (workplace / "faces" / "train.csv").open("w", newline="") as file:
        rows = [(path.name, *(i % 2 for i in range(5))) for path in sorted((workplace / "faces").glob("*.png"))]
        csv.writer(file).writerows([("file", *ATTRIBUTES), *rows])
    torch.manual_seed(7)
    Protector(generator_config={"channels": 8, "norm": "instance"}, size=64).save_pretrained(workplace / "protector")
    return workplace
