"""Networks and weights in the formats of others."""
