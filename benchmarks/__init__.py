"""Timings, as ratios in one run."""
