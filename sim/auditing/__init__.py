"""Floor 8: the audit of a user's own scored samples, before anything is trained."""
