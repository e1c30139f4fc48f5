"""What train.py and test.py call."""

from dasr_arch.pipelines.testing import test
from dasr_arch.pipelines.training import train

__all__ = ['test', 'train']
