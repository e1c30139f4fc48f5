"""Tests networks on data sets and degradations, as `dasr test` does: `python test.py -opt options/test_dasr.yml`."""

import sys

from dasr_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))
