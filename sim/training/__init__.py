"""Floor 3: how policies learn; the only folder that imports torch."""
