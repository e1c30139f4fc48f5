"""Representations of video frames: a moving average within each shot, restarted at a cut."""

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch.inference.images.image_modes import Pixels
from dasr_arch.inference.upscaler import AdaptationOptions, Upscaler

SMOOTHING_SECONDS = 1.0
"""Time constant of the moving average of the representation."""

CUT_LEAST = 0.06
"""Least mean difference between two frames, in [0, 1], at a cut."""

CUT_FACTOR = 3.0
"""Least ratio between the difference at a cut and the average difference between frames of the shot."""

_THUMBNAIL = (32, 18)  # width and height; insensitive to small movements
_DECAY = 0.8  # of the shot's average difference


class CutDetector:
    """Finds the first frame of each shot from thumbnails.

    The difference between two frames is the mean absolute difference of their colours, averaged over 32 x 18 blocks.
    A frame begins a shot if its difference from the previous frame is at least CUT_LEAST and at least CUT_FACTOR times
    the running average of the differences within the shot, so that fast movement is no cut. Fades are no cuts. A flash
    may be taken for a cut, which only restarts the average. A shot has at least two frames.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._average: float | None = None

    def is_new_shot(self, pixels: Pixels) -> bool:
        """True if a frame begins a shot; the first frame does.

        Frames are RGB of shape (H, W, 3), float32 in [0, 1], in display order.
        """
        thumbnail = cv2.resize(pixels, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, thumbnail
        if last is None:
            return True
        difference = float(np.abs(thumbnail - last).mean())
        if self._average is None:  # second frame of the shot
            self._average = difference
            return False
        if difference >= max(CUT_LEAST, CUT_FACTOR * self._average):
            self._average = None
            return True
        self._average = _DECAY * self._average + (1 - _DECAY) * difference
        return False


class ShotRepresentation:
    """Representation with which each frame of a video is upscaled.

    Within a shot it is a moving average over the representations of the frames so far: first their mean, then an
    exponential average with the time constant SMOOTHING_SECONDS at any frame rate. A cut restarts it. The clean
    representation, towards which ``strength`` interpolates, is estimated from the first frame of each shot. A reference
    replaces the frames.
    """

    def __init__(self, upscaler: Upscaler, adaptation: AdaptationOptions | None = None) -> None:
        self._upscaler = upscaler
        self._adaptation = adaptation or AdaptationOptions()
        self._own = AdaptationOptions(ensemble=self._adaptation.ensemble)
        self._cuts = CutDetector()
        self._average: Tensor | None = None
        self._clean: Tensor | None = None
        self._count = 0
        self._time = 0.0
        self.shots = 0
        """Number of shots so far."""

    def __call__(self, pixels: Pixels, time: float) -> Tensor:
        """Representation for the next frame, as of :meth:`Upscaler.represent`.

        The frame is RGB of shape (H, W, 3), float32 in [0, 1]; its presentation time, in seconds, does not decrease.
        """
        fresh = self._cuts.is_new_shot(pixels)
        self.shots += fresh
        if self._adaptation.reference is None:
            self._follow(pixels, time, fresh)
        elif self._average is None:
            self._average = self._upscaler.represent([pixels], replace(self._adaptation, strength=1.0))
        assert self._average is not None
        if self._adaptation.strength == 1:
            return self._average
        if fresh:
            self._clean = self._upscaler.represent([pixels], replace(self._own, strength=0.0))
        assert self._clean is not None
        return self._clean + self._adaptation.strength * (self._average - self._clean)

    def _follow(self, pixels: Pixels, time: float, fresh: bool) -> None:
        """Adds the frame to the average."""
        current = self._upscaler.represent([pixels], self._own)
        self._count = 1 if fresh else self._count + 1
        share = 1 - math.exp(-max(time - self._time, 0.0) / SMOOTHING_SECONDS)
        share = max(share, 1 / self._count)
        self._time = time
        average = current if fresh or self._average is None else self._average
        self._average = average + share * (current - average)
