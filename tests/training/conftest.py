import csv

import pytest
import torch


@pytest.fixture(scope="module")
def labelled(workplace):
    """The workplace with labels, a protector and a watermarker, as trainings other than a protector's need them."""
    from art_idguard.forensics import Watermarker
    from art_idguard.perturbation import Protector  # only now are the types of the package checked
    from art_idguard.types import ATTRIBUTES

    with (workplace / "faces" / "train.csv").open("w", newline="") as file:
        rows = [(path.name, *(i % 2 for i in range(5))) for path in sorted((workplace / "faces").glob("*.png"))]
        csv.writer(file).writerows([("file", *ATTRIBUTES), *rows])
    torch.manual_seed(7)
    Protector(generator_config={"channels": 8, "norm": "instance"}, size=64).save_pretrained(workplace / "protector")
    Watermarker(bits=12, size=32, channels=4).save_pretrained(workplace / "watermarker")
    return workplace


@pytest.fixture(params=("train", "distill", "train-manipulator", "harden", "harden by distillation", "watermark train"))
def training(request, labelled):
    """Settings of one training for an output folder, and the training, which is quiet."""
    from tests.training.trainings import TRAININGS

    settings, train = TRAININGS[request.param]

    def quiet(config, **options):
        return train(config, verbose=False, **options)

    return lambda output, **changes: settings(labelled, output, **changes), quiet
