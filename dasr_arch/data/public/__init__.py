"""Public datasets: where they are, download and extraction."""
