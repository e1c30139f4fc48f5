"""Names of cached results, and when they are valid."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dasr_arch.benchmark.config import DatasetPlan, MetricPlan, NetworkPlan, PartPlan, Suite
from dasr_arch.benchmark.result_cache import (
    Evaluation,
    EvaluationResult,
    ImageFacts,
    ResultCache,
    describe_metric,
    digest_degradation,
    digest_image,
    digest_weights,
)
from dasr_arch.degradations import build_degradation

IMAGES = (ImageFacts('a', 40, 40, '11'), ImageFacts('b', 40, 44, '22'))
SCORES = {'a': {'psnr': 30.25}, 'b': {'psnr': float('inf')}}


def make_evaluation(sigma: float = 1.2) -> Evaluation:
    return Evaluation(
        network=NetworkPlan('Ours', 'DASR', {'scale': 4}, Path('somewhere.pth')),
        weights_digest='abc',
        suite=Suite(
            DatasetPlan('Own', Path('folder')), build_degradation({'type': 'IsotropicGaussian', 'sigma': sigma}, 4)
        ),
        images=IMAGES,
        metrics=(MetricPlan('psnr', 'calculate_psnr', {'crop_border': 4}),),
        seed=0,
    )


def make_result(evaluation: Evaluation) -> EvaluationResult:
    return EvaluationResult(evaluation.fingerprint, SCORES, '2026-01-01T00:00:00+00:00', 1.5, {'torch': '2'})


CHANGES: dict[str, Callable[[Evaluation], Evaluation]] = {
    'weights': lambda evaluation: dataclasses.replace(evaluation, weights_digest='abd'),
    'arguments': lambda evaluation: dataclasses.replace(
        evaluation, network=dataclasses.replace(evaluation.network, arguments={'scale': 4, 'num_feat': 32})
    ),
    'arch': lambda evaluation: dataclasses.replace(
        evaluation, network=dataclasses.replace(evaluation.network, type='EDSR')
    ),
    'inputs': lambda evaluation: dataclasses.replace(
        evaluation, network=dataclasses.replace(evaluation.network, kernel='none')
    ),
    'training on the image': lambda evaluation: dataclasses.replace(
        evaluation, network=dataclasses.replace(evaluation.network, adapt={'steps': 3})
    ),
    'tiles': lambda evaluation: dataclasses.replace(
        evaluation, network=dataclasses.replace(evaluation.network, tile=64)
    ),
    'denoiser': lambda evaluation: dataclasses.replace(
        evaluation,
        network=dataclasses.replace(evaluation.network, denoiser=PartPlan('DnCNN', {'num_feat': 8}, Path('a.pth'))),
    ),
    'an image': lambda evaluation: dataclasses.replace(evaluation, images=(IMAGES[0], ImageFacts('b', 40, 44, '23'))),
    'number of images': lambda evaluation: dataclasses.replace(evaluation, images=IMAGES[:1]),
    'seed': lambda evaluation: dataclasses.replace(evaluation, seed=1),
    'metric': lambda evaluation: dataclasses.replace(
        evaluation, metrics=(MetricPlan('psnr', 'calculate_psnr', {'crop_border': 3}),)
    ),
    'degradation': lambda evaluation: make_evaluation(sigma=1.3),
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES.keys())
def test_fingerprint_changes_with_everything_that_changes_numbers(change: Callable[[Evaluation], Evaluation]) -> None:
    assert change(make_evaluation()).fingerprint != make_evaluation().fingerprint


def test_fingerprint_ignores_labels_and_paths() -> None:
    evaluation = make_evaluation()
    renamed = dataclasses.replace(
        evaluation,
        network=dataclasses.replace(evaluation.network, label='Theirs', weights=Path('elsewhere.pth')),
        suite=Suite(DatasetPlan('Other', Path('elsewhere')), evaluation.suite.degradation),
    )
    assert renamed.fingerprint == evaluation.fingerprint


def test_stored_result_is_read_as_written(tmp_path: Path) -> None:
    evaluation, store = make_evaluation(), ResultCache(tmp_path / 'cells')
    assert store.read(evaluation) is None
    store.write(evaluation, make_result(evaluation))
    assert store.read(evaluation) == make_result(evaluation)
    assert [path.name for path in (tmp_path / 'cells').iterdir()] == [f'{evaluation.fingerprint}.json']


def test_stored_result_is_valid_json_despite_infinite_psnr(tmp_path: Path) -> None:
    evaluation, store = make_evaluation(), ResultCache(tmp_path)
    store.write(evaluation, make_result(evaluation))
    text = store.path(evaluation.fingerprint).read_text()
    record = json.loads(text, parse_constant=pytest.fail)
    assert record['pictures'] == {'a': {'psnr': 30.25}, 'b': {'psnr': 'inf'}}


@pytest.mark.parametrize(
    'damage',
    [
        lambda text: '',
        lambda text: text[: len(text) // 2],
        lambda text: '[]',
        lambda text: text.replace('"a":', '"c":'),
        lambda text: text.replace('"psnr"', '"ssim"'),
        lambda text: text.replace('30.25', '"thirty"'),
    ],
)
def test_damaged_result_is_not_used(
    tmp_path: Path, damage: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    evaluation, store = make_evaluation(), ResultCache(tmp_path)
    store.write(evaluation, make_result(evaluation))
    path = store.path(evaluation.fingerprint)
    path.write_text(damage(path.read_text()))
    assert store.read(evaluation) is None
    assert 'computed again' in caplog.text


def test_result_under_another_name_is_not_used(tmp_path: Path) -> None:
    evaluation, other, store = make_evaluation(), make_evaluation(sigma=2.0), ResultCache(tmp_path)
    store.write(evaluation, make_result(evaluation))
    store.path(evaluation.fingerprint).rename(store.path(other.fingerprint))
    assert store.read(other) is None


def test_partial_results_survive_a_torn_last_line(tmp_path: Path) -> None:
    evaluation, store = make_evaluation(), ResultCache(tmp_path)
    store.append_partial(evaluation, 'a', {'psnr': 30.25}, 0.5)
    store.append_partial(evaluation, 'b', {'psnr': 31.0}, 0.5)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-20])
    assert store.read_partial(evaluation) == {'a': ({'psnr': 30.25}, 0.5)}
    store.append_partial(evaluation, 'b', {'psnr': 32.0}, 0.25)
    assert store.read_partial(evaluation) == {'a': ({'psnr': 30.25}, 0.5), 'b': ({'psnr': 32.0}, 0.25)}


def test_finishing_an_evaluation_removes_its_partial_results(tmp_path: Path) -> None:
    evaluation, store = make_evaluation(), ResultCache(tmp_path)
    store.append_partial(evaluation, 'a', {'psnr': 30.25}, 0.5)
    store.write(evaluation, make_result(evaluation))
    assert store.read_partial(evaluation) == {}
    assert len(list(tmp_path.iterdir())) == 1


def test_mean_is_the_arithmetic_mean_over_images() -> None:
    scores = {'a': {'psnr': 30.0, 'ssim': 0.5}, 'b': {'psnr': 33.0, 'ssim': 0.75}}
    assert EvaluationResult('', scores, '', 0.0, {}).means() == {'psnr': 31.5, 'ssim': 0.625}


def test_image_digest_tells_pixels_and_shapes_apart() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    changed = image.copy()
    changed[2, 1, 0] += 1
    digests = {digest_image(p) for p in (image, changed, image.reshape(2, 8, 3), image.transpose(1, 0, 2))}
    assert len(digests) == 4
    assert digest_image(image.copy()) == digest_image(image)


def test_weights_digest_depends_on_values_names_and_types_but_not_on_order() -> None:
    state = {'a': torch.ones(2, 3), 'b': torch.tensor(3), 'c': torch.ones(2, dtype=torch.bfloat16)}
    same = {name: state[name].clone() for name in ('c', 'b', 'a')}
    assert digest_weights(same) == digest_weights(state)
    others = [
        {**state, 'a': torch.ones(3, 2)},
        {**state, 'b': torch.tensor(4)},
        {**state, 'a': torch.ones(2, 3).double()},
        {'x': state['a'], 'b': state['b'], 'c': state['c']},
    ]
    assert len({digest_weights(other) for other in [state, *others]}) == 5


def test_degradation_digest_depends_on_the_seed_only_with_noise() -> None:
    quiet = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.2}, 4)
    noisy = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 10}, 4)
    assert digest_degradation(quiet, 0) == digest_degradation(quiet, 1)
    assert digest_degradation(noisy, 0) != digest_degradation(noisy, 1)


def test_file_of_a_metric_counts_by_its_content(tmp_path: Path) -> None:
    def describe(name: str, content: bytes) -> dict[str, object]:
        (tmp_path / name).write_bytes(content)
        return describe_metric(MetricPlan('lpips', 'calculate_lpips', {'backbone_path': str(tmp_path / name)}))

    before = describe('a.pth', b'weights')
    assert describe('b.pth', b'weights') == before
    os.utime(tmp_path / 'a.pth', ns=(0, 0))
    assert describe('a.pth', b'others') != before
