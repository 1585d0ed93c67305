"""Pictures of pictures: a grid of faces for reports and training samples."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from art_idguard.files.atomic import replacing
from art_idguard.images import to_uint8

GAP = 2  # pixels between the pictures
CAPTION = 14  # pixels of a caption


def save_grid(
    path: Path,
    rows: Sequence[Sequence[Float[Tensor, "3 S S"]]],
    *,
    captions: Sequence[str] | None = None,
    zoom: int = 1,
) -> None:
    """Write rows of equally large pictures ([-1, 1], clipped) as one PNG or JPEG; it is whole or absent.

    Args:
        path: of the file, a JPEG where it ends in .jpg.
        rows: as many pictures in each row.
        captions: a line of text above each row.
        zoom: whole factor by which each picture is enlarged.
    """
    side = rows[0][0].shape[-1] * zoom
    head = CAPTION if captions else 0
    canvas = Image.new("RGB", ((side + GAP) * len(rows[0]) - GAP, (side + head + GAP) * len(rows) - GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate(rows):
        top = i * (side + head + GAP)
        if captions:
            draw.text((GAP, top), captions[i], fill="black")
        for j, picture in enumerate(row):
            face = Image.fromarray(to_uint8(picture).permute(1, 2, 0).cpu().numpy())
            canvas.paste(face.resize((side, side), Image.Resampling.NEAREST), (j * (side + GAP), top + head))
    with replacing(path) as temporary:
        canvas.save(temporary, format="JPEG" if path.suffix == ".jpg" else "PNG")
