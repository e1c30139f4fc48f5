"""Compares the speed of two checkouts: `python tools/compare_speed.py OLD NEW` (folders of the repository).

One process for each checkout runs the same operations in turn, so that both meet the same disturbances of the machine.
Prints a table in Markdown: medians, the median of the pairs' ratios, and the ratio of the minima.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OPERATIONS = {'inference': (180, 1), 'stage_1': (48, 8), 'stage_2': (48, 8)}
"""Side of the LR images, and images or pairs of patches at once."""

IMPLEMENTATIONS = ('auto', 'reference', 'fast', 'ncnn', 'openvino')
WORKER = """
import json, sys
from pathlib import Path
try:
    from dasr_arch.benchmark.timing import cases
except ImportError:
    from dasr_arch.benchmark import speed_actions as cases  # before 0.2
actions = {}
for line in sys.stdin:
    case = cases.SpeedCase(**json.loads(line))
    if not cases.is_possible(case):
        print('null', flush=True)
        continue
    if case not in actions:
        actions[case] = cases.build_action(case, Path(sys.argv[1]))
        actions[case]()
    print(json.dumps(sum(actions[case]())), flush=True)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description='Compare the speed of two checkouts of this repository.')
    parser.add_argument('checkouts', nargs=2, type=Path, metavar='FOLDER', help='the older one and the newer one')
    parser.add_argument('--networks', nargs='+', default=['DASR-S', 'DASR'], help='as for `dasr bench` (DASR-S DASR)')
    parser.add_argument('--operations', nargs='+', default=list(OPERATIONS), choices=OPERATIONS, help='(all)')
    parser.add_argument('--scale', type=int, default=4, help='upsampling factor (4)')
    parser.add_argument('--rounds', type=int, default=9, help='pairs of runs of each operation (9)')
    args = parser.parse_args(argv)
    cases = [
        {'network': network, 'implementation': implementation, 'operation': operation, 'size': size, 'batch': batch}
        for network in args.networks
        for implementation in IMPLEMENTATIONS
        for operation, (size, batch) in OPERATIONS.items()
        if operation in args.operations
    ]
    pairs: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = _prepare_images(args.checkouts[1], Path(folder, 'images.lmdb'))
        old, new = (_start(checkout, images) for checkout in args.checkouts)
        for number in range(args.rounds):
            for case in cases:
                request = {**case, 'precision': 'fp32', 'scale': args.scale}
                order = (old, new) if number % 2 else (new, old)
                seconds = {id(process): _ask(process, request) for process in order}
                if seconds[id(old)] is not None and seconds[id(new)] is not None:
                    name = f'{case["network"]} {case["implementation"]}, {case["operation"]}'
                    pairs.setdefault(name, []).append((seconds[id(old)], seconds[id(new)]))
        for process in (old, new):
            process.communicate()
    print('| | old, ms | new, ms | median of new / old | of the minima |\n| --- | ---: | ---: | ---: | ---: |')
    for name, times in pairs.items():
        print(f'| {name} | {_describe(times)} |')
    return 0


def _prepare_images(checkout: Path, target: Path) -> Path:
    command = [sys.executable, '-m', 'dasr_cli', 'prepare', checkout / 'datasets' / 'demo', '-o', target, '--whole']
    subprocess.run(list(map(str, command)), env=_environment(checkout), check=True, capture_output=True)
    return target


def _start(checkout: Path, images: Path) -> 'subprocess.Popen[str]':
    command = [sys.executable, '-c', WORKER, str(images)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=checkout, env=_environment(checkout), stdin=pipe, stdout=pipe, text=True)


def _environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, 'PYTHONPATH': str(checkout.resolve())}


def _ask(process: 'subprocess.Popen[str]', request: dict[str, Any]) -> Any:
    """Seconds of one run in a process, None if the case does not exist there."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + '\n')
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f'the process ended with code {process.wait()}')
    return json.loads(line)


def _describe(times: Sequence[tuple[float, float]]) -> str:
    old, new = zip(*times, strict=True)
    ratio = statistics.median(after / before for before, after in times)
    medians = f'{1000 * statistics.median(old):.1f} | {1000 * statistics.median(new):.1f}'
    return f'{medians} | {ratio:.3f} | {min(new) / min(old):.3f}'


if __name__ == '__main__':
    sys.exit(main())
