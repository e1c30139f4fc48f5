"""Conversion of weights, and export of networks to other runtimes."""
