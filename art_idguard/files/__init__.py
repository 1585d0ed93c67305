"""Files: written whole or not at all, kept tensors, journals, digests, photos and grids of pictures."""
