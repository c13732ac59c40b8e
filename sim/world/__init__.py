"""Floor 1: who asks what, and what could be answered."""
