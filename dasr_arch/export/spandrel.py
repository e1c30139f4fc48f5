"""DASR for spandrel, the loader behind the usual desktop upscalers: our weights and the authors' become a descriptor.

::

    from dasr_arch.export.spandrel import install
    from spandrel import ModelLoader

    install()
    model = ModelLoader().load_from_file('dasr_s_x4_iso.safetensors')

This module needs spandrel, the extra of that name.
"""

from typing import Any

from torch import Tensor

from dasr_arch._extras import import_extra
from dasr_arch.checkpoints.dasr_keys import is_released
from dasr_arch.checkpoints.io import build_from_state, read_dasr_weights

spandrel = import_extra('spandrel', 'spandrel')

ARCHITECTURE_ID = 'DASR-representation'
"""Not 'DASR', because two other networks have that name."""


class DASRArchitecture(spandrel.Architecture):  # type: ignore[misc, name-defined]
    """Recognises a DASR by its keys and builds it from names and shapes alone."""

    def __init__(self) -> None:
        super().__init__(id=ARCHITECTURE_ID, name='DASR', detect=is_dasr)

    def load(self, state_dict: dict[str, Any]) -> Any:
        """Builds the network from tensors under our names or the authors'; those of training are left out.

        Returns an ImageModelDescriptor. Each image is to be given whole: the network adapts to the degradation of its
        input, which would differ from tile to tile. Raises InputError if tensors are missing, too many, or of the wrong
        shape, or the network is not blind.
        """
        state = read_dasr_weights({key: value for key, value in state_dict.items() if isinstance(value, Tensor)})
        network = build_from_state(state.network)
        return spandrel.ImageModelDescriptor(
            network.eval().requires_grad_(False),
            network.state_dict(),
            architecture=self,
            purpose='Restoration' if network.scale == 1 else 'SR',
            tags=[f'{network.head.out_channels}nf', f'{len(network.groups)}ng'],
            supports_half=False,
            supports_bfloat16=False,  # pixels in 0..255 need more than its 8 bits
            scale=network.scale,
            input_channels=3,
            output_channels=3,
            tiling=spandrel.ModelTiling.DISCOURAGED,
        )


def is_dasr(state_dict: dict[str, Any]) -> bool:
    """True for the state dict of a blind DASR, ours or the authors'."""
    ours = ('compress.weight', 'body_conv.weight', 'head.weight', 'encoder.body.0.weight')
    theirs = ('G.compress.0.weight', 'E.encoder_q.E.0.weight')
    return all(key in state_dict for key in ours) or (
        is_released(state_dict) and all(key in state_dict for key in theirs)
    )


def install(registry: Any = None) -> None:
    """Registers the architecture; doing so again changes nothing.

    Without an ArchRegistry of spandrel it is MAIN_REGISTRY, which every ModelLoader without its own reads.
    """
    registry = spandrel.MAIN_REGISTRY if registry is None else registry
    registry.add(spandrel.ArchSupport.from_architecture(DASRArchitecture()), ignore_duplicates=True)
