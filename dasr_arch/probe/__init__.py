"""Linear probes on the degradation representation, and its t-SNE map."""
