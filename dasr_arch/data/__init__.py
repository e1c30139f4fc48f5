"""Datasets: image files, LMDB stores, patches, sampling, preparation and download."""
