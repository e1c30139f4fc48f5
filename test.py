"""Tests networks on data sets and degradations: `python test.py -opt options/test_dasr.yml`."""

import sys

from dasr_arch.pipelines import test

if __name__ == '__main__':
    sys.exit(test())
