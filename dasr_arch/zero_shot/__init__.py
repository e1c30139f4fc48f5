"""Zero-shot super-resolution (ZSSR, MZSR): training pairs from one image and adaptation at test time."""
