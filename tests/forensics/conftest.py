import csv

import pytest
import torch


@pytest.fixture(scope="module")
def labels(workplace):
    """Of the workplace's faces, in turn."""
    label(workplace / "faces")


def label(folder):
    from art_idguard.types import ATTRIBUTES  # only now are the types of the package checked

    with (folder / "train.csv").open("w", newline="") as file:
        rows = [(path.name, *(i % 2 for i in range(5))) for i, path in enumerate(sorted(folder.glob("*.png")))]
        csv.writer(file).writerows([("file", *ATTRIBUTES), *rows])


@pytest.fixture(scope="module")
def framed(tmp_path_factory):
    """A folder of portraits as the face of a photo is framed, so that it is as those that are learnt from."""
    from tests.toys import write_portraits

    folder = write_portraits(tmp_path_factory.mktemp("framed"), 10, centre=(224, 98), sides=(187, 211))
    label(folder)
    return folder


@pytest.fixture(scope="module")
def learnt(workplace, framed, tmp_path_factory):
    """The folder of a watermarker that has learnt to put 16 bits into portraits and to read them from forgeries.

    A crop of a photo is resampled twice, which without the two operations leaves bits at the edge of being misread.
    """
    from art_idguard.training.watermark import WatermarkConfig, train_watermarker

    torch.manual_seed(0)
    config = WatermarkConfig(
        faces=str(framed),
        output=str(tmp_path_factory.mktemp("watermark")),
        manipulators=(str(workplace / "stargan"),),
        augment=("none", "resize", "blur"),
        **{"bits": 16, "size": 64, "channels": 8, "epsilon": 0.25, "lr": 3e-3},
        **{"weighting": "uniform", "image_weight": 0.0, "adversarial_weight": 0.0, "steps": 400},
        **{"checkpoint_every": 400, "sample_every": 400, "log_every": 40},
    )
    return train_watermarker(config, verbose=False)
