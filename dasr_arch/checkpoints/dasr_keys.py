"""Key map of the authors' released DASR checkpoints.

Released files contain ``G`` (super-resolution network) and ``E.encoder_q`` (encoder with projection head), and may
contain the key encoder and the queue of the training.
"""

from collections.abc import Mapping

from torch import Tensor

from dasr_arch.archs.contract import KeyMap

# Our names with the prefix 'contrast:' belong to the contrastive part, all others to the network.
_BLOCK, _GROUP = r'G\.body\.(\d+)\.body\.(\d+)', r'groups.\1.blocks.\2'
_NAMES = KeyMap(
    'G.head.0.weight',
    {
        r'G\.head\.0\.(weight|bias)': r'head.\1',
        r'G\.compress\.0\.weight': r'compress.weight',
        _BLOCK + r'\.(da_conv[12])\.kernel\.([02])\.weight': _GROUP + r'.\3.kernel.\4.weight',
        _BLOCK + r'\.(da_conv[12])\.conv\.(weight|bias)': _GROUP + r'.\3.pointwise.\4',
        _BLOCK + r'\.(da_conv[12])\.ca\.conv_du\.([02])\.weight': _GROUP + r'.\3.modulation.\4.weight',
        _BLOCK + r'\.(conv[12])\.(weight|bias)': _GROUP + r'.\3.\4',
        r'G\.body\.(\d+)\.body\.\d+\.(weight|bias)': r'groups.\1.conv.\2',
        r'G\.body\.\d+\.(weight|bias)': r'body_conv.\1',
        r'G\.tail\.0\.([02])\.(weight|bias)': r'upsampler.\1.\2',
        r'G\.tail\.1\.(weight|bias)': r'last_conv.\1',
        r'E\.encoder_q\.E\.(\d+)\.(\w+)': r'encoder.body.\1.\2',
        r'E\.encoder_q\.mlp\.([02])\.(weight|bias)': r'contrast:projection.\1.\2',
        r'E\.encoder_k\.E\.(\d+)\.(\w+)': r'contrast:encoder_k.body.\1.\2',
        r'E\.encoder_k\.mlp\.([02])\.(weight|bias)': r'contrast:projection_k.\1.\2',
        r'E\.(queue|queue_ptr)': r'contrast:\1',
    },
    unused=(r'G\.(sub|add)_mean\.(weight|bias)',),  # constants: the shift by the mean colour of DIV2K
)
is_released = _NAMES.is_released
our_name = _NAMES.our_name  # with the prefix 'contrast:' for the contrastive part; None for constants and unknown names


def translate(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Splits a released state dict into the network's, the contrastive part's (maybe empty), and the unknown names."""
    translated, unknown = _NAMES.translate(state)
    network: dict[str, Tensor] = {}
    contrast: dict[str, Tensor] = {}
    for name, tensor in translated.items():
        if name.startswith('contrast:'):
            contrast[name.removeprefix('contrast:')] = tensor
        else:
            network[name] = tensor.flatten(1) if '.modulation.' in name else tensor
    return network, contrast, unknown
