"""What ID-Guard is measured against, one file a method: functions from faces to protected faces."""

from art_idguard.baselines.base import Attack, Protection
from art_idguard.baselines.cmua import cmua
from art_idguard.baselines.disrupting import disrupting, white_box
from art_idguard.baselines.idguard import id_guard, p_pert, refined
from art_idguard.baselines.noise import brightness, sign_noise, uniform_noise

__all__ = [
    "Attack",
    "Protection",
    "brightness",
    "cmua",
    "disrupting",
    "id_guard",
    "p_pert",
    "refined",
    "sign_noise",
    "uniform_noise",
    "white_box",
]
