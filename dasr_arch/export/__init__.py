"""Export of networks and weights to other formats."""
