"""Importing the package first registers everything and lets BasicSR be imported by any test, in any order."""

import dasr_arch  # noqa: F401
