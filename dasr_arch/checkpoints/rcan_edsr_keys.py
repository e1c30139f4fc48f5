"""Key maps of the authors' RCAN and EDSR checkpoints for BasicSR's networks.

The authors' networks begin and end with a 1 x 1 convolution that shifts the mean colour, where BasicSR's have a
constant. RCAN's was trained, because freezing it had no effect; it is merged into the adjacent convolutions exactly.

Sources: Zhang et al., ECCV 2018 (RCAN); Lim et al., CVPRW 2017 (EDSR); names of their public checkpoints.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dasr_arch._errors import InputError
from dasr_arch.archs.contract import KeyMap

_TENSOR = r'(weight|bias)'
_COMMON = {
    rf'head\.0\.{_TENSOR}': r'conv_first.\1',
    rf'body\.(\d+)\.{_TENSOR}': r'conv_after_body.\2',
    rf'tail\.0\.(\d+)\.{_TENSOR}': r'upsample.\1.\2',
    rf'tail\.1\.{_TENSOR}': r'conv_last.\1',
}
_NAMES = {
    'RCAN': KeyMap(
        'head.0.weight',
        {
            rf'body\.(\d+)\.body\.(\d+)\.body\.([02])\.{_TENSOR}': r'body.\1.residual_group.\2.rcab.\3.\4',
            rf'body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.0\.{_TENSOR}': (
                r'body.\1.residual_group.\2.rcab.3.attention.1.\3'
            ),
            rf'body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.2\.{_TENSOR}': (
                r'body.\1.residual_group.\2.rcab.3.attention.3.\3'
            ),
            rf'body\.(\d+)\.body\.(\d+)\.{_TENSOR}': r'body.\1.conv.\3',
            **_COMMON,
        },
    ),
    'EDSR': KeyMap(
        'head.0.weight',
        {
            rf'body\.(\d+)\.body\.0\.{_TENSOR}': r'body.\1.conv1.\2',
            rf'body\.(\d+)\.body\.2\.{_TENSOR}': r'body.\1.conv2.\2',
            **_COMMON,
        },
    ),
}


def find_released_names(network: nn.Module) -> KeyMap | None:
    """Key map of the authors' checkpoints for BasicSR's RCAN and EDSR; None for all other networks."""
    kind = type(network)
    return _NAMES.get(kind.__name__) if kind.__module__.startswith('basicsr.') else None


def absorb_mean_shift(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Merges the authors' colour shifts into the adjacent convolutions and the ``mean`` of BasicSR's RCAN or EDSR.

    Takes tensors under the authors' names, with or without 'sub_mean' and 'add_mean', and returns them without these.
    InputError if a shift is incomplete or cannot be inverted.
    """
    names = [f'{layer}.{tensor}' for layer in ('sub_mean', 'add_mean') for tensor in ('weight', 'bias')]
    rest = {name: tensor for name, tensor in state.items() if name not in names}
    if len(rest) == len(state):
        return rest
    absent = [name for name in [*names, 'head.0.weight', 'tail.1.weight', 'tail.1.bias'] if name not in state]
    if absent:
        raise InputError(f"the checkpoint shifts the mean colour but holds no '{absent[0]}'")
    _check_shapes(state)
    scale, shift, scale_back, shift_back = (state[name].double() for name in names)
    scale, scale_back = scale.flatten(1), scale_back.flatten(1)
    levels: float = network.img_range  # type: ignore[assignment]
    try:
        mean = torch.linalg.solve(scale, -shift)  # in grey levels: scale @ x + shift = scale @ (x - mean)
    except RuntimeError as error:
        raise InputError("'sub_mean.weight' of the checkpoint cannot be inverted") from error
    first, last, bias = (state[name].double() for name in ('head.0.weight', 'tail.1.weight', 'tail.1.bias'))
    rest['head.0.weight'] = torch.einsum('ocij,cd->odij', first, scale).to(state['head.0.weight'].dtype)
    rest['tail.1.weight'] = torch.einsum('po,ocij->pcij', scale_back, last).to(state['tail.1.weight'].dtype)
    rest['tail.1.bias'] = (scale_back @ bias + shift_back - mean).to(state['tail.1.bias'].dtype)
    network.mean = (mean / levels).float().reshape(1, 3, 1, 1)
    return rest


def _check_shapes(state: Mapping[str, Tensor]) -> None:
    """Raises InputError for shapes that cannot be merged."""
    for layer in ('sub_mean', 'add_mean'):
        for name, shape in ((f'{layer}.weight', (3, 3, 1, 1)), (f'{layer}.bias', (3,))):
            if tuple(state[name].shape) != shape:
                raise InputError(f"'{name}' of the checkpoint has shape {tuple(state[name].shape)}, expected {shape}")
    for name, axis in (('head.0.weight', 1), ('tail.1.weight', 0)):
        if state[name].ndim != 4 or state[name].shape[axis] != 3:
            raise InputError(f"'{name}' of the checkpoint has shape {tuple(state[name].shape)}, expected 3 colours")
