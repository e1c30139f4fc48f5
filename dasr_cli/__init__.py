"""The `dasr` command: argument parsing and printing only; everything else is in dasr_arch, imported inside handlers."""
