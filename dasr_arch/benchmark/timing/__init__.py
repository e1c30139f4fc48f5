"""Timing and memory benchmarks of inference and training."""
