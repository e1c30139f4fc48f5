"""Enlarges a trained DASR: `python tools/grow_network.py FILE --groups 3 --blocks 6 -o OUT`.

New blocks come last in their group and new groups last in the network. Their last convolution is zero, so that their
residual connection alone is left and the larger network starts training at the figures of the small one.
"""

import argparse
import sys
from typing import Any

import torch

from dasr_arch import InputError
from dasr_arch.archs.dasr_arch import DASR
from dasr_arch.checkpoints.io import build_from_state, infer_arguments, read_dasr_weights
from dasr_arch.models.training_state import save_atomically
from dasr_cli.main import run_guarded


def main() -> int:
    """Reads the arguments and works; 2 if the file cannot be read or the new size is not larger."""
    parser = argparse.ArgumentParser(
        description='Insert groups and blocks that change nothing yet into a trained DASR.'
    )
    parser.add_argument('source', help='a file of a DASR, such as net_g_1000.pth')
    parser.add_argument('--groups', type=int, required=True, help='number of groups of the new network')
    parser.add_argument('--blocks', type=int, required=True, help='blocks in each group of the new network')
    parser.add_argument('-o', '--out', required=True, help='the file to write')
    args = parser.parse_args()
    return run_guarded(lambda: grow_file(args.source, args.groups, args.blocks, args.out))


def grow_file(source: str, groups: int, blocks: int, out: str) -> int:
    """Writes the larger network under `params`, and the projection head if there is one; 0."""
    if not out.endswith('.pth'):
        raise InputError(f'{out}: the name must end in .pth')
    weights = read_dasr_weights(source)
    content: dict[str, Any] = {'params': grow(build_from_state(weights.network, source), groups, blocks).state_dict()}
    head = {key.removeprefix('projection.'): value for key, value in weights.contrast.items() if 'projection.' in key}
    save_atomically(content | ({'projection': head} if head else {}), out)
    print(out)
    return 0


def grow(network: DASR, groups: int, blocks: int) -> DASR:
    """A larger network of the same output. Raises InputError if the size is smaller, or nothing is added."""
    old_groups, old_blocks = len(network.groups), len(network.groups[0].blocks)
    if groups < old_groups or blocks < old_blocks or (groups, blocks) == (old_groups, old_blocks):
        raise InputError(
            f'{groups} groups of {blocks} blocks are not larger than {old_groups} groups of {old_blocks} blocks; '
            'choose more groups or blocks'
        )
    state = network.state_dict()
    larger = DASR(**{**infer_arguments(state), 'num_groups': groups, 'num_blocks': blocks})
    larger.load_state_dict(state, strict=False)
    for index, group in enumerate(larger.groups):
        if index >= old_groups:
            _set_zero(group.conv)
        for block in group.blocks[old_blocks:]:
            _set_zero(block.conv2)
    return larger.eval()


def _set_zero(conv: torch.nn.Conv2d) -> None:
    for parameter in conv.parameters():
        torch.nn.init.zeros_(parameter)


if __name__ == '__main__':
    sys.exit(main())
