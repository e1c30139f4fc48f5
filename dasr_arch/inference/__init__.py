"""Upscaling pictures with a trained network."""
