"""Trains what an option file describes, as `dasr train` does: python train.py -opt options/train_dasr_x4.yml."""

import sys

from dasr_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
