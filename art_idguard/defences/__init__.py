"""ART defences: images protected before a model sees them, manipulators that withstand attacks."""
