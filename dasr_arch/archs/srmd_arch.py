"""SRMD and SRMDNF: plain networks that are told the blur kernel, and SRMD also the noise level.

Zhang, Zuo, Zhang: Learning a Single Convolutional Super-Resolution Network for Multiple Degradations, CVPR 2018.
Checked against outputs of the authors' public PyTorch code (KAIR), whose weights load as they are; the kernel basis of
these weights is a file of its own (``srmd_pca_matlab.mat``).
"""

import math
import os

import torch
from torch import Tensor, nn

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.key_map import KeyMap
from dasr_arch.archs.layers.argument_checks import check_choice, check_counts, check_kernel_size
from dasr_arch.archs.layers.conv_stack import PlainConvolutions
from dasr_arch.archs.layers.kernel_pca import KernelCode, noise_map, stretch
from dasr_arch.degradations.kernel_pca import anisotropic_basis


@ARCH_REGISTRY.register()
class SRMDNF(SRNetwork):
    """Super-resolution for a known blur kernel, without noise.

    Initial weights are ours: those that keep the variance (:meth:`PlainConvolutions.keep_variance`).

    Args:
        scale: up-sampling factor, 2, 3 or 4.
        num_feat: channels between.
        num_layers: number of convolutions.
        kernel_size: side of the kernels in pixels, odd; larger ones are cut around their centre.
        num_components: how many numbers tell a kernel.
        basis_path: file with the kernel basis of the authors' weights; by default the network's own, which is computed
            from our degradations and saved with the weights.

    Raises:
        ValueError: if an argument has no such choice.
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
        # The paper's variances reach 6, 8 and 10 at x2, x3 and x4; DASR's widths reach the scale.
        own = anisotropic_basis(max(scale, math.sqrt(2 + 2 * scale)), kernel_size, num_components)
        self.kernel_code = KernelCode(name, own, basis_path)
        facts = num_components + ('noise_level' in self.needs)
        self.body = PlainConvolutions(3 + facts, num_feat, 3 * scale**2, num_layers)
        self.body.keep_variance()
        self.shuffle = nn.PixelShuffle(scale)

    def missing_in_released(self) -> dict[str, Tensor]:
        """Tensors of the network that the authors' files do not hold."""
        return {'kernel_code.basis': self.kernel_code.basis_of_released_weights()}

    def forward(self, lq: Tensor, *, kernel: Tensor | None = None, code: Tensor | None = None) -> Tensor:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1].
            kernel: blur kernels of shape (B, k, k), each summing to 1.
            code: coefficients of the kernels instead, shape (B, num_components), or (B, num_components, h, w) where the
                blur changes within the image.

        Returns:
            RGB of shape (B, 3, h * scale, w * scale), around [0, 1], not clamped.

        Raises:
            ValueError: if it is told neither kernel nor code.
        """
        return self._restore(lq, stretch(self.kernel_code(len(lq), kernel, code), lq))

    def _restore(self, lq: Tensor, *facts: Tensor) -> Tensor:
        out: Tensor = self.shuffle(self.body(torch.cat([lq, *facts], 1)))
        return out


@ARCH_REGISTRY.register()
class SRMD(SRMDNF):
    """Super-resolution for a known blur kernel and a known noise level; arguments as :class:`SRMDNF`."""

    needs = ('kernel', 'noise_level')

    def forward(
        self,
        lq: Tensor,
        *,
        kernel: Tensor | None = None,
        noise_level: Tensor | None = None,
        code: Tensor | None = None,
    ) -> Tensor:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1].
            kernel: blur kernels of shape (B, k, k), each summing to 1.
            noise_level: standard deviations of the noise on the scale 0..255, shape (B,), or (B, 1, h, w) where the
                noise changes within the image; by default none.
            code: coefficients of the kernels instead, as in :class:`SRMDNF`.

        Returns:
            RGB of shape (B, 3, h * scale, w * scale), around [0, 1], not clamped.

        Raises:
            ValueError: if it is told neither kernel nor code, or the noise level's shape does not fit.
        """
        told = stretch(self.kernel_code(len(lq), kernel, code), lq)
        return self._restore(lq, told, noise_map(noise_level, lq))
