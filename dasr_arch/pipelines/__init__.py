"""Training, testing and the demo."""
