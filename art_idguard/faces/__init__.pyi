from .alignment import align as align
from .alignment import arcface_frame as arcface_frame
from .alignment import celeba_landmarks as celeba_landmarks
from .alignment import template_frame as template_frame
from .detection import Face as Face
from .detection import FaceDetector as FaceDetector
