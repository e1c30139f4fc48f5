"""Version of the package: the only place where it is written; setup.py and `dasr --version` read it as text."""

__version__ = '0.2.0'
