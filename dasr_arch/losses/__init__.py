"""Losses that BasicSR lacks."""
