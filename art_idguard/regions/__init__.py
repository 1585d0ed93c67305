"""Where identity shows in a face: component mask, face mask and heat map, alone or together."""

from typing import Any

from art_idguard.regions.component import annotation_mask, component_mask, landmark_mask
from art_idguard.regions.face import face_mask, face_mask_from_annotation, face_mask_from_landmarks
from art_idguard.regions.heatmap import HeatMethod, heat_to_picture
from art_idguard.regions.masked_faces import MaskedFaces, heat_maps, masked_faces

Scene, scene = MaskedFaces, masked_faces  # their former names

__all__ = [
    "HeatMethod",
    "MaskedFaces",
    "Scene",
    "annotation_mask",
    "component_mask",
    "face_mask",
    "face_mask_from_annotation",
    "face_mask_from_landmarks",
    "heat_map",
    "heat_maps",
    "heat_to_picture",
    "landmark_mask",
    "masked_faces",
    "scene",
]


def __getattr__(name: str) -> Any:
    """`heat_map` only when it is used: it imports torchcam."""
    if name != "heat_map":
        raise AttributeError(f"module 'art_idguard.regions' has no attribute {name!r}")
    from art_idguard.regions.gradcam import heat_map

    return heat_map
