"""Data sets and what they are made of: pictures, LMDB stores, preparation, download."""
