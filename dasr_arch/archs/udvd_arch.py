"""UDVD: non-blind super-resolution with dynamic convolutions, a predicted kernel for every pixel.

Xu, Tseng, Tseng, Kuo, Tsai: Unified Dynamic Convolutional Network for Super-Resolution with Variational Degradations,
CVPR 2020, arXiv 2004.06965. There is no public code of the authors to compare with.
"""

import os
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import check_choice, check_counts, check_kernel_size
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.layers.conv_stack import chain_convs
from dasr_arch.archs.layers.image_ops import output_conv
from dasr_arch.archs.layers.kernel_pca import KernelPCA, expand_to_maps, noise_map
from dasr_arch.degradations.kernel_pca import anisotropic_basis

_IMAGE_FEAT = 32  # image features of a dynamic block
_RESIDUAL_FEAT = 16  # channels before the residual image


class UDVDOutput(NamedTuple):
    """Outputs of all dynamic blocks, at the output size; the paper's loss is summed over them."""

    sr: Tensor  # the last output, RGB of shape (B, 3, h * scale, w * scale), around [0, 1]
    stages: tuple[Tensor, ...]  # all outputs in order, the last included


@ARCH_REGISTRY.register()
class UDVD(SRNetwork):
    """Super-resolution for known degradations, which may vary within the image.

    From the paper, by public descriptions of it: the input is the image with 15 PCA coefficients and the noise level,
    as in SRMD; residual blocks compute features at LR size; one upsampling dynamic block and two at HR size follow,
    with 5 x 5 kernels, not normalised and shared by R, G and B. The order of the blocks and the sharing are not
    confirmed.

    Ours, where the descriptions are silent or specific to x2: the upsampling of the features (1 x 1 convolution, pixel
    shuffle, 1 x 1 convolution), the factor 0.1 of the residual blocks, the order of the taps, the value range [0, 1].

    Args:
        scale: upsampling factor, 2, 3 or 4.
        num_feat: channels of the features.
        num_blocks: number of residual blocks.
        num_refine: number of dynamic blocks at HR size.
        dynamic_size: size of the predicted kernels in pixels, odd.
        res_scale: factor of the residual branch.
        kernel_size: size of the blur kernels in pixels, odd; larger ones are cropped.
        num_components: length of the kernel code.
        basis_path: file with another PCA basis; by default a basis computed from our degradations and saved with the
            weights.

    Raises:
        ValueError: if an argument is out of range.
        InputError: if the basis cannot be read.

    Source:
        Xu et al., CVPR 2020; sizes from public descriptions of it.
    """

    needs = ('kernel', 'noise_level')

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 128,
        num_blocks: int = 15,
        num_refine: int = 2,
        dynamic_size: int = 5,
        res_scale: float = 0.1,
        kernel_size: int = 15,
        num_components: int = 15,
        basis_path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        check_choice('scale', scale, (2, 3, 4), 'UDVD')
        check_counts('UDVD', num_feat=num_feat, num_blocks=num_blocks, num_components=num_components)
        check_kernel_size('UDVD', dynamic_size=dynamic_size, kernel_size=kernel_size)
        if num_refine < 0:
            raise ValueError(f'num_refine must be 0 or more for UDVD, got {num_refine}')
        self.scale = scale
        self.kernel_size = kernel_size
        self.kernel_code = KernelPCA('UDVD', anisotropic_basis(scale, kernel_size, num_components), basis_path)
        self.head = nn.Conv2d(3 + num_components + 1, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(_ResidualBlock(num_feat, res_scale) for _ in range(num_blocks)))
        self.up = DynamicBlock(num_feat, dynamic_size, scale)
        self.refine = nn.ModuleList(DynamicBlock(num_feat, dynamic_size, align=scale) for _ in range(num_refine))

    def forward(
        self,
        lq: Tensor,
        *,
        kernel: Tensor | None = None,
        noise_level: Tensor | None = None,
        code: Tensor | None = None,
        return_stages: bool = False,
    ) -> Tensor | UDVDOutput:
        """Super-resolves images; arguments, result and errors as :meth:`dasr_arch.archs.srmd_arch.SRMD.forward`.

        With ``return_stages`` the result is a UDVDOutput, with the outputs of all dynamic blocks.
        """
        code_maps = expand_to_maps(self.kernel_code(len(lq), kernel, code), lq)
        features = self.head(torch.cat([lq, code_maps, noise_map(noise_level, lq)], 1))
        features = self.body(features) + features
        stages = [self.up(lq, features)]
        for block in self.refine:
            stages.append(block(stages[-1], features))
        return UDVDOutput(stages[-1], tuple(stages)) if return_stages else stages[-1]


class DynamicBlock(nn.Module):
    """Filters an image with predicted per-pixel kernels and adds a predicted residual image.

    ``align`` is the ratio of image size to feature size.
    """

    def __init__(self, num_feat: int, dynamic_size: int, scale: int = 1, align: int = 1) -> None:
        super().__init__()
        self.scale = scale
        self.image_conv = chain_convs(3, 16, 16, _IMAGE_FEAT)
        self.align: nn.Module = nn.Identity()
        if align > 1:
            layers = [nn.Conv2d(num_feat, 32 * align**2, 1), nn.PixelShuffle(align), nn.Conv2d(32, num_feat, 1)]
            self.align = nn.Sequential(*layers)
        both = _IMAGE_FEAT + num_feat
        self.feat_kernel = nn.Conv2d(both, dynamic_size**2 * scale**2, 3, padding=1)
        self.feat_residual = nn.Sequential(
            nn.Conv2d(both, _RESIDUAL_FEAT * scale**2, 3, padding=1),
            nn.ReLU(),
            *([nn.PixelShuffle(scale)] if scale > 1 else []),
            nn.Conv2d(_RESIDUAL_FEAT, 3, 3, padding=1),
        )

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """Refines RGB (B, 3, H, W) to (B, 3, H * scale, W * scale); features have sides H / align and W / align."""
        both = torch.cat([self.image_conv(image), self.align(features)], 1)
        filtered = convolve_dynamically(image, self.feat_kernel(both), self.scale)
        *layers, last = self.feat_residual
        for layer in layers:
            both = layer(both)
        return filtered + output_conv(last, both)


def convolve_dynamically(image: Tensor, kernels: Tensor, scale: int = 1) -> Tensor:
    """Dynamic convolution, zero-padded: every output pixel of (B, C, H * scale, W * scale) has its own kernel.

    Kernels, (B, k * k * scale * scale, H, W), are ordered by tap and then by sub-pixel, each row by row. The result has
    the type of the image (B, C, H, W).
    """
    batch, channels, height, width = image.shape
    side = round((kernels.shape[1] / scale**2) ** 0.5)
    with torch.autocast(image.device.type, enabled=False):
        taps = functional.unfold(image, side, padding=side // 2)
        taps = taps.reshape(batch, channels, side**2, height, width)
        weights = kernels.to(image.dtype).reshape(batch, side**2, scale**2, height, width)
        out = torch.einsum('bcthw,btshw->bcshw', taps, weights)
        return functional.pixel_shuffle(out.reshape(batch, channels * scale**2, height, width), scale)


class _ResidualBlock(nn.Module):
    """Two convolutions, scaled and added to the input."""

    def __init__(self, num_feat: int, res_scale: float) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.conv = chain_convs(num_feat, num_feat, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.res_scale * self.conv(x)
        return out
