"""Data sets and what they are made of: images, LMDB stores, preparation, download."""
