"""Costs: counted exactly, measured in a process of their own, and kept."""

from pathlib import Path

import pytest
import torch

from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.dncnn_arch import DnCNN
from dasr_arch.archs.mzsr_arch import MZSR
from dasr_arch.archs.srmd_arch import SRMDNF
from dasr_arch.benchmark.complexity import CostPlan, count_multiply_adds, count_parameters, measure_costs
from dasr_arch.benchmark.config import NetworkPlan, PartPlan
from dasr_arch.benchmark.methods import Method, build_method
from tests.benchmark.making import save_weights

PLAN = CostPlan(size=16, repeats=1)
CPU = torch.device('cpu')


def make_system(network: torch.nn.Module, kind: str) -> Method:
    return Method(NetworkPlan('N', kind), network.eval(), 'digest')


def test_multiply_adds_of_plain_convolutions_are_those_by_hand() -> None:
    network = SRMDNF(scale=2, num_feat=8, num_layers=3)
    by_hand = 9 * (18 * 8 + 8 * 8 + 8 * 12) * 10 * 10 + 225 * 15  # three convolutions, and the kernel's code
    assert count_multiply_adds(make_system(network, 'SRMDNF'), 10) == by_hand


def test_papers_network_costs_what_is_published() -> None:
    method = make_system(DASR(scale=4), 'DASR')
    assert count_parameters(method) == pytest.approx(5.84e6, rel=0.002)  # KDSR's table
    # The same table has 185.66 G for 180 x 320 pixels.
    assert count_multiply_adds(method, 30) == pytest.approx(185.66e9 * 30**2 / (180 * 320), rel=0.02)


def test_parts_are_counted_with_the_network(tmp_path: Path) -> None:
    denoiser = DnCNN(num_feat=8, num_layers=3)
    path = save_weights(denoiser, tmp_path / 'dncnn.pth')
    plain = NetworkPlan('B', 'Bicubic', {'scale': 4})
    part = PartPlan('DnCNN', {'num_feat': 8, 'num_layers': 3}, path)
    method = build_method(NetworkPlan('B', 'Bicubic', {'scale': 4}, denoiser=part), 4)
    assert count_parameters(method) == sum(p.numel() for p in denoiser.parameters())
    more = count_multiply_adds(method, 10) - count_multiply_adds(build_method(plain, 4), 10)
    assert more == 9 * (3 * 8 + 8 * 8 + 8 * 3) * 100


def test_time_and_memory_are_measured_once_and_kept(tmp_path: Path) -> None:
    method = build_method(NetworkPlan('B', 'Bicubic', {'scale': 4}), 4)
    first = measure_costs(method, 4, PLAN, CPU, tmp_path / 'costs')
    assert first.failure == ''
    assert first.milliseconds is not None
    assert first.milliseconds > 0
    assert first.peak_mib is not None
    assert first.base_mib is not None
    assert first.peak_mib >= first.base_mib > 10
    assert first.parameters == 0
    (file,) = (tmp_path / 'costs').iterdir()
    written = file.stat().st_mtime_ns
    assert measure_costs(method, 4, PLAN, CPU, tmp_path / 'costs') == first
    assert file.stat().st_mtime_ns == written


def test_failure_is_reported_and_not_cached(tmp_path: Path) -> None:
    path = save_weights(DnCNN(num_feat=8, num_layers=3), tmp_path / 'dncnn.pth')
    part = PartPlan('DnCNN', {'num_feat': 8, 'num_layers': 3}, path)
    method = build_method(NetworkPlan('B', 'Bicubic', {'scale': 4}, denoiser=part), 4)
    path.unlink()
    costs = measure_costs(method, 4, PLAN, CPU, tmp_path / 'costs')
    assert 'dncnn.pth' in costs.failure
    assert costs.milliseconds is None
    assert not (tmp_path / 'costs').exists()


def test_method_with_test_time_training_is_counted_but_not_timed(tmp_path: Path) -> None:
    plan = NetworkPlan('Z', 'ZSSR', {'scale': 2}, adapt={'max_steps': 3000})
    costs = measure_costs(build_method(plan, 2), 2, PLAN, CPU, tmp_path / 'costs')
    assert costs.parameters == 224_640
    assert costs.multiply_adds == pytest.approx(224_640 * 32 * 32, rel=0.01)
    assert costs.milliseconds is None
    assert costs.failure == ''
    assert costs.peak_mib is not None
    assert costs.base_mib is not None
    assert costs.peak_mib > costs.base_mib > 0  # of a few steps


def test_short_training_on_the_image_is_timed(tmp_path: Path) -> None:
    path = save_weights(MZSR(scale=2), tmp_path / 'mzsr.pth')
    plan = NetworkPlan('M', 'MZSR', {'scale': 2}, path, adapt={'steps': 1})
    costs = measure_costs(build_method(plan, 2), 2, PLAN, CPU, tmp_path / 'costs')
    assert costs.failure == ''
    assert costs.milliseconds is not None
    assert costs.milliseconds > 0


def test_stored_costs_that_are_damaged_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = {'multiply_adds': 0, 'milliseconds': 1.5, 'peak_mib': 300.0, 'base_mib': 200.0}
    monkeypatch.setattr('dasr_arch.benchmark.complexity.run_in_own_process', lambda *_: found)
    method = build_method(NetworkPlan('B', 'Bicubic', {'scale': 4}), 4)
    first = measure_costs(method, 4, PLAN, CPU, tmp_path)
    (file,) = tmp_path.iterdir()
    for content in ('{"size": 16', '{"size": 16}'):
        file.write_text(content)
        assert measure_costs(method, 4, PLAN, CPU, tmp_path).milliseconds == first.milliseconds
        assert 'the stored costs cannot be used' in caplog.text
        caplog.clear()
    assert measure_costs(method, 4, PLAN, CPU, tmp_path).size == 16
    assert caplog.text == ''
