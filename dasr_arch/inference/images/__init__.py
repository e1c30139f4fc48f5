"""Image files: decoding, encoding, metadata, colour modes and transparency."""
