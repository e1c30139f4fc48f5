"""Networks, one a file; importing the package registers those in files that end in ``_arch``."""
