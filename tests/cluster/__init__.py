"""Tests of upscaling on a cluster."""
