"""Conversion and packaging of weights, and export of networks to other runtimes."""
