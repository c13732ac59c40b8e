"""Floor 5: who would have noticed, and what users lived through."""
