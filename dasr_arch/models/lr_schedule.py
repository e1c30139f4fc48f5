"""Learning rates as a function of the iteration alone, so that a resumed run needs no schedule state."""

import math
from collections.abc import Sequence

from dasr_arch.config.train_schema import StageOptions


class Schedule:
    """Consecutive stages."""

    def __init__(self, stages: Sequence[StageOptions]) -> None:
        self.stages = stages

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
        return _learning_rate(self.stages[number - 1], local)


def _learning_rate(stage: StageOptions, iteration: int) -> float:
    """Learning rate of an iteration, counted from 1 at the start of the stage."""
    if iteration <= stage.warmup_iter:
        return stage.lr * iteration / stage.warmup_iter
    if stage.schedule == 'cosine':
        done = (iteration - 1 - stage.warmup_iter) / max(1, stage.total_iter - stage.warmup_iter)
        done = 1.0 if done >= 1 else done * stage.periods % 1
        return stage.lr_min + (stage.lr - stage.lr_min) * (1 + math.cos(math.pi * done)) / 2
    return stage.lr * stage.gamma ** sum(iteration > milestone for milestone in stage.milestones)
