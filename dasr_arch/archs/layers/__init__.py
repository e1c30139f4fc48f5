"""Layers that several networks share; nothing in here is registered."""
