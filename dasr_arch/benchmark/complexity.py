"""Complexity of methods: parameters, multiply-adds, time and memory for an image of a given size.

Time and memory are measured in a process of their own for each method, so that peak memory is that of one method and
running out of memory does not stop the others. Run as a module, this file is that process.
"""

import copy
import hashlib
import json
import logging
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dasr_arch._errors import InputError
from dasr_arch._files import write_whole
from dasr_arch._memory import keep_freed_memory
from dasr_arch.archs.contract import facts_of
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.archs.zssr_arch import ZSSR
from dasr_arch.backends.precision import exact_float32
from dasr_arch.benchmark.config import NetworkPlan
from dasr_arch.benchmark.environment import describe_environment, now
from dasr_arch.benchmark.methods import Method, build_method
from dasr_arch.benchmark.own_process import MEBIBYTE, read_peak_memory, run_in_own_process
from dasr_arch.benchmark.result_cache import describe_network
from dasr_arch.config.registry_checks import describe_briefly, import_modules, imported_modules
from dasr_arch.config.train_schema import Count, Options
from dasr_arch.config.typed import to_plain
from dasr_arch.degradations import image_generator
from dasr_arch.degradations.kernels import isotropic_gaussian_kernel
from dasr_arch.zero_shot.adaptation import build_adapter

_MEASURED = ('multiply_adds', 'milliseconds', 'peak_mib', 'base_mib')
_WIDTH = 1.2  # HR pixels, of the kernel given to non-blind networks
_FEW_STEPS = 3

COST_VERSION = 3
"""Increased whenever costs are counted or measured differently; older stored costs are then measured again."""

_LOGGER = logging.getLogger(__name__)


class CostPlan(Options, kw_only=True, frozen=True):
    """Settings of the measurement of parameters, multiply-adds, time and memory."""

    size: Annotated[int, Meta(ge=16)] = 180  # side of the square LR image, pixels
    repeats: Count = 3  # timed passes after a warm-up; the result is their median


@dataclass(frozen=True)
class Costs:
    """Costs of one method."""

    size: int  # side of the LR image, pixels
    parameters: int  # of all networks
    multiply_adds: int | None  # in one pass, without test-time training; None on failure
    milliseconds: float | None  # median, training of MZSR included; None for ZSSR, timed in the test
    peak_mib: float | None  # of the process or of the GPU; None on failure
    base_mib: float | None  # of Python and its libraries before; 0 on a GPU
    failure: str  # reason, else empty
    date: str  # ISO 8601
    environment: Mapping[str, object]  # versions and hardware


def measure_costs(method: Method, scale: int, plan: CostPlan, device: torch.device, folder: Path) -> Costs:
    """The costs of a method, which is on the CPU; measured on ``device`` unless ``folder`` has them.

    The folder keeps one file for each method, size and machine.
    """
    environment = describe_environment(device)
    machine = {key: environment.get(key) for key in ('device', 'threads', 'torch')}
    inputs = {'network': describe_network(method.plan, method.digest), 'scale': scale, 'plan': to_plain(plan)}
    code = {'dasr': environment['dasr'], 'costs': COST_VERSION}
    text = json.dumps({**inputs, 'machine': machine, 'code': code}, sort_keys=True)
    path = folder / f'{hashlib.sha256(text.encode()).hexdigest()}.json'
    try:
        return Costs(**json.loads(path.read_text(encoding='utf-8')))
    except FileNotFoundError:
        pass
    except (ValueError, TypeError) as error:
        _LOGGER.warning('%s: the stored costs cannot be used (%s); they are measured again', path, error)
    found = _measure_in_process(method.plan, scale, plan, device)
    costs = Costs(plan.size, count_parameters(method), **found, date=now(), environment=environment)
    if not costs.failure:
        write_whole(path, json.dumps(asdict(costs), indent=1) + '\n')
    return costs


def count_parameters(method: Method) -> int:
    """Number of parameters of all networks of a method."""
    return sum(parameter.numel() for network in method.list_networks() for parameter in network.parameters())


