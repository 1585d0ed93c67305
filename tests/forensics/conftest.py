import csv

import pytest
import torch


@pytest.fixture(scope="module")
def learnt(workplace, tmp_path_factory):
    """The folder of a watermarker that has learnt to put 16 bits into portraits and read them there, and of its run."""
    from art_idguard.training.watermark import WatermarkConfig, train_watermarker
    from art_idguard.types import ATTRIBUTES

    with (workplace / "faces" / "train.csv").open("w", newline="") as file:
        rows = [(path.name, *(i % 2 for i in range(5))) for i, path in enumerate(sorted(workplace.glob("faces/*.png")))]
        csv.writer(file).writerows([("file", *ATTRIBUTES), *rows])
    torch.manual_seed(0)
    config = WatermarkConfig(
        faces=str(workplace / "faces"),
        output=str(tmp_path_factory.mktemp("watermark")),
        manipulators=(str(workplace / "stargan"),),
        **{"bits": 16, "size": 64, "channels": 8, "epsilon": 0.5, "lr": 3e-3},
        **{"alone": 180, "steps": 180, "checkpoint_every": 180, "sample_every": 180, "log_every": 60},
    )
    return train_watermarker(config, verbose=False)
