"""Pictures of pictures: a grid of faces for reports and training samples."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
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
    columns: Sequence[str] = (),
    zoom: int = 1,
) -> None:
    """Write rows of equally large pictures ([-1, 1], clipped) as one PNG or JPEG; it is whole or absent.

    Args:
        path: of the file, a JPEG where it ends in .jpg.
        rows: as many pictures in each row.
        captions: a line of text above each row.
        columns: the name of each column, broken where it is wider, above all rows.
        zoom: whole factor by which each picture is enlarged.
    """
    side = rows[0][0].shape[-1] * zoom
    head = CAPTION if captions else 0
    names = [_broken(name, side) for name in columns]
    above = CAPTION * max((name.count("\n") + 1 for name in names), default=0)
    size = (side + GAP) * len(rows[0]) - GAP, above + (side + head + GAP) * len(rows) - GAP
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for j, name in enumerate(names):
        draw.multiline_text((j * (side + GAP) + GAP, 0), name, fill="black")
    for i, row in enumerate(rows):
        top = above + i * (side + head + GAP)
        if captions:
            draw.text((GAP, top), captions[i], fill="black")
        for j, picture in enumerate(row):
            face = Image.fromarray(to_uint8(picture).permute(1, 2, 0).cpu().numpy())
            canvas.paste(face.resize((side, side), Image.Resampling.NEAREST), (j * (side + GAP), top + head))
    with replacing(path) as temporary:
        canvas.save(temporary, format="JPEG" if path.suffix == ".jpg" else "PNG")


def _broken(text: str, width: int) -> str:
    """The text in lines of about this many pixels."""
    letters = max(int(width / ImageFont.load_default().getlength("n")), 1)
    return "\n".join(textwrap.wrap(text, letters, break_on_hyphens=False))
