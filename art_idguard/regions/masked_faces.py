"""A batch of faces as the objectives see it: masks and recognition frame, made from what is kept per image."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.errors import IDGuardError
from art_idguard.faces.alignment import arcface_frame
from art_idguard.files.tensors import cached_rows, digest
from art_idguard.recognizers.base import Recognizer
from art_idguard.regions.component import annotation_mask, component_mask
from art_idguard.regions.face import face_mask, face_mask_from_annotation
from art_idguard.regions.heatmap import HeatMethod, heat_to_picture
from art_idguard.types import Frames, Images, Region

BAR_FROM = 8
"""Batches from which on heat maps take long enough for a progress bar."""


class MaskedFaces(NamedTuple):
    """Faces, where their identity shows, and how a recogniser looks at them (None: the whole picture)."""

    images: Images
    region: Region
    frame: Frames | None


def masked_faces(batch: FaceBatch, *, aligned: bool = True) -> MaskedFaces:
    """The masks of Eq. (5), (6) and (16) and the recognition frame of a batch that has heat maps."""
    size = (batch.images.shape[-2], batch.images.shape[-1])
    frame = arcface_frame(batch.landmarks, size) if aligned else None
    if batch.annotation is not None:
        component, face = annotation_mask(batch.annotation), face_mask_from_annotation(batch.annotation)
    else:
        component, face = component_mask(batch.landmarks, size), face_mask(batch.landmarks, size)
    if batch.heat is None:
        raise ValueError("the faces have no heat maps; make them with regions.heat_maps")
    return MaskedFaces(batch.images, Region(component, heat_to_picture(batch.heat, frame, size), face), frame)


def heat_maps(
    faces: Faces,
    recognizer: Recognizer,
    *,
    method: HeatMethod = "grad-cam",
    aligned: bool = True,
    batch_size: int = 32,
    cache: str | Path | None = None,
    verbose: bool = True,
) -> Faces:
    """The faces with a heat map each, made once on the recogniser's device and kept by picture in the file `cache`.

    A progress bar shows how far they are, where they are many, unless `verbose` is false.

    Raises:
        IDGuardError: the file is damaged, or does not have them and torchcam is not installed.
    """

    def compute(missing: list[int]) -> Tensor:
        chosen = faces.select(missing)
        try:
            from art_idguard.regions.gradcam import heat_map
        except ModuleNotFoundError as error:  # not on every training machine
            raise IDGuardError(
                f"{cache or 'no file'} lacks heat maps of these {len(chosen)} faces, and torchcam, which makes them, "
                "is not installed; install it, or make the file elsewhere with the same faces, size and recogniser"
            ) from error
        device, maps = next(recognizer.parameters()).device, []
        total = -(-len(chosen) // batch_size)
        for batch in tqdm(chosen.batches(batch_size), "heat maps", total, disable=not verbose or total < BAR_FROM):
            frame = arcface_frame(batch.landmarks.to(device), batch.images.shape[-2:]) if aligned else None
            maps.append(heat_map(batch.images.to(device), recognizer, frame, method=method))
        return torch.cat(maps)

    owner = f"{recognizer.name}-{digest(recognizer.state_dict().values())}"
    key = f"heat.{owner}.{method}.{'aligned' if aligned else 'whole'}"
    return replace(faces, heat=cached_rows(cache, key, faces.content_ids(), compute).to(faces.device))
