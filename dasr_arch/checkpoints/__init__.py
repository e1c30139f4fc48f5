"""Weights files: reading and writing them, key maps of released checkpoints, and the packaged weights."""
