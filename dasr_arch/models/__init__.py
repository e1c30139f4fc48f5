"""Training procedures, in BasicSR's sense of a model."""
