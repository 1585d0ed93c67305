"""Faces in pictures: detection, landmarks and alignment."""

from art_idguard.faces.alignment import align, arcface_frame, celeba_landmarks, template_frame
from art_idguard.faces.detection import Face, FaceDetector

__all__ = ["Face", "FaceDetector", "align", "arcface_frame", "celeba_landmarks", "template_frame"]
