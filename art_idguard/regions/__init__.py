"""Where identity shows in a face: component mask, face mask and heat map, alone or as a scene."""

from art_idguard.regions.component import annotation_mask, component_mask, landmark_mask
from art_idguard.regions.face import face_mask, face_mask_from_annotation, face_mask_from_landmarks
from art_idguard.regions.heatmap import HeatMethod, heat_map, heat_to_picture
from art_idguard.regions.scene import Scene, heat_maps, scene

__all__ = [
    "HeatMethod",
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
    "scene",
]
