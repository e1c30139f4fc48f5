"""Subcommands of `dasr`, one a file: `add_parser` declares the arguments, `run` carries the command out."""
