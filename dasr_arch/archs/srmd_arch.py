"""SRMD and SRMDNF: non-blind networks for a known blur kernel and, with SRMD, a known noise level.

Zhang, Zuo, Zhang: Learning a Single Convolutional Super-Resolution Network for Multiple Degradations, CVPR 2018.
Checked against outputs of the authors' public PyTorch code (KAIR), whose weights load unchanged; their PCA basis of
kernels is a separate file (``srmd_pca_matlab.mat``).
"""

import math
import os

import torch
from torch import Tensor, nn

from dasr_arch._errors import check_choice, check_counts, check_kernel_size
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import KeyMap, SRNetwork
from dasr_arch.archs.layers.conv_stack import ConvReLUStack
from dasr_arch.archs.layers.kernel_pca import KernelPCA, expand_to_maps, noise_map
from dasr_arch.degradations.kernel_pca import anisotropic_basis


@ARCH_REGISTRY.register()
class SRMDNF(SRNetwork):
    """Super-resolution for a known blur kernel, without noise.

    The initialisation is ours, see :meth:`ConvReLUStack.init_he`.

    Args:
        scale: upsampling factor, 2, 3 or 4.
        num_feat: channels of the hidden layers.
        num_layers: number of convolutions.
        kernel_size: size of the kernels in pixels, odd; larger ones are cropped.
        num_components: length of the kernel code.
        basis_path: file with the PCA basis of the authors' weights; by default a basis computed from our degradations
            and saved with the weights.

    Raises:
        ValueError: if an argument is out of range.
        InputError: if the basis cannot be read.

    Source:
        Zhang et al., CVPR 2018; public code in KAIR (MIT).
    """

    needs: tuple[str, ...] = ('kernel',)
    released_names = KeyMap('model.0.weight', {r'model\.(\d+)\.(weight|bias)': r'body.\1.\2'})

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 128,
        num_layers: int = 12,
        kernel_size: int = 15,
        num_components: int = 15,
        basis_path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_choice('scale', scale, (2, 3, 4), name)
        check_counts(name, num_feat=num_feat, num_layers=num_layers, num_components=num_components)
        check_kernel_size(name, kernel_size=kernel_size)
        self.scale = scale
        self.kernel_size = kernel_size
        # The paper's variances reach 6, 8 and 10 for x2, x3 and x4; DASR's widths reach the scale.
        own = anisotropic_basis(max(scale, math.sqrt(2 + 2 * scale)), kernel_size, num_components)
        self.kernel_code = KernelPCA(name, own, basis_path)
        conditions = num_components + ('noise_level' in self.needs)
        self.body = ConvReLUStack(3 + conditions, num_feat, 3 * scale**2, num_layers)
        self.body.init_he()
        self.shuffle = nn.PixelShuffle(scale)

    def missing_in_released(self) -> dict[str, Tensor]:
        """PCA basis, which the authors' files lack."""
        return {'kernel_code.basis': self.kernel_code.basis_of_released_weights()}

    def forward(self, lq: Tensor, *, kernel: Tensor | None = None, code: Tensor | None = None) -> Tensor:
        """Super-resolves RGB (B, 3, h, w) in [0, 1] to (B, 3, h * scale, w * scale), around [0, 1], not clamped.

        ``kernel`` are blur kernels (B, k, k), each summing to 1, or ``code`` their PCA codes (B, num_components), for
        spatially varying blur (B, num_components, h, w). ValueError without either, or if a shape does not fit.
        """
        return self._restore(lq, expand_to_maps(self.kernel_code(len(lq), kernel, code), lq))

    def _restore(self, lq: Tensor, *conditions: Tensor) -> Tensor:
        out: Tensor = self.shuffle(self.body(torch.cat([lq, *conditions], 1)))
        return out


@ARCH_REGISTRY.register()
class SRMD(SRMDNF):
    """Super-resolution for a known blur kernel and a known noise level; arguments as :class:`SRMDNF`."""

    needs = ('kernel', 'noise_level')

    def forward(
        self, lq: Tensor, *, kernel: Tensor | None = None, noise_level: Tensor | None = None, code: Tensor | None = None
    ) -> Tensor:
        """Super-resolves images, as :meth:`SRMDNF.forward`.

        ``noise_level`` holds standard deviations of the noise on the scale 0..255, shape (B,), or (B, 1, h, w) for
        spatially varying noise, else ValueError; by default 0.
        """
        code_maps = expand_to_maps(self.kernel_code(len(lq), kernel, code), lq)
        return self._restore(lq, code_maps, noise_map(noise_level, lq))
