"""The runner on real images: protocol, cache, resuming and failures."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from basicsr.metrics import calculate_psnr
from torch import nn

from dasr_arch.archs.bicubic_arch import Bicubic
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.benchmark.config import Benchmark, DatasetPlan, MetricPlan, NetworkPlan, build_degradations
from dasr_arch.benchmark.runner import Runner, inspect_dataset
from dasr_arch.benchmark.tables.formats import read_results
from dasr_arch.data.image_io import read_image, write_image
from dasr_arch.degradations import build_degradation, degrade_image
from dasr_arch.pipelines.testing import run_test
from tests.benchmark.making import make_image, make_options, save_weights, small_dasr, write_images, write_lmdb

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _work_in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows_of(name: str = 'trial') -> dict[tuple[str, str, str], dict[str, Any]]:
    record = read_results(Path('results') / name / 'table.json')
    return {(row['network'], row['dataset'], row['degradation']): row for row in record['rows']}


def stored_results() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path('results/trial/cells').iterdir()}


def test_numbers_are_those_of_the_protocol_written_out() -> None:
    root = write_images(Path('own'), count=1, height=43, width=46)
    run_test(make_options(root, degradations=[{'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 5}], seed=3))
    hr = read_image(root / 'p0.png')[:40, :44]
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.2, 'noise': 5}, 4)
    lq = degrade_image(degradation, hr, 3, 'p0')
    sr = Bicubic(4)(torch.from_numpy(lq).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy() * 255
    sr = sr.round().astype(np.uint8)
    expected = calculate_psnr(sr[..., ::-1], hr[..., ::-1], crop_border=4, test_y_channel=True)
    row = rows_of()['Bicubic', 'Own', 'sigma 1.2, noise 5']
    assert row['means']['psnr'] == pytest.approx(expected, abs=1e-9)
    assert row['pictures'] == [{'name': 'p0', **row['means']}]


def test_images_are_written_where_the_protocol_says() -> None:
    run_test(make_options(write_images(Path('own')), save_img=True))
    folder = Path('results/trial/visualization/Bicubic/Own')
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob('*.png'))
    assert written == ['sigma_0/p0.png', 'sigma_0/p1.png', 'sigma_1.2/p0.png', 'sigma_1.2/p1.png']
    sr, hr = read_image(folder / 'sigma_0/p0.png'), read_image(Path('own/p0.png'))
    psnr = calculate_psnr(sr[..., ::-1], hr[..., ::-1], crop_border=4, test_y_channel=True)
    assert rows_of()['Bicubic', 'Own', 'sigma 0']['pictures'][0]['psnr'] == pytest.approx(psnr, abs=1e-9)


def test_second_run_computes_nothing() -> None:
    options = make_options(write_images(Path('own')), save_img=True)
    run_test(options)
    evaluations = stored_results()
    images = {path: path.stat().st_mtime_ns for path in Path('results/trial/visualization').rglob('*.png')}
    run_test(options)
    assert stored_results() == evaluations
    assert {path: path.stat().st_mtime_ns for path in Path('results/trial/visualization').rglob('*.png')} == images


def test_changed_image_invalidates_the_results_of_its_data_set_alone() -> None:
    options = make_options(write_images(Path('own')))
    options['datasets']['Other'] = {'dataroot_gt': str(write_images(Path('other'), height=48))}
    run_test(options)
    evaluations, before = stored_results(), rows_of()
    write_image(Path('own/p1.png'), make_image(seed=9))
    run_test(options)
    after = rows_of()
    assert len(stored_results()) == len(evaluations) + 2
    for key, row in after.items():
        assert (row == before[key]) == (key[1] == 'Other')


def test_changed_weights_invalidate_the_results_of_their_network_alone() -> None:
    torch.manual_seed(0)
    path = save_weights(DASR(**small_dasr()), Path('net.pth'))
    options = make_options(write_images(Path('own')))
    options['networks']['Ours'] = {'type': 'DASR', 'path': str(path)}
    run_test(options)
    before = rows_of()
    save_weights(DASR(**small_dasr()), path)
    run_test(options)
    for key, row in rows_of().items():
        assert (row == before[key]) == (key[0] == 'Bicubic')


def test_saving_the_same_weights_again_changes_nothing() -> None:
    network = DASR(**small_dasr())
    options = make_options(write_images(Path('own')))
    options['networks'] = {'Ours': {'type': 'DASR', 'path': str(save_weights(network, Path('a.pth')))}}
    run_test(options)
    evaluations = stored_results()
    options['networks'] = {'Renamed': {'type': 'DASR', 'path': str(save_weights(network, Path('b.pth')))}}
    run_test(options)
    assert stored_results() == evaluations
    assert set(rows_of()) == {('Renamed', 'Own', 'sigma 0'), ('Renamed', 'Own', 'sigma 1.2')}


def test_added_degradation_computes_its_evaluation_alone() -> None:
    options = make_options(write_images(Path('own')))
    run_test(options)
    evaluations = stored_results()
    run_test({**options, 'degradations': [{'type': 'IsotropicGaussian', 'sigma': [0, 1.2, 2.4]}]})
    assert evaluations.items() <= stored_results().items()
    assert len(stored_results()) == 3


def test_interrupted_evaluation_goes_on_with_its_finished_images() -> None:
    options = make_options(write_images(Path('own'), count=3), degradations=[{'type': 'IsotropicGaussian', 'sigma': 0}])
    run_test(options)
    (name,) = stored_results()
    evaluation = Path('results/trial/cells') / name
    record = json.loads(evaluation.read_text())
    evaluation.unlink()
    kept = {'name': 'p1', 'scores': {'psnr': 12.5, 'ssim': 0.25}, 'seconds': 0.0}  # no network computes these
    torn = json.dumps({'name': 'p2', 'scores': {'psnr': 1.0, 'ssim': 0.5}, 'seconds': 0.0})[:30]
    partial = evaluation.with_name(f'{record["fingerprint"]}.images.jsonl')
    partial.write_text(f'{json.dumps(kept)}\n{torn}')
    run_test(options)
    scores = json.loads(evaluation.read_text())['pictures']
    assert scores == {**record['pictures'], 'p1': {'psnr': 12.5, 'ssim': 0.25}}
    assert list(scores) == ['p0', 'p1', 'p2']
    assert not partial.exists()


def test_damaged_result_is_told_once_and_computed_again(caplog: pytest.LogCaptureFixture) -> None:
    options = make_options(write_images(Path('own')))
    run_test(options)
    evaluations = stored_results()
    name, other = sorted(evaluations)
    (Path('results/trial/cells') / name).write_bytes(evaluations[name][:-20])
    run_test(options)
    assert caplog.text.count('computed again') == 1
    assert json.loads(stored_results()[name])['pictures'] == json.loads(evaluations[name])['pictures']
    assert stored_results()[other] == evaluations[other]


def test_images_asked_for_later_are_written_and_numbers_kept() -> None:
    options = make_options(write_images(Path('own')))
    run_test(options)
    evaluations = stored_results()
    run_test({**options, 'save_img': True})
    assert stored_results() == evaluations
    assert len(list(Path('results/trial/visualization').rglob('*.png'))) == 4


def test_images_of_older_weights_are_replaced() -> None:
    root = write_images(Path('own'), count=1)
    options = make_options(root, save_img=True, degradations=[{'type': 'IsotropicGaussian', 'sigma': 0}])
    first, second = (DASR(**small_dasr()) for _ in range(2))
    options['networks'] = {'Ours': {'type': 'DASR', 'path': 'net.pth'}}
    written = Path('results/trial/visualization/Ours/Own/sigma_0/p0.png')
    contents = []
    for network in (first, second, first):
        save_weights(network, Path('net.pth'))
        run_test({**options, 'save_img': len(contents) != 1})
        contents.append(written.read_bytes())
    save_weights(second, Path('net.pth'))
    run_test(options)
    assert contents[0] == contents[1] == contents[2]
    assert written.read_bytes() != contents[0]


def test_failing_network_is_reported_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    broken = DASR(**small_dasr())
    for parameter in broken.upsampler.parameters():
        nn.init.constant_(parameter, 1e30)  # overflows; weights that are not finite are refused before
    options = make_options(write_images(Path('own')))
    options['networks'] = {
        'Broken': {'type': 'DASR', 'path': str(save_weights(broken, Path('net.pth')))},
        'Bicubic': {'type': 'Bicubic'},
    }
    report = run_test(options)
    assert report.failures == 2
    assert report.failures
    rows = rows_of()
    assert 'p0: ValueError: the output holds NaN' in rows['Broken', 'Own', 'sigma 0']['failure']
    assert rows['Bicubic', 'Own', 'sigma 0']['failure'] == ''
    assert 'failed: Broken on Own, sigma 0: p0: ValueError' in report.console
    assert 'Broken on Own, sigma 0: failed' in caplog.text


def test_two_data_sets_on_one_lmdb_equal_the_folder() -> None:
    lmdb = write_lmdb(Path('own.lmdb'))
    options = make_options(lmdb)
    options['datasets'] = {'A': {'dataroot_gt': str(lmdb)}, 'B': {'dataroot_gt': str(lmdb)}}
    options['datasets']['Folder'] = {'dataroot_gt': 'own.source'}
    run_test(options)
    rows = rows_of()
    means = [rows['Bicubic', name, 'sigma 1.2']['means'] for name in ('A', 'B', 'Folder')]
    assert means[0] == means[1] == means[2]
    assert len(stored_results()) == 2  # equal images are one evaluation, wherever they lie


def test_grey_16_bit_and_small_images_are_tested_or_skipped_by_name() -> None:
    import cv2

    root = write_images(Path('own'), count=1)
    image = make_image(seed=5)
    cv2.imwrite(str(root / 'grey.png'), image[..., 0])
    cv2.imwrite(str(root / 'deep.png'), image.astype(np.uint16) * 257)
    write_image(root / 'tiny.png', make_image(19, 30))
    write_image(root / 'just.png', make_image(20, 30))
    report = run_test(make_options(root))
    row = rows_of()['Bicubic', 'Own', 'sigma 1.2']
    assert [entry['name'] for entry in row['pictures']] == ['deep', 'grey', 'just', 'p0']
    assert 'skipped: Own, tiny: 30 x 19 pixels, but the metrics need 19 on each side at scale 4' in report.console


def test_non_blind_network_gets_the_kernel_of_every_degradation() -> None:
    torch.manual_seed(1)
    path = save_weights(DASR(**small_dasr(condition='kernel')), Path('net.pth'))
    options = make_options(write_images(Path('own'), count=1), save_img=True)
    options['networks'] = {'Model 5': {'type': 'DASR', 'path': str(path)}}
    options['degradations'] = [{'type': 'IsotropicGaussian', 'sigma': 1.2}]
    run_test(options)
    degradation = build_degradation({'type': 'IsotropicGaussian', 'sigma': 1.2}, 4)
    lq = degrade_image(degradation, read_image(Path('own/p0.png')), 0, 'p0')
    network = DASR(**small_dasr(condition='kernel')).eval()
    network.load_state_dict(torch.load(path, weights_only=True)['params'])
    kernel = degradation.draw_kernel(torch.Generator())[None]
    with torch.no_grad():
        sr = network(torch.from_numpy(lq).permute(2, 0, 1)[None].float() / 255, kernel=kernel)
    expected = (sr[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    written = read_image(Path('results/trial/visualization/Model_5/Own/sigma_1.2/p0.png'))
    assert np.array_equal(written, expected)


def test_noise_depends_on_the_seed_and_not_on_the_order_of_images() -> None:
    root = write_images(Path('own'), count=2)
    options = make_options(root, degradations=[{'type': 'IsotropicGaussian', 'sigma': 0, 'noise': 10}])
    run_test(options)
    both = rows_of()['Bicubic', 'Own', 'sigma 0, noise 10']['pictures']
    run_test({**options, 'seed': 1})
    reseeded = rows_of()['Bicubic', 'Own', 'sigma 0, noise 10']['pictures']
    (root / 'p0.png').unlink()
    run_test(options)
    alone = rows_of()['Bicubic', 'Own', 'sigma 0, noise 10']['pictures']
    assert alone == both[1:]
    assert reseeded[0]['psnr'] != both[0]['psnr']


@pytest.mark.slow
def test_killed_run_goes_on_and_ends_like_an_undisturbed_one() -> None:
    root = write_images(Path('own'), count=40, height=96, width=96)
    options = make_options(root, save_img=True, degradations=[{'type': 'IsotropicGaussian', 'sigma': [0, 1.2, 2.4]}])
    run_test({**options, 'name': 'undisturbed'})
    Path('trial.yml').write_text(yaml.safe_dump(options))
    command = [sys.executable, str(PROJECT / 'test.py'), '-opt', 'trial.yml']
    every_step = {**os.environ, 'TQDM_MININTERVAL': '0', 'TQDM_MINITERS': '1'}  # the bar reports every image
    reached = []
    for wanted in (5, 25, 9):  # images of this process, before it is killed
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=every_step) as process:
            assert process.stderr is not None
            text = ''
            while (block := process.stderr.read1(4096)) != b'':
                text += block.decode(errors='replace')
                counts = re.findall(r'trial:.*? (\d+)/(\d+)', text)
                if counts and int(counts[-1][0]) >= wanted:
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL, text
        reached.append(int(counts[-1][1]))
    assert 120 == reached[0] > reached[1] > reached[2]  # each process found less to do
    subprocess.run(command, check=True, capture_output=True)
    undisturbed = rows_of('undisturbed')
    for key, row in rows_of().items():
        assert row['pictures'] == undisturbed[key]['pictures']
    for path in Path('results/undisturbed/visualization').rglob('*.png'):
        twin = Path('results/trial') / path.relative_to('results/undisturbed')
        assert np.array_equal(read_image(twin), read_image(path))
    assert not list(Path('results').rglob('*.tmp*'))


def test_running_out_of_memory_is_one_line_with_the_way_out_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forward(self: Bicubic, lq: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 50) if lq.shape[-1] > 12 else original(self, lq)

    original = Bicubic.forward
    root = write_images(Path('own'), count=1)
    monkeypatch.setattr('dasr_arch.benchmark.methods.PROBE_SIDE', 8)
    monkeypatch.setattr(Bicubic, 'forward', forward)
    options = make_options(root)
    options['datasets']['Large'] = {'dataroot_gt': str(write_images(Path('large'), count=1, width=64))}
    report = run_test(options)
    assert report.failures == 2
    reason = rows_of()['Bicubic', 'Large', 'sigma 0']['failure']
    assert reason == (
        'p0: not enough memory for 16 x 10 LR pixels; give the network `tile: 256`, or run on another device'
    )
    assert rows_of()['Bicubic', 'Own', 'sigma 0']['failure'] == ''


def test_network_that_trains_on_the_image_cannot_take_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def adapt(*_: object, **__: object) -> None:
        raise MemoryError

    network = {'type': 'ZSSR', 'num_feat': 8, 'num_layers': 3, 'adapt': {'max_steps': 1, 'crop_size': 8}}
    options = make_options(write_images(Path('own'), count=1), networks={'ZSSR': network})
    monkeypatch.setattr('dasr_arch.benchmark.methods.probe_method', lambda *_: None)
    monkeypatch.setattr('dasr_arch.pipelines.testing.probe_method', lambda *_: None)
    monkeypatch.setattr('dasr_arch.benchmark.methods.Method.restore', adapt)
    assert run_test(options).failures == 2
    reason = 'p0: not enough memory for 11 x 10 LR pixels; it trains on the whole image, so run it on another device'
    assert rows_of()['ZSSR', 'Own', 'sigma 0']['failure'] == reason


def test_score_that_is_not_a_number_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('dasr_arch.benchmark.runner.measure_image', lambda *_: float('nan'))
    assert run_test(make_options(write_images(Path('own'), count=1))).failures == 2
    assert rows_of()['Bicubic', 'Own', 'sigma 0']['failure'] == 'p0: psnr is not a number'


@pytest.mark.parametrize('key', ['images', 'pictures'])  # the latter is deprecated
def test_images_that_a_report_shows_are_written_and_no_other(key: str) -> None:
    root = write_images(Path('own'), count=3)
    run_test(make_options(root, crops={key: {'Own': ['p2', 'absent']}, 'size': 24}))
    written = {path.name for path in Path('results/trial/visualization').rglob('*.png')}
    assert written == {'p2.png'}
    assert len(list(Path('results/trial/crops/Own/p2').iterdir())) == 3


def test_weights_and_images_that_change_during_a_test_are_refused() -> None:
    root = write_images(Path('own'))
    dataset = DatasetPlan('Own', root)
    degradations = build_degradations([{'type': 'IsotropicGaussian', 'sigma': 0}], 4)
    metrics = (MetricPlan('psnr', 'calculate_psnr', {'crop_border': 4}),)
    benchmark = Benchmark(
        'trial', 4, 0, (dataset,), degradations, (NetworkPlan('Bicubic', 'Bicubic', {'scale': 4}),), metrics
    )
    images, _ = inspect_dataset(dataset, 4, 16)

    def run(digest: str) -> str:
        return (
            Runner(benchmark, {'Own': images}, {'Bicubic': digest}, Path('results'), torch.device('cpu'))
            .run()[0]
            .reason
        )

    assert 'has changed since the test began' in run('of other weights')
    write_image(root / 'p1.png', make_image(seed=9))
    assert run('') == 'p1 of Own has changed since the test began; run the test again'
