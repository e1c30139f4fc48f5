"""Option files: reading YAML, typed options with their defaults, and checks before anything is created."""
