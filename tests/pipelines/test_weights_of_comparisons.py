"""The shipped comparisons expect the weights that the shipped training files write."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

import dasr_arch  # noqa: F401
from dasr_arch.benchmark.config import NetworkPlan, PartPlan, plan_network
from dasr_arch.config.yaml_reader import read_yaml
from race.options import read_race
from tests.option_files import OPTIONS


def list_training_files() -> dict[str, Path]:
    """The training file behind each experiment."""
    found = {path.stem: path for path in OPTIONS.glob('train_*.yml')}
    race = read_race(OPTIONS / 'race' / 'race.yml')
    found |= {race.experiment(training.name): training.options for training in race.trainings}
    return found


def list_weights(plan: NetworkPlan) -> Iterator[tuple[NetworkPlan | PartPlan, Path]]:
    for part in (plan, plan.denoiser, plan.predictor):
        if part is not None and part.weights is not None and part.weights.parts[0] == 'experiments':
            yield part, part.weights


def shapes(kind: str, arguments: dict[str, Any]) -> dict[str, torch.Size]:
    with torch.device('meta'):
        return {key: value.shape for key, value in ARCH_REGISTRY.get(kind)(**arguments).state_dict().items()}


@pytest.mark.parametrize('path', sorted((OPTIONS / 'compare').glob('*.yml')), ids=lambda path: path.stem)
def test_networks_have_the_tensors_that_the_trainings_leave(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(OPTIONS.parent)
    trainings = list_training_files()
    options = read_yaml(path)
    compared = 0
    for label, block in options['networks'].items():
        for part, weights in list_weights(plan_network(label, block, options['scale'])):
            if part.type == 'DASR':
                assert weights.parts[1] in trainings  # its file tells the rest
                continue
            training = read_yaml(trainings[weights.parts[1]])['network_g']
            kind = training.pop('type')
            assert part.type == kind
            scale = {'scale': options['scale']} if kind == 'IKC' else {}
            assert shapes(kind, {**scale, **part.arguments}) == shapes(kind, training), f'{label}: {weights}'
            compared += 1
    assert compared or path.stem.startswith(('packaged_', 'ablation_', 'beyond_'))