def count_multiply_adds(method: Method, size: int) -> int:
    """Multiply-adds of convolutions and matrix products in one pass over an image of ``size`` x ``size`` LR pixels."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for network in method.list_networks():
            counted = copy.deepcopy(network)
            if isinstance(counted, DASR):
                counted.set_implementation('reference')  # the faster one merges layers
            device = next((parameter.device for parameter in counted.parameters()), torch.device('cpu'))
            counted(torch.full((1, 3, size, size), 0.5, device=device), **_make_truth(counted, device))
    return int(counter.get_total_flops()) // 2  # a multiply-add is two operations


def _make_truth(network: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Non-blind inputs of a network's forward."""
    kernel = isotropic_gaussian_kernel(torch.tensor([_WIDTH])).to(device)
    inputs = {'kernel': kernel, 'noise_level': torch.zeros(1, device=device)}
    return {name: inputs[name] for name in facts_of(network).needs}


def _measure_in_process(plan: NetworkPlan, scale: int, costs: CostPlan, device: torch.device) -> dict[str, Any]:
    request = {'network': asdict(plan), 'scale': scale, 'plan': to_plain(costs), 'device': device.type}
    request['threads'] = torch.get_num_threads()
    request['imports'] = imported_modules
    try:
        found = run_in_own_process('dasr_arch.benchmark.complexity', json.dumps(request, default=str))
    except RuntimeError as error:
        _LOGGER.warning('networks.%s: costs could not be measured: %s', plan.label, error)
        return dict.fromkeys(_MEASURED) | {'failure': str(error)}
    return {**found, 'failure': ''}


def measure_here(request: Mapping[str, Any]) -> dict[str, float | None]:
    """Multiply-adds, time and memory of a method in this process, which must be new; no time for ZSSR.

    Raises InputError if the method cannot be built.
    """
    import_modules(request, 'networks')
    device = torch.device(request['device'])
    torch.set_num_threads(request['threads'])
    keep_freed_memory()  # as tests do
    costs = CostPlan(**request['plan'])
    base = read_peak_memory() if device.type == 'cpu' else 0
    plan = msgspec.convert(
        request['network'], NetworkPlan, dec_hook=lambda kind, value: Path(value) if kind is Path else value
    )
    method = build_method(plan, request['scale']).to(device)
    found: dict[str, float | None] = dict.fromkeys(_MEASURED)
    if isinstance(method.network, ZSSR):  # its time is that of the test; a few steps show the memory
        method.adapter = build_adapter(plan.type, {**plan.adapt, 'max_steps': _FEW_STEPS})
        _time(method, request['scale'], msgspec.structs.replace(costs, repeats=1), device)
    else:
        with exact_float32():
            found['milliseconds'] = _time(method, request['scale'], costs, device) * 1000
    peak = torch.cuda.max_memory_allocated() if device.type == 'cuda' else read_peak_memory()
    found |= {'peak_mib': peak / MEBIBYTE, 'base_mib': base / MEBIBYTE}
    found['multiply_adds'] = count_multiply_adds(method, costs.size)
    return found


def _time(method: Method, scale: int, costs: CostPlan, device: torch.device) -> float:
    """Median seconds for an image, after a warm-up."""
    generator = image_generator(0, '')
    lq = torch.rand(1, 3, costs.size, costs.size, generator=generator).to(device)
    kernel = isotropic_gaussian_kernel(torch.tensor([_WIDTH]))[0]
    draws = {'kernel': kernel, 'noise_level': torch.zeros(())}
    seconds = []
    for _ in range(costs.repeats + 1):
        started = time.perf_counter()
        method.restore(lq, draws, scale, generator)
        if device.type == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def main() -> int:
    """Reads a request from the standard input and writes the costs as one line of JSON."""
    try:
        sys.stdout.write(json.dumps(measure_here(json.loads(sys.stdin.read()))) + '\n')
    except (InputError, RuntimeError, ValueError, MemoryError) as error:
        sys.stderr.write(f'{describe_briefly(error)}\n')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
