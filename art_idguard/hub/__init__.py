"""Models in the Hub's layout: saved, loaded, shipped, published, and their cards."""

from art_idguard.hub.model import HubModel
from art_idguard.hub.shipped import shipped

__all__ = ["HubModel", "shipped"]
