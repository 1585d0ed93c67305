"""Data sets of faces: CelebAMask-HQ, CelebA, LFW, FFHQ, any folder or tar of pictures."""

from art_idguard.data.faces import FaceBatch, Faces
from art_idguard.data.reading import read_faces

__all__ = ["FaceBatch", "Faces", "read_faces"]
