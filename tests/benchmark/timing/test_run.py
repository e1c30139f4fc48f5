"""The speed benchmark: which rows it has, what it times, and how memory is measured."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from dasr_arch._errors import InputError
from dasr_arch.backends.ncnn_net import has_ncnn
from dasr_arch.backends.precision import has_fast_bfloat16
from dasr_arch.benchmark.own_process import read_peak_memory
from dasr_arch.benchmark.timing.cases import (
    IMPLEMENTATIONS,
    PRECISIONS,
    SPEED_NETWORKS,
    SpeedCase,
    build_action,
    is_possible,
    make_network_options,
    measure_memory,
)
from dasr_arch.benchmark.timing.run import (
    SpeedSettings,
    _measure_in_process,
    choose_baseline,
    format_speed,
    list_cases,
    measure_speed,
)
from tests.benchmark.making import write_images

ROW = {
    'network': 'DASR',
    'implementation': 'auto',
    'precision': 'fp32',
    'operation': 'stage_1',
    'scale': 4,
    'size': 48,
    'batch': 8,
    'device': 'cpu',
    'milliseconds': 12.34,
    'milliseconds_of_repeats': [12.0, 12.34, 13.0],
    'loading_share': 0.25,
    'degrading_share': 0.1,
    'peak_mib': 800.4,
    'own_mib': None,
    'ratio': 1.0,
}
RECORD = {
    'date': '2026-01-02T03:04:05+00:00',
    'environment': {
        'dasr': '1',
        'torch': '2',
        'python': '3',
        'commit': None,
        'device': 'a CPU',
        'cores': 2,
        'threads': 1,
    },
    'settings': {'repeats': 3},
    'baseline': 'DASR auto fp32',
    'time': 'how time is measured',
    'memory': 'how memory is measured',
    'rows': [ROW, {**ROW, 'operation': 'inference', 'loading_share': None, 'degrading_share': None, 'ratio': None}],
}


def test_default_rows_are_inference_at_every_scale_and_both_stages() -> None:
    cases = list_cases(SpeedSettings(implementations=('auto',), precisions=('fp32',)))
    inference = [(case.network, case.scale) for case in cases if case.operation == 'inference']
    assert inference == [(network, scale) for scale in (2, 3, 4) for network in ('Bicubic', 'DASR-S', 'DASR')]
    training = [(case.network, case.operation) for case in cases if case.operation != 'inference']
    assert training == [(network, stage) for stage in ('stage_1', 'stage_2') for network in ('DASR-S', 'DASR')]


@pytest.mark.parametrize(('network', 'implementation'), [('DASR-S', 'fast'), ('RCAN', 'auto')])
def test_options_of_a_training_step_are_those_of_its_model(
    network: str, implementation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small = {'RCAN': {'num_group': 1, 'num_block': 1}, 'DASR-S': {'num_groups': 1, 'num_blocks': 1}}[network]
    monkeypatch.setitem(SPEED_NETWORKS, network, {**SPEED_NETWORKS[network], **small})
    case = SpeedCase(network, implementation, 'fp32', 'stage_2', 2, size=12, batch=2)
    assert build_action(case, write_images(tmp_path / 'images'))().computing > 0
    assert 'is not checked' not in caplog.text


def test_compiled_networks_are_rows_of_dasr_alone() -> None:
    settings = SpeedSettings(networks=('DASR-S', 'RCAN'), implementations=('reference', 'compiled'), scales=(4,))
    found = {(case.network, case.implementation) for case in list_cases(settings) if case.precision == 'fp32'}
    assert found == {('DASR-S', 'reference'), ('DASR-S', 'compiled'), ('RCAN', 'auto')}


@pytest.mark.skipif(not has_ncnn(), reason='the extra ncnn is not installed')
def test_ncnn_is_measured_where_it_is_installed_and_has_inference_in_float32_alone() -> None:
    settings = SpeedSettings(networks=('DASR', 'RCAN'), precisions=PRECISIONS, scales=(4,))
    cases = [case for case in list_cases(settings) if case.implementation == 'ncnn']
    assert [(case.label, case.operation) for case in cases] == [('DASR ncnn fp32', 'inference')]


def test_ncnn_that_is_not_installed_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'ncnn', None)  # importing it fails
    with pytest.raises(InputError, match="extra 'ncnn'"):
        SpeedSettings(implementations=('ncnn',))
    monkeypatch.setattr('dasr_arch.benchmark.timing.run.has_ncnn', lambda: False)
    monkeypatch.setattr('dasr_arch.benchmark.timing.run.has_amx', lambda: False)
    assert SpeedSettings().implementations == ('reference', 'fast')


def test_openvino_is_measured_with_amx_and_has_inference_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('dasr_arch.benchmark.timing.run.has_openvino', lambda: True)
    monkeypatch.setattr('dasr_arch.benchmark.timing.run.has_amx', lambda: True)
    settings = SpeedSettings(networks=('DASR',), precisions=PRECISIONS, scales=(4,))
    cases = [case for case in list_cases(settings) if case.implementation == 'openvino']
    expected = [('DASR openvino fp32', 'inference'), ('DASR openvino bf16', 'inference')]
    assert [(case.label, case.operation) for case in cases] == expected
    monkeypatch.setitem(sys.modules, 'openvino', None)  # importing it fails
    with pytest.raises(InputError, match="extra 'openvino'"):
        SpeedSettings(implementations=('openvino',))


def test_implementations_and_precisions_are_axes_where_they_exist() -> None:
    settings = SpeedSettings(
        networks=('Bicubic', 'DASR', 'RCAN'),
        implementations=('reference', 'fast'),
        precisions=PRECISIONS,
        operations=('inference',),
        scales=(4,),
        baseline='DASR reference fp32',
    )
    labels = [case.label for case in list_cases(settings)]
    assert len(labels) == len(set(labels))
    assert labels == [
        'Bicubic auto fp32',
        'Bicubic auto bf16',
        'DASR reference fp32',
        'DASR fast fp32',
        'DASR fast bf16',
        'RCAN auto fp32',
        'RCAN auto bf16',
    ]


def test_default_rows_hold_the_reference_and_what_pays_here() -> None:
    settings = SpeedSettings()
    cases = list_cases(settings)
    labels = {case.label for case in cases}
    assert choose_baseline(settings, cases) == 'DASR reference fp32'
    assert 'DASR fast fp32' in labels
    assert ('DASR fast bf16' in labels) == has_fast_bfloat16(torch.device('cpu'))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'networks': ('DASR-L',)}, "networks: unknown 'DASR-L'"),
        ({'networks': ()}, 'networks: expected at least one'),
        ({'implementations': ('quick',)}, "implementations: unknown 'quick'"),
        ({'precisions': ('fp16',)}, "precisions: unknown 'fp16'"),
        ({'operations': ('stage_3',)}, "operations: unknown 'stage_3'"),
        ({'scales': (8,)}, 'scales: expected some of 2, 3, 4, got 8'),
        ({'repeats': 2}, 'repeats must be at least 3, got 2'),
        ({'size': 0}, 'size must be at least 1, got 0'),
        ({'patch': 500}, 'patch: at most 480 HR pixels'),
        ({'device': 'tpu'}, "device: unknown 'tpu'"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        SpeedSettings(**changes)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')
def test_gpu_where_there_is_none_is_refused() -> None:
    with pytest.raises(InputError, match='there is no GPU here'):
        SpeedSettings(device='cuda')


def test_baseline_must_be_a_row_and_something_must_be_measured() -> None:
    with pytest.raises(InputError, match="no row is called 'RCAN auto fp32'"):
        list_cases(SpeedSettings(baseline='RCAN auto fp32'))
    with pytest.raises(InputError, match='nothing to measure'):
        list_cases(SpeedSettings(networks=('Bicubic',), operations=('stage_2',)))


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('operation', ['inference', 'stage_1', 'stage_2'])
@pytest.mark.parametrize('network', ['Bicubic', 'DASR-S'])
def test_every_operation_runs_and_is_timed(tmp_path: Path, network: str, operation: str, precision: str) -> None:
    images = write_images(tmp_path / 'pictures')
    case = SpeedCase(network, 'auto', precision, operation, 2, 12, 2)  # type: ignore[arg-type]
    if not is_possible(case):
        assert network == 'Bicubic'
        return
    timing = build_action(case, images)()
    assert timing.computing > 0
    assert (timing.loading > 0) == (timing.degrading > 0) == (operation != 'inference')


def test_stages_train_what_they_say(tmp_path: Path) -> None:
    images = write_images(tmp_path / 'pictures')
    times = {}
    for operation in ('stage_1', 'stage_2'):
        action = build_action(SpeedCase('DASR', 'auto', 'fp32', operation, 2, 12, 2), images)  # type: ignore[arg-type]
        action()
        times[operation] = min(action().computing for _ in range(3))
    assert times['stage_2'] > 1.5 * times['stage_1']  # five groups of five blocks more


@pytest.mark.parametrize('network', SPEED_NETWORKS)
@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_every_network_can_be_built(network: str, implementation: str) -> None:
    from basicsr.utils.registry import ARCH_REGISTRY

    case = SpeedCase(network, implementation, 'fp32', 'inference', 3, 8, 1)
    if is_possible(case):
        options = make_network_options(case)
        with torch.device('meta') if network == 'RCAN' else torch.device('cpu'):
            assert ARCH_REGISTRY.get(options.pop('type'))(**options) is not None
    else:
        assert network in ('Bicubic', 'RCAN')


def test_peak_memory_does_not_begin_with_that_of_the_parent() -> None:
    ballast = torch.ones(64 << 18)  # 64 MiB
    code = 'from pathlib import Path; print([line for line in open("/proc/self/status") if "VmHWM" in line][0])'
    child = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True)
    assert int(child.stdout.split()[1]) * 1024 < read_peak_memory() // 2
    assert read_peak_memory() > ballast.nbytes


def test_memory_that_cannot_be_measured_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(module: str, request: str) -> dict[str, int]:
        raise RuntimeError('Killed')

    case = SpeedCase('DASR', 'auto', 'fp32', 'inference', 4, 48, 1)
    monkeypatch.setattr('dasr_arch.benchmark.timing.run.run_in_own_process', fail)
    assert _measure_in_process(case, Path('none.lmdb')) is None
    assert 'memory could not be measured: Killed' in caplog.text


def test_network_that_has_no_case_is_named() -> None:
    with pytest.raises(InputError, match="unknown network 'DASRR'; did you mean 'DASR'"):
        measure_memory(json.dumps({'case': asdict(SpeedCase('DASRR', 'auto', 'fp32', 'inference', 4, 48, 1))}))


def test_table_states_how_where_and_when() -> None:
    lines = format_speed(RECORD).splitlines()
    assert [' '.join(line.split()) for line in lines[:3]] == [
        'operation scale LR network implementation precision ms speedup MiB own MiB loading degrading',
        'stage_1 x4 8 x 48 DASR auto fp32 12.3 1.00 800 failed 25% 10%',
        'inference x4 8 x 48 DASR auto fp32 12.3 800 failed',
    ]
    text = '\n'.join(lines)
    for part in ('a CPU, 2 cores, 1 threads', 'torch 2', 'commit none', '2026-01-02', '3 repeats', 'DASR auto fp32'):
        assert part in text


@pytest.mark.slow
def test_record_holds_medians_ratios_memory_and_circumstances(tmp_path: Path) -> None:
    settings = SpeedSettings(
        networks=('Bicubic', 'DASR-S'),
        operations=('inference', 'stage_1'),
        scales=(2,),
        size=16,
        patch=16,
        batch=2,
        implementations=('auto',),
        precisions=('fp32',),
        baseline='DASR-S auto fp32',
    )
    record = json.loads(json.dumps(measure_speed(settings)))
    rows = {(row['network'], row['operation']): row for row in record['rows']}
    assert set(rows) == {('Bicubic', 'inference'), ('DASR-S', 'inference'), ('DASR-S', 'stage_1')}
    for row in rows.values():
        assert len(row['milliseconds_of_repeats']) == 3
        assert row['milliseconds'] == sorted(row['milliseconds_of_repeats'])[1]
        assert row['peak_mib'] > row['own_mib'] > 0
    assert rows['DASR-S', 'inference']['ratio'] == 1
    assert rows['Bicubic', 'inference']['ratio'] > 1
    assert rows['DASR-S', 'stage_1']['own_mib'] > rows['Bicubic', 'inference']['own_mib']
    assert 0 < rows['DASR-S', 'stage_1']['loading_share'] < 1
    assert {'date', 'environment', 'settings', 'time', 'memory'} <= record.keys()
    assert {'commit', 'torch', 'device', 'threads'} <= record['environment'].keys()
    assert format_speed(record)
