"""Floor 4: what training did."""
