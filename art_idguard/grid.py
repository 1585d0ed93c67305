"""Pictures of pictures: a grid of faces for reports and training samples."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from art_idguard.files import replacing
from art_idguard.images import to_uint8

GAP = 2  # pixels between the pictures


def save_grid(path: Path, rows: Sequence[Sequence[Float[Tensor, "3 S S"]]]) -> None:
    """Write rows of equally large pictures ([-1, 1], clipped) as one PNG; it is whole or absent."""
    size = rows[0][0].shape[-1] + GAP
    canvas = torch.full((3, size * len(rows) - GAP, size * len(rows[0]) - GAP), 255, dtype=torch.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            canvas[:, i * size : (i + 1) * size - GAP, j * size : (j + 1) * size - GAP] = to_uint8(picture)
    with replacing(path) as temporary:
        Image.fromarray(canvas.permute(1, 2, 0).numpy()).save(temporary, format="PNG")
