"""Testing: data sets x degradations x networks, in cells that are stored one by one, and their tables."""
