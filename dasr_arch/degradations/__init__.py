"""Degradations: what turns HR pictures into LR pictures, for training, testing and the command ``dasr degrade``."""

from dasr_arch._registration import import_all
from dasr_arch.degradations.base import Degradation, Window, build_degradation, picture_generator
from dasr_arch.degradations.degrade_image import degrade_picture

import_all(__name__, '_degradation')

__all__ = ['Degradation', 'Window', 'build_degradation', 'degrade_picture', 'picture_generator']
