"""Training and testing, called by train.py and test.py."""

from dasr_arch.pipelines.testing import test
from dasr_arch.pipelines.training import train

__all__ = ['test', 'train']
