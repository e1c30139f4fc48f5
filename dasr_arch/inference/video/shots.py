"""What a network adapts to from frame to frame: steady within a shot, fresh after a cut."""

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dasr_arch.inference.tiling import Pixels
from dasr_arch.inference.upscaler import Look, Upscaler

SMOOTHING_SECONDS = 1.0
"""Time constant of the moving average of the representation: what was found so long ago counts 1/e of what is now."""

CUT_LEAST = 0.06
"""Mean difference between two frames, in [0, 1], below which there is no cut."""

CUT_FACTOR = 3.0
"""A cut differs from the frame before by so many times what frames of the shot differ from each other."""

_THUMBNAIL = (32, 18)  # width and height: small movements hardly change it
_MEMORY = 0.8  # share of the old in the shot's average difference


class CutDetector:
    """Finds the first frame of each shot from thumbnails.

    The difference between two frames is the mean absolute difference of their colours, averaged over 32 x 18 blocks.
    A frame begins a shot if its difference from the frame before is at least CUT_LEAST and at least CUT_FACTOR times
    the running average of the differences within the shot, so that fast movement is no cut. Fades are none, either;
    a flash may count as one, which only restarts the average. A shot has at least two frames.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._usual: float | None = None

    def is_new_shot(self, pixels: Pixels) -> bool:
        """Whether a frame begins a shot; the first one does.

        Args:
            pixels: RGB of shape (H, W, 3), float32 in [0, 1], in the order of display.
        """
        thumbnail = cv2.resize(pixels, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, thumbnail
        if last is None:
            return True
        difference = float(np.abs(thumbnail - last).mean())
        if self._usual is None:  # the second frame tells how much this shot moves
            self._usual = difference
            return False
        if difference >= max(CUT_LEAST, CUT_FACTOR * self._usual):
            self._usual = None
            return True
        self._usual = _MEMORY * self._usual + (1 - _MEMORY) * difference
        return False


class ShotRepresentation:
    """The representation that each frame of a video is upscaled with.

    Within a shot it is a moving average over what the encoder finds in the frames so far: at first their plain mean,
    then exponential with the time constant SMOOTHING_SECONDS, whatever the frame rate. A cut starts it anew.
    The clean representation that ``strength`` blends towards is found once in each shot, in its first frame.

    Args:
        upscaler: finds representations.
        look: what to adapt to; with ``like`` that of the reference throughout.
    """

    def __init__(self, upscaler: Upscaler, look: Look | None = None) -> None:
        self._upscaler = upscaler
        self._look = look or Look()
        self._own = Look(ensemble=self._look.ensemble)
        self._cuts = CutDetector()
        self._average: Tensor | None = None
        self._clean: Tensor | None = None
        self._count = 0
        self._time = 0.0
        self.shots = 0
        """How many shots have begun."""

    def __call__(self, pixels: Pixels, time: float) -> Tensor:
        """The representation for the next frame.

        Args:
            pixels: RGB of shape (H, W, 3), float32 in [0, 1].
            time: when it is shown, in seconds; not before the last one.

        Returns:
            As :meth:`Upscaler.represent`.
        """
        fresh = self._cuts.is_new_shot(pixels)
        self.shots += fresh
        if self._look.like is None:
            self._follow(pixels, time, fresh)
        elif self._average is None:
            self._average = self._upscaler.represent([pixels], replace(self._look, strength=1.0))
        assert self._average is not None
        if self._look.strength == 1:
            return self._average
        if fresh:
            self._clean = self._upscaler.represent([pixels], replace(self._own, strength=0.0))
        assert self._clean is not None
        return self._clean + self._look.strength * (self._average - self._clean)

    def _follow(self, pixels: Pixels, time: float, fresh: bool) -> None:
        """Takes the frame into the average."""
        found = self._upscaler.represent([pixels], self._own)
        self._count = 1 if fresh else self._count + 1
        share = 1 - math.exp(-max(time - self._time, 0.0) / SMOOTHING_SECONDS)
        share = max(share, 1 / self._count)
        self._time = time
        average = found if fresh or self._average is None else self._average
        self._average = average + share * (found - average)
