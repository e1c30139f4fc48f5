"""Upscaling on the machines of a Ray cluster."""
