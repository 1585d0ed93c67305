"""Files: written whole or not at all, their names, kept tensors, journals, digests, photos and grids of pictures."""
