"""What the page `experiments/play.py` shows: sliders to settings, settings to numbers, numbers to pictures.

The page lays out; all that it says is made here, by the same core as every command.
"""
