"""Learning rates as a function of the iteration alone, so that a resumed run needs nothing but its number."""

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
        lr: learning rate at its start.
        schedule: 'step' multiplies by gamma at each milestone; 'cosine' falls to lr_min along half a cosine.
        milestones: iterations, counted from the stage's start, after which the rate changes.
        gamma: factor of the change.
        lr_min: rate at the end of 'cosine'.
        periods: equal parts in which 'cosine' starts anew.
        warmup_iter: iterations over which the rate first rises from zero.
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
        """The rate that an iteration uses.

        Args:
            iteration: counted from 1 at the stage's start.

        Returns:
            The learning rate.
        """
        if iteration <= self.warmup_iter:
            return self.lr * iteration / self.warmup_iter
        if self.schedule == 'cosine':
            done = (iteration - 1 - self.warmup_iter) / max(1, self.total_iter - self.warmup_iter)
            done = 1.0 if done >= 1 else done * self.periods % 1
            return self.lr_min + (self.lr - self.lr_min) * (1 + math.cos(math.pi * done)) / 2
        return self.lr * self.gamma ** sum(iteration > milestone for milestone in self.milestones)


class Schedule:
    """Stages one after the other.

    Args:
        stages: in order.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)

    def locate(self, iteration: int) -> tuple[int, int]:
        """Which stage an iteration belongs to.

        Args:
            iteration: counted from 1 over all stages.

        Returns:
            Number of the stage, counted from 1, and the iteration counted from 1 at its start. What lies beyond the
            end belongs to the last stage.
        """
        for number, stage in enumerate(self.stages, 1):
            if iteration <= stage.total_iter or number == len(self.stages):
                break
            iteration -= stage.total_iter
        return number, iteration

    def learning_rate(self, iteration: int) -> float:
        """The rate that an iteration, counted from 1 over all stages, uses."""
        number, local = self.locate(iteration)
        return self.stages[number - 1].learning_rate(local)


def build_stage(options: Mapping[str, Any], where: str) -> Stage:
    """Makes a stage from an option file's block.

    Args:
        options: the fields of Stage.
        where: the block's name in messages.

    Returns:
        The stage.

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
