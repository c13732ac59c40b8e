"""Floor 7: data sets become figures."""
