"""Choice between the settings for each image, by its file and by the encoder: ``--model auto``.

The rule and its measurements are in docs/results/auto_model.md.
"""

import os
from collections.abc import Sequence

import numpy as np

from dasr_arch._errors import InputError
from dasr_arch.checkpoints.packaged import check_packaged, find_packaged
from dasr_arch.inference.images.image_modes import Pixels, decompose
from dasr_arch.inference.images.io import ImageFile
from dasr_arch.inference.model_pool import ModelPool
from dasr_arch.probe.model import probe_path, read_probe

_LOSSLESS_QUALITY = 95  # JPEG quality from which `iso` is as good as `photo`
_BLOCKS = 1.2  # strength of block boundaries that images without JPEG do not reach
_NOISE = 0.3  # expected noise level in grey levels
_AXES = 1.5  # difference between the axes of a kernel in HR pixels; that of neighbouring classes is 0.8
_BLOCK = 8
_STANDARD_SUM = 3685  # of the luma table of the JPEG standard, which quality 50 uses


class AutoPool(ModelPool):
    """ModelPool of the model 'auto': `photo`, `general` or `iso`, as fits each image.

    The encoder and the probe of `general` at x4 estimate noise and blur.
    """

    def check_model(self) -> None:
        """Raises InputError if `general` at x4 is not installed or has no probe."""
        self._judge = self._load('general', 4)
        self._probe = read_probe(probe_path(check_packaged(find_packaged('general', 4))), self._judge.network)

    def choose_model(self, file: ImageFile | None) -> tuple[str | os.PathLike[str], str]:
        """The best setting for an image, and the reason."""
        if file is None:
            raise InputError('the model auto is for images; name the model for videos, such as general')
        quality = estimate_quality(file.quantisation) if file.quantisation else 100
        if quality < _LOSSLESS_QUALITY:
            return 'photo', f'JPEG of quality {quality}'
        if file.format in ('WEBP', 'AVIF') and not file.lossless:
            return 'photo', f'{file.format} with losses'
        if measure_blocks(decompose(file.frames[0]).visible()) > _BLOCKS:
            return 'photo', 'has the blocks of a JPEG'
        guesses = self._probe.read(self._judge.represent([file.frames[0]]))
        noise = sum(guess.values['noise'] * guess.confidence for guess in guesses['noise'])
        if noise > _NOISE:
            return 'general', f'noise of about {max(1, round(noise))} grey levels'
        axes = guesses['kernel'][0].values
        if abs(axes.get('lambda_1', 0) - axes.get('lambda_2', 0)) > _AXES:
            return 'general', 'anisotropic blur'
        return 'iso', 'no compression, noise or anisotropic blur found'


def estimate_quality(table: Sequence[int]) -> int:
    """Quality of a JPEG from its 64 luma steps, as the IJG's library scales those of the standard.

    Below 20, where steps are limited to 255, it is too high by up to 10.
    """
    percent = 100 * sum(table) / _STANDARD_SUM
    return max(1, min(100, round(100 - percent / 2 if percent <= 100 else 5000 / percent)))


def measure_blocks(pixels: Pixels) -> float:
    """Strength of the boundaries of 8 x 8 blocks from the top left of an image (H, W, C): 1 if there are none.

    The mean second difference across the boundaries is divided by that across other lines.
    """
    luma = pixels.astype(np.float32).mean(2)
    strengths = [1.0]
    for plane in (luma, luma.T):
        if plane.shape[1] >= 2 * _BLOCK:
            steps = np.diff(plane, axis=1)
            jumps = np.abs(2 * steps[:, 1:-1] - steps[:, :-2] - steps[:, 2:]).mean(0)
            at_boundary = np.arange(2, len(jumps) + 2) % _BLOCK == 0
            strengths.append(float(jumps[at_boundary].mean() / max(jumps[~at_boundary].mean(), 1e-6)))
    return float(np.mean(strengths[1:] or strengths))
