"""People's own photos: protected, written, judged, counted."""

from art_idguard._lazy import lazy

__getattr__, __dir__ = lazy(__name__, {"protect_photo": "art_idguard.photos.protect"})
