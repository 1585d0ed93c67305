"""One light file a command: its options, and a lazy import of the work, which lives in its package."""
