"""Subcommands of `dasr`, one a file: `add_arguments` declares the arguments, `run` carries the command out."""
