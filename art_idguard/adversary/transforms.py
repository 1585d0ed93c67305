"""Fixed transforms, and purifiers that know nothing of the protector."""

import cv2
import numpy as np

from art_idguard import manipulators
from art_idguard.adversary.setting import AdversarySetting, Attempts
from art_idguard.distortions import After, noise, parse
from art_idguard.images import from_array, to_array
from art_idguard.types import ATTRIBUTES, Images

TRANSFORMS = ("none", "jpeg=75", "jpeg=50", "resize=0.5", "blur=1", "noise=0.05")

DENOISING = 5
"""Strength of non-local means, of 255 levels; about the bound of a protection, 0.05 on [-1, 1]."""


def transforms(setting: AdversarySetting) -> Attempts:
    """JPEG, half the size, blur and noise; and "none", the protected face as it is."""
    return {text: After(setting.manipulator, parse(text)) for text in TRANSFORMS}


def purifiers(setting: AdversarySetting) -> Attempts:
    """Non-local means (Buades et al., CVPR 2005), alone and behind noise; the tiny autoencoder, where it is at hand."""
    attempts: Attempts = {
        "denoised": After(setting.manipulator, denoise),
        "noise, denoised": After(setting.manipulator, lambda x: denoise(noise(x, sigma=0.05, seed=setting.seed))),
    }
    if setting.taef2 is not None:
        autoencoder = manipulators.load(setting.taef2).to(setting.protector.prior.device)

        def purify(x: Images) -> Images:
            (edit,) = autoencoder.edits(x.new_zeros(len(x), len(ATTRIBUTES)))
            return autoencoder(x, edit).output.clamp(-1, 1)

        attempts["taef2"] = After(setting.manipulator, purify)
    return attempts


def denoise(x: Images) -> Images:
    """Non-local means by OpenCV, on 8-bit pictures; without a gradient."""
    swapped = np.ascontiguousarray(to_array(x)[..., ::-1])  # OpenCV has BGR
    found = [cv2.fastNlMeansDenoisingColored(picture, None, DENOISING, DENOISING) for picture in swapped]
    return from_array(np.ascontiguousarray(np.stack(found)[..., ::-1])).to(x)
