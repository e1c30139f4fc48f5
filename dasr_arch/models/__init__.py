"""Training procedures, in BasicSR's sense of a model: networks, losses and optimiser behind a few methods."""
