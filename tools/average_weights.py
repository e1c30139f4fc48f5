"""Averages weights of trainings with a common start: `python tools/average_weights.py A.pth B.pth -o C.pth`."""

import argparse
import sys
from collections.abc import Sequence

import torch

from dasr_arch import InputError
from dasr_arch.checkpoints.io import load_network
from dasr_arch.models.training_state import save_atomically
from dasr_cli.main import run_guarded


def main() -> int:
    """Reads the arguments and works; 2 if a file cannot be read or they are of different networks."""
    parser = argparse.ArgumentParser(description='Write the mean of the weights of several files of one network.')
    parser.add_argument(
        'sources', nargs='+', help='files of a DASR, such as net_g_1000.pth; averaged weights are preferred'
    )
    parser.add_argument('-o', '--out', required=True, help='the file to write')
    args = parser.parse_args()
    return run_guarded(lambda: average(args.sources, args.out))


def average(sources: Sequence[str], out: str) -> int:
    """Writes the mean under `params`; 0."""
    states = [load_network(source).state_dict() for source in sources]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise InputError('the files are of different networks and cannot be averaged')
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    save_atomically({'params': mean}, out)
    print(out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
