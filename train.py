"""Trains what an option file describes: python train.py -opt options/train_dasr_x4.yml."""

import sys

from dasr_arch.pipelines import train

if __name__ == '__main__':
    sys.exit(train())
