"""Degradations of HR images to LR images, for training, testing and the command ``dasr degrade``."""

from dasr_arch._registration import DEGRADATION_REGISTRY, import_all
from dasr_arch.degradations.base import Degradation, Window, build_degradation, image_generator
from dasr_arch.degradations.whole_image import degrade_image

import_all(__name__, '_degradation')

__all__ = ['DEGRADATION_REGISTRY', 'Degradation', 'Window', 'build_degradation', 'degrade_image', 'image_generator']
