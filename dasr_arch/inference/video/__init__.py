"""Video files: decoding, upscaling frame by frame, and encoding."""
