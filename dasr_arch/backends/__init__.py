"""Ways to compute a network faster, or in another number format, on one kind of hardware."""
