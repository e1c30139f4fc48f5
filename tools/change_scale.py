"""Carries a trained DASR over to another scale: `python tools/change_scale.py FILE --scale 3 -o OUT`.

For networks whose up-sampler is one convolution and a pixel shuffle (`upsampler: direct`), such as DASR-S. Each output
pixel of the new scale becomes the mean of those of the old scale that it covers, so that the training starts near the
trained network, not from random weights of the last convolution.
"""

import argparse
import sys

import torch
from torch import Tensor

from dasr_arch import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.io import build_from_state, infer_arguments, read_dasr_weights
from dasr_arch.models.training_state import save_atomically
from dasr_cli.main import run_guarded


def main() -> int:
    """Reads the arguments and works; 2 if the file cannot be read or its network has another up-sampler."""
    parser = argparse.ArgumentParser(description='Carry a trained DASR over to another scale, as a start of training.')
    parser.add_argument('source', help='a file of a DASR, such as net_g_1000.pth')
    parser.add_argument('--scale', type=int, choices=(2, 3, 4), required=True, help='scale of the new network')
    parser.add_argument('-o', '--out', required=True, help='the file to write')
    args = parser.parse_args()
    return run_guarded(lambda: change_file(args.source, args.scale, args.out))


def change_file(source: str, scale: int, out: str) -> int:
    """Writes the network of the new scale under `params`; 0."""
    if not out.endswith('.pth'):
        raise InputError(f'{out}: the name must end in .pth')
    network = build_from_state(read_dasr_weights(source).network, source)
    save_atomically({'params': change_scale(network, scale).state_dict()}, out)
    print(out)
    return 0


def change_scale(network: DASR, scale: int) -> DASR:
    """A network of another scale with the same features. Raises InputError if the up-sampler is not direct."""
    state = network.state_dict()
    arguments = infer_arguments(state)
    if arguments['upsampler'] != 'direct':
        raise InputError(
            f'the up-sampler is {arguments["upsampler"]}; only networks with `upsampler: direct` are carried'
        )
    new = DASR(**{**arguments, 'scale': scale})
    matrix = overlap(arguments['scale'], scale)
    for name, own in new.state_dict().items():
        if name.startswith('last_conv.'):
            own.copy_(_resample(state[name], matrix))
        elif own.shape == state[name].shape:  # not the Wiener filters of a scale
            own.copy_(state[name])
    return new.eval()


def overlap(old: int, new: int) -> Tensor:
    """Shares (new, old) of the old pixels of an interval in each of its new pixels; rows sum to 1."""
    starts, widths = torch.arange(new)[:, None] / new, 1 / new
    covered = torch.arange(old)[None] / old
    shared = torch.minimum(starts + widths, covered + 1 / old) - torch.maximum(starts, covered)
    return shared.clamp(min=0) * new


def _resample(parameter: Tensor, matrix: Tensor) -> Tensor:
    """Weight or bias of the last convolution, whose channels are colour, row and column within an input pixel."""
    new, old = matrix.shape
    grid = parameter.reshape(3, old, old, -1)
    return torch.einsum('ya,xb,cabr->cyxr', matrix, matrix, grid).reshape(3 * new**2, *parameter.shape[1:])


if __name__ == '__main__':
    sys.exit(main())
