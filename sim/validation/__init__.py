"""Floor 8: what is known independently of this code, as functions of the problem."""
