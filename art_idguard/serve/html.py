"""Pictures as HTML that holds them (data: addresses), so that they are never written."""

import base64
import io
from collections.abc import Iterable
from html import escape

import numpy as np
from PIL import Image

from art_idguard.files.photo import Photo, Pixels
from art_idguard.images import to_array
from art_idguard.serve.work import Protection

SHOWN_SIDE = 768  # pixels of the longer side of a picture in the HTML


def pictures(protection: Protection) -> str:
    """What was changed in a photo, and what each manipulator makes of its largest face."""
    done = protection.done
    sections = [
        _section("What was changed", [(_change(done.photo, done.written), "10 times as strong; grey: nothing")])
    ]
    if protection.crops:
        faces = [to_array(crop)[0] for crop in protection.crops]
        sections.append(_section("The face", zip(faces, _OF, strict=False)))
    for forged in protection.forged:
        asked = forged.edit.replace("_", " ").lower()
        sections.append(
            _section(f"What {forged.name} makes of it ({asked})", zip(to_array(forged.faces), _OF, strict=False))
        )
    return f"<div class='tools'>{''.join(sections)}</div>"


_OF = ("of your photo", "of the protected photo", "at full strength")


def _change(photo: Photo, protected: Photo) -> Pixels:
    """The difference x10 around grey."""
    step = -(-max(photo.pixels.shape) // SHOWN_SIDE)  # every step-th pixel as it is: averaging would hide the noise
    clean, changed = (p.pixels[::step, ::step].astype(np.int16) for p in (photo, protected))
    return np.clip(128 + 10 * (changed - clean), 0, 255).astype(np.uint8)


def _section(title: str, captioned: Iterable[tuple[Pixels, str]]) -> str:
    figures = "".join(
        f"<figure>{_img(pixels, f'{title}, {caption}')}<figcaption>{escape(caption)}</figcaption></figure>"
        for pixels, caption in captioned
    )
    return f"<section><h3>{escape(title)}</h3><div class='pictures'>{figures}</div></section>"


def _img(pixels: Pixels, description: str) -> str:
    content = io.BytesIO()
    shrunk(pixels, SHOWN_SIDE).save(content, format="PNG")
    address = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{address}">'


def shrunk(pixels: Pixels, side: int) -> Image.Image:
    """The picture, at most `side` pixels high and wide."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    return picture
