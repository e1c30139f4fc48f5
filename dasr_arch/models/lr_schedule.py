"""Learning rates as a function of the iteration alone, so that a resumed run needs no schedule state."""

import math
from collections.abc import Sequence

from msgspec.structs import asdict

from dasr_arch.config.train_schema import StageOptions


class Stage(StageOptions, kw_only=True, frozen=True):
    """One stage of a training, with the learning rates of its iterations."""

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
    """Consecutive stages."""

    def __init__(self, stages: Sequence[StageOptions]) -> None:
        self.stages = [Stage(**asdict(stage)) for stage in stages]

    def locate(self, iteration: int) -> tuple[int, int]:
        """Stage of an iteration, and the iteration within it, all counted from 1; the last stage has no end."""
        for number, stage in enumerate(self.stages, 1):
            if iteration <= stage.total_iter or number == len(self.stages):
                break
            iteration -= stage.total_iter
        return number, iteration

    def learning_rate(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 1 over all stages."""
        number, local = self.locate(iteration)
        return self.stages[number - 1].learning_rate(local)
