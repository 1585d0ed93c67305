import csv

import pytest
import torch


@pytest.fixture(scope="module")
def labels(workplace):
    """Of the workplace's faces, in turn."""
    from art_idguard.types import ATTRIBUTES  # only now are the types of the package checked

    with (workplace / "faces" / "train.csv").open("w", newline="") as file:
        rows = [(path.name, *(i % 2 for i in range(5))) for i, path in enumerate(sorted(workplace.glob("faces/*.png")))]
        csv.writer(file).writerows([("file", *ATTRIBUTES), *rows])


@pytest.fixture(scope="module")
def learnt(workplace, labels, tmp_path_factory):
    """The folder of a watermarker that has learnt to put 16 bits into portraits and to read them from forgeries."""
    from art_idguard.training.watermark import WatermarkConfig, train_watermarker

    torch.manual_seed(0)
    config = WatermarkConfig(
        faces=str(workplace / "faces"),
        output=str(tmp_path_factory.mktemp("watermark")),
        manipulators=(str(workplace / "stargan"),),
        **{"bits": 16, "size": 64, "channels": 8, "epsilon": 0.25, "lr": 3e-3},
        **{"weighting": "uniform", "image_weight": 0.0, "adversarial_weight": 0.0, "steps": 400},
        **{"checkpoint_every": 400, "sample_every": 400, "log_every": 40},
    )
    return train_watermarker(config, verbose=False)
