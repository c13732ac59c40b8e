"""Floor 2: what is rewarded."""
