"""Learning rates of the paper, as a function of the iteration alone."""

import math
from itertools import pairwise

import pytest

from dasr_arch.config.train_schema import StageOptions
from dasr_arch.models.lr_schedule import Schedule

PAPER = Schedule(
    [
        StageOptions(total_iter=100_000, lr=1e-3, milestones=[60_000], gamma=0.1),
        StageOptions(total_iter=500_000, lr=1e-4, milestones=[125_000, 250_000, 375_000], gamma=0.5),
    ]
)


@pytest.mark.parametrize(
    ('iteration', 'stage', 'lr'),
    [
        (1, 1, 1e-3),
        (60_000, 1, 1e-3),
        (60_001, 1, 1e-4),
        (100_000, 1, 1e-4),
        (100_001, 2, 1e-4),
        (225_000, 2, 1e-4),
        (225_001, 2, 5e-5),
        (350_001, 2, 2.5e-5),
        (475_001, 2, 1.25e-5),
        (600_000, 2, 1.25e-5),
        (600_001, 2, 1.25e-5),  # beyond the end
    ],
)
def test_rates_are_the_papers(iteration, stage, lr):
    assert PAPER.locate(iteration)[0] == stage
    assert PAPER.learning_rate(iteration) == pytest.approx(lr, rel=1e-12)


def test_iterations_are_counted_from_one_at_the_start_of_each_stage():
    assert [PAPER.locate(i) for i in (1, 100_000, 100_001)] == [(1, 1), (1, 100_000), (2, 1)]


def test_empty_stage_is_skipped():
    schedule = Schedule([StageOptions(total_iter=0, lr=1.0), StageOptions(total_iter=5, lr=2.0)])
    assert schedule.locate(1) == (2, 1)
    assert schedule.learning_rate(1) == 2.0


def test_cosine_falls_from_the_rate_to_the_minimum():
    stage = Schedule([StageOptions(total_iter=100, lr=1.0, schedule='cosine', lr_min=0.2)])
    rates = [stage.learning_rate(i) for i in range(1, 102)]
    assert rates[0] == 1.0
    assert rates[50] == pytest.approx(0.6)
    assert rates[100] == pytest.approx(0.2)
    assert all(before > after for before, after in pairwise(rates))
    assert stage.learning_rate(500) == pytest.approx(0.2)


def test_cosine_starts_anew_in_every_period():
    once, often = (
        Schedule([StageOptions(total_iter=total, lr=1.0, schedule='cosine', periods=n)])
        for total, n in ((25, 1), (100, 4))
    )
    rates = [often.learning_rate(i) for i in range(1, 101)]
    assert rates == pytest.approx([once.learning_rate(i) for i in range(1, 26)] * 4)
    assert often.learning_rate(101) == 0


@pytest.mark.parametrize('schedule', ['step', 'cosine'])
def test_warm_up_rises_in_a_line_to_the_rate(schedule):
    stage = Schedule([StageOptions(total_iter=100, lr=1.0, schedule=schedule, warmup_iter=4)])
    assert [stage.learning_rate(i) for i in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(math.isfinite(stage.learning_rate(i)) for i in range(1, 200))
