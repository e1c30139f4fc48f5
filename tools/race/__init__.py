"""Trainings that get the same minutes, their tests and the report: the package behind tools/race.py (docs/race.md)."""

import dasr_arch  # noqa: F401  (before BasicSR, which cannot be imported beside current torchvision without it)
