"""Inference: upscaling of images and video with a trained network."""
