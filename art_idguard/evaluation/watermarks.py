"""What is read from watermarked faces and their forgeries, and what a watermark changes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.distortions import Operation
from art_idguard.evaluation.config import ForensicsConfig
from art_idguard.evaluation.statistics import Estimate, estimate
from art_idguard.evaluation.turns import Forgeries, forgeries
from art_idguard.forensics.payload import decode, encode, payload_length
from art_idguard.forensics.watermarker import Watermarker
from art_idguard.manipulators.base import Manipulator
from art_idguard.metrics import forgery_distance, psnr, ssim
from art_idguard.perturbation import Protector
from art_idguard.recognizers.base import Recognizer
from art_idguard.types import Images

PHOTO = "photo"
"""The column of what is read from the watermarked photo itself."""

Cell = tuple[str, str, str]
"""Row, column, measure."""

Values = Iterator[tuple[Cell, Float[Tensor, "B E"]]]
"""Of some faces and their edits."""


@dataclass(frozen=True)
class Watermarks:
    """Watermarkers by row, and those whose forgeries are read."""

    config: ForensicsConfig
    watermarkers: Mapping[str, Watermarker]
    manipulators: Mapping[str, Manipulator]
    protector: Protector | None
    recognizer: Recognizer
    operations: Mapping[str, Operation]
    """What pictures go through before they are read, by specification."""

    @torch.no_grad()
    def measure(self, faces: Faces, *, verbose: bool) -> dict[Cell, Estimate]:
        """All cells of the report."""
        size, values = self.config.batch_size, dict[Cell, list[Tensor]]()
        for start in tqdm(range(0, len(faces), size), "batches of faces", disable=not verbose):
            batch = faces.batch(slice(start, start + size))
            for cell, found in (*self._unprotected(batch, start), *self._protected(batch, start)):
                values.setdefault(cell, []).append(found.cpu())
        return {cell: estimate(torch.cat(parts), share=cell[2] == "payload") for cell, parts in values.items()}

    def _unprotected(self, batch: FaceBatch, start: int) -> Values:
        for row in self.watermarkers:
            yield from self._marked(row, row, batch.images, batch, start)

    def _protected(self, batch: FaceBatch, start: int) -> Values:
        """Of faces that are protected first; a message is to leave the protection what it is."""
        if self.protector is None:
            return
        protected = self.protector(batch.images).specific
        clean = self._forgeries(batch.images, batch, start)
        yield from self._disrupted("protected alone", clean, self._forgeries(protected, batch, start), batch)
        for name in self.watermarkers:
            row = f"{name}, protected before"
            yield from self._marked(row, name, protected, batch, start, clean=clean)

    def _marked(
        self,
        row: str,
        name: str,
        images: Images,
        batch: FaceBatch,
        start: int,
        *,
        clean: Mapping[str, Forgeries] | None = None,
    ) -> Values:
        """Faces with random messages, each read from all columns; of protected ones, how far their forgeries are."""
        watermarker = self.watermarkers[name]
        contents, message = _messages(watermarker, len(images), self.config.seed, start)
        marked = watermarker(images, message.to(images))
        yield (row, PHOTO, "ssim"), ssim(marked, images)[:, None]
        yield (row, PHOTO, "psnr"), psnr(marked, images)[:, None]
        forged = self._forgeries(marked, batch, start)
        for text, operation in self.operations.items():
            for column, pictures in {PHOTO: marked[:, None], **forged}.items():
                place = (row, column if text == "none" else f"{column}, {text}")
                yield from _read(watermarker, place, pictures, operation, message.to(images.device), contents)
        if clean:
            yield from self._disrupted(row, clean, forged, batch)

    def _forgeries(self, images: Images, batch: FaceBatch, start: int) -> dict[str, Forgeries]:
        """What each manipulator makes of faces."""
        return {
            name: forgeries(manipulator, images, batch.attributes, start, self.config.edits)
            for name, manipulator in self.manipulators.items()
        }

    def _disrupted(
        self, row: str, clean: Mapping[str, Forgeries], forged: Mapping[str, Forgeries], batch: FaceBatch
    ) -> Values:
        for name, before in clean.items():
            pairs = [
                forgery_distance(before[:, e], forged[name][:, e], batch.landmarks, self.recognizer)
                for e in range(before.shape[1])
            ]
            l2, similarity = (torch.stack(column, dim=1) for column in zip(*pairs, strict=True))
            yield (row, name, "l2_face"), l2
            yield (row, name, "similarity"), similarity


def _messages(watermarker: Watermarker, count: int, seed: int, start: int) -> tuple[list[bytes], Bool[Tensor, "B L"]]:
    """Random payloads, by seed and place of the face, and the messages that hold them."""
    length = payload_length(watermarker.bits)
    contents = [np.random.default_rng((seed, start + i)).bytes(length) for i in range(count)]
    return contents, torch.from_numpy(np.stack([encode(content, watermarker.bits) for content in contents]))


def _read(
    watermarker: Watermarker,
    place: tuple[str, str],
    pictures: Forgeries,
    operation: Operation,
    message: Bool[Tensor, "B L"],
    contents: list[bytes],
) -> Values:
    """How many bits are misread, and which payloads are read whole."""
    arriving = operation(pictures.flatten(0, 1)).clamp(-1, 1)
    read = (watermarker.read(arriving) > 0.5).unflatten(0, pictures.shape[:2])
    yield (*place, "ber"), (read != message[:, None]).float().mean(dim=2)
    payloads = [[decode(bits) for bits in row] for row in read.cpu().numpy()]
    whole = [[p is not None and p.content == c for p in row] for row, c in zip(payloads, contents, strict=True)]
    yield (*place, "payload"), torch.tensor(whole).float()
