"""Learning rates as a function of the iteration alone, so that a resumed run needs no schedule state."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from dasr_arch._errors import InputError, suggest


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a training.

    Attributes:
        total_iter: iterations, zero or more.
        lr: initial learning rate.
        schedule: 'step' multiplies by gamma at each milestone; 'cosine' falls to lr_min along half a cosine.
        milestones: iterations of 'step', counted from the start of the stage.
        gamma: factor of 'step'.
        lr_min: final learning rate of 'cosine'.
        periods: number of equal periods of 'cosine'.
        warmup_iter: iterations of linear warm-up from zero.
    """

    total_iter: int
    lr: float
    schedule: Literal['step', 'cosine'] = 'step'
    milestones: Sequence[int] = ()
    gamma: float = 0.1
    lr_min: float = 0.0
    periods: int = 1
    warmup_iter: int = 0

    def learning_rate(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 1 at the start of the stage."""
        if iteration <= self.warmup_iter:
            return self.lr * iteration / self.warmup_iter
        if self.schedule == 'cosine':
            done = (iteration - 1 - self.warmup_iter) / max(1, self.total_iter - self.warmup_iter)
            done = 1.0 if done >= 1 else done * self.periods % 1
            return self.lr_min + (self.lr - self.lr_min) * (1 + math.cos(math.pi * done)) / 2
        return self.lr * self.gamma ** sum(iteration > milestone for milestone in self.milestones)


class Schedule:
    """Consecutive stages.

    Args:
        stages: in order.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)

    def locate(self, iteration: int) -> tuple[int, int]:
        """Stage of an iteration.

        Args:
            iteration: counted from 1 over all stages.

        Returns:
            Number of the stage, counted from 1, and the iteration counted from 1 at its start. Iterations beyond the
            end belong to the last stage.
        """
        for number, stage in enumerate(self.stages, 1):
            if iteration <= stage.total_iter or number == len(self.stages):
                break
            iteration -= stage.total_iter
        return number, iteration

    def learning_rate(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 1 over all stages."""
        number, local = self.locate(iteration)
        return self.stages[number - 1].learning_rate(local)


def build_stage(options: Mapping[str, Any], where: str) -> Stage:
    """Builds a stage from a block of an option file.

    Args:
        options: the fields of Stage.
        where: name of the block, for messages.

    Raises:
        InputError: if a key is unknown or missing.
    """
    known = {item.name for item in fields(Stage)}
    for key in options:
        if key not in known:
            raise InputError(f"unknown key '{key}' in {where}{suggest(str(key), known)}")
    for key in ('total_iter', 'lr'):
        if key not in options:
            raise InputError(f"{where} needs '{key}'")
    return Stage(**options)
