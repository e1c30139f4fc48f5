"""IKC: a non-blind network, one that predicts the blur kernel, and one that corrects it from what came out.

Gu, Lu, Zuo, Dong: Blind Super-Resolution with Iterative Kernel Correction, CVPR 2019, arXiv 1904.03377. The three
networks were checked against outputs of the best-known public code, whose weights load as they are. A kernel is told as
ten coefficients, see :mod:`dasr_arch.archs.layers.kernel_pca`.
"""

import os
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.key_map import KeyMap
from dasr_arch.archs.layers.argument_checks import check_choice, check_counts, check_kernel_size
from dasr_arch.archs.layers.image_ops import output_conv
from dasr_arch.archs.layers.kernel_pca import KernelCode, stretch
from dasr_arch.archs.layers.sft import SLOPE, FeatureTransform, TransformBlock
from dasr_arch.degradations.kernel_pca import isotropic_basis

_BLOCKS = 16  # of the public SFTMD, which counts them from 1


class IKCOutput(NamedTuple):
    """All steps of the iteration.

    Attributes:
        sr: the last image, RGB of shape (B, 3, h * scale, w * scale), in [0, 1].
        steps: the image of every step, the last included.
        codes: the coefficients that each of them was made with, of shape (B, code_length).
    """

    sr: Tensor
    steps: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]


def _list_sftmd_names() -> dict[str, str]:
    """Patterns of the names in the public SFTMD files, and what they are here."""
    names = {
        r'conv1\.(\w+)': r'head.0.\1',
        r'conv2\.(\w+)': r'head.2.\1',
        r'conv3\.(\w+)': r'head.4.\1',
        r'conv_mid\.(\w+)': r'middle_conv.\1',
        r'upscale\.([03])\.(\w+)': r'upsampler.\1.\2',
        r'conv_output\.(\w+)': r'last_conv.\1',
    }
    layers = {'mul_conv1': 'gain.0', 'mul_conv2': 'gain.2', 'add_conv1': 'shift.0', 'add_conv2': 'shift.2'}
    for theirs, ours in layers.items():
        names[rf'sft\.{theirs}\.(\w+)'] = rf'last_sft.{ours}.\1'
    for number in range(_BLOCKS):
        block = rf'SFT-residual{number + 1}'
        names[rf'{block}\.(conv[12])\.(\w+)'] = rf'blocks.{number}.\1.\2'
        for theirs, ours in layers.items():
            names[rf'{block}\.(sft[12])\.{theirs}\.(\w+)'] = rf'blocks.{number}.\1.{ours}.\2'
    return names


@ARCH_REGISTRY.register()
class SFTMD(SRNetwork):
    """IKC's super-resolution network: a kernel's coefficients scale and shift its features in every block.

    The public code makes and saves a second stack of blocks that it never computes with; it is left out here.

    Args:
        scale: up-sampling factor, 2, 3 or 4.
        num_feat: channels.
        num_blocks: number of blocks.
        code_length: how many numbers tell a kernel.
        kernel_size: side of the kernels in pixels, odd; larger ones are cut around their centre.
        clamp: whether the output is limited to [0, 1], in training too, as in the public code.
        basis_path: file with the kernel basis of the public weights; by default the network's own, computed from our
            degradations and saved with the weights.

    Raises:
        ValueError: if an argument has no such choice.
        InputError: if the basis cannot be read.

    Source:
        Gu et al., CVPR 2019; public code yuanjunchai/IKC (Apache-2.0).
    """

    needs = ('kernel',)
    released_names = KeyMap('conv_mid.weight', _list_sftmd_names(), unused=(r'sft_branch\..*',))

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_blocks: int = _BLOCKS,
        code_length: int = 10,
        kernel_size: int = 21,
        clamp: bool = True,
        basis_path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        check_choice('scale', scale, (2, 3, 4), 'SFTMD')
        check_counts('SFTMD', num_feat=num_feat, num_blocks=num_blocks, code_length=code_length)
        check_kernel_size('SFTMD', kernel_size=kernel_size)
        self.scale = scale
        self.kernel_size = kernel_size
        self.clamp = clamp
        self.kernel_code = KernelCode('SFTMD', isotropic_basis(scale, kernel_size, code_length), basis_path)
        self.head = nn.Sequential(
            nn.Conv2d(3, num_feat, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
        )
        self.blocks = nn.ModuleList(TransformBlock(num_feat, code_length) for _ in range(num_blocks))
        self.last_sft = FeatureTransform(num_feat, code_length)
        self.middle_conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        layers: list[nn.Module] = []
        for factor in [2, 2] if scale == 4 else [scale]:
            layers += [
                nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1),
                nn.PixelShuffle(factor),
                nn.LeakyReLU(SLOPE),
            ]
        self.upsampler = nn.Sequential(*layers)
        self.last_conv = nn.Conv2d(num_feat, 3, 9, padding=4)

    def missing_in_released(self) -> dict[str, Tensor]:
        """Tensors of the network that the public files do not hold."""
        return {'kernel_code.basis': self.kernel_code.basis_of_released_weights()}

    def forward(self, lq: Tensor, *, kernel: Tensor | None = None, code: Tensor | None = None) -> Tensor:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1].
            kernel: blur kernels of shape (B, k, k), each summing to 1.
            code: coefficients of the kernels instead, shape (B, code_length).

        Returns:
            RGB of shape (B, 3, h * scale, w * scale), in [0, 1] unless ``clamp`` is off.

        Raises:
            ValueError: if it is told neither kernel nor code, or a shape does not fit.
        """
        told = stretch(self.kernel_code(len(lq), kernel, code), lq)
        shallow = self.head(lq)
        features = shallow
        for block in self.blocks:
            features = block(features, told)
        features = self.middle_conv(self.last_sft(features + shallow, told))
        sr = output_conv(self.last_conv, self.upsampler(features))
        return sr.clamp(0, 1) if self.clamp else sr


@ARCH_REGISTRY.register()
class Predictor(SRNetwork):
    """Estimates the coefficients of an image's blur kernel.

    Args:
        code_length: how many numbers tell a kernel; 10 for IKC's networks.
        num_feat: channels between.
        signed: whether coefficients below zero come out as they are; IKC ends with a LeakyReLU, which they can hardly
            pass.

    Raises:
        ValueError: if an argument has no such choice.

    Source:
        Gu et al., CVPR 2019; public code yuanjunchai/IKC (Apache-2.0).
    """

    blind = True
    restores = False
    released_names = KeyMap('ConvNet.0.weight', {r'ConvNet\.(\d+)\.(weight|bias)': r'body.\1.\2'})

    def __init__(self, code_length: int = 10, num_feat: int = 64, signed: bool = False) -> None:
        super().__init__()
        check_counts('Predictor', code_length=code_length, num_feat=num_feat)
        layers = _convolve_5x5([3, *([num_feat] * 5), code_length], [1, 1, 1, 2, 1, 1])
        self.body = nn.Sequential(*(layers[:-1] if signed else layers))

    def forward(self, lq: Tensor) -> Tensor:
        """Estimates kernels.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1], any size from one pixel up.

        Returns:
            Coefficients of shape (B, code_length).
        """
        return _average(self.body(lq))


@ARCH_REGISTRY.register()
class Corrector(SRNetwork):
    """Improves the coefficients of a blur kernel, from the image that was made with them.

    Args:
        code_length: how many numbers tell a kernel.
        num_feat: channels.

    Raises:
        ValueError: if an argument has no such choice.

    Source:
        Gu et al., CVPR 2019; public code yuanjunchai/IKC (Apache-2.0).
    """

    blind = True
    restores = False
    released_names = KeyMap(
        'code_dense.0.weight',
        {
            r'ConvNet\.(\d+)\.(weight|bias)': r'body.\1.\2',
            r'code_dense\.([02])\.(weight|bias)': r'code_layers.\1.\2',
            r'global_dense\.([024])\.(weight|bias)': r'fusion.\1.\2',
        },
    )

    def __init__(self, code_length: int = 10, num_feat: int = 64) -> None:
        super().__init__()
        check_counts('Corrector', code_length=code_length, num_feat=num_feat)
        self.body = nn.Sequential(*_convolve_5x5([3, *([num_feat] * 7)], [1, 2, 1, 2, 1, 1, 1]))
        self.code_layers = nn.Sequential(
            nn.Linear(code_length, num_feat), nn.LeakyReLU(SLOPE), nn.Linear(num_feat, num_feat), nn.LeakyReLU(SLOPE)
        )
        self.fusion = nn.Sequential(
            nn.Conv2d(2 * num_feat, 2 * num_feat, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * num_feat, num_feat, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(num_feat, code_length, 1),
        )

    def forward(self, sr: Tensor, code: Tensor) -> Tensor:
        """Corrects coefficients.

        Args:
            sr: super-resolved RGB of shape (B, 3, H, W) in [0, 1], any size from one pixel up.
            code: the coefficients it was made with, shape (B, code_length).

        Returns:
            Better coefficients, of the same shape.
        """
        features = self.body(sr)
        told = self.code_layers(code.to(sr.dtype))
        return code + _average(self.fusion(torch.cat([features, stretch(told, features)], 1)))


@ARCH_REGISTRY.register()
class IKC(SRNetwork):
    """Blind super-resolution: predicts the kernel, then corrects it in turns with the image.

    The result is always that of the last step. The public test script looks at the ground truth for the best of the
    seven steps of every image instead, so published figures may be higher than what the method can know.

    Args:
        scale: up-sampling factor, 2, 3 or 4.
        num_feat: channels of all three networks.
        num_blocks: blocks of SFTMD.
        code_length: how many numbers tell a kernel.
        num_steps: number of images that are made, 1 or more.
        kernel_size: see SFTMD.
        basis_path: see SFTMD; only kernels that are told need it, for training.

    Raises:
        ValueError: if an argument has no such choice.
        InputError: if the basis cannot be read.

    Source:
        Gu et al., CVPR 2019; public code yuanjunchai/IKC (Apache-2.0).
    """

    blind = True
    parts = ('sftmd', 'predictor', 'corrector')

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_blocks: int = _BLOCKS,
        code_length: int = 10,
        num_steps: int = 7,
        kernel_size: int = 21,
        basis_path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        check_counts('IKC', num_steps=num_steps)
        self.scale = scale
        self.num_steps = num_steps
        self.sftmd = SFTMD(scale, num_feat, num_blocks, code_length, kernel_size, basis_path=basis_path)
        self.predictor = Predictor(code_length, num_feat)
        self.corrector = Corrector(code_length, num_feat)

    def forward(self, lq: Tensor, *, return_steps: bool = False) -> Tensor | IKCOutput:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1].
            return_steps: whether all steps come back.

        Returns:
            RGB of shape (B, 3, h * scale, w * scale) in [0, 1], of the last step; with return_steps all of them.
        """
        code = self.predictor(lq)
        steps, codes = [self.sftmd(lq, code=code)], [code]
        for _ in range(self.num_steps - 1):
            codes.append(self.corrector(steps[-1], codes[-1]))
            steps.append(self.sftmd(lq, code=codes[-1]))
        return IKCOutput(steps[-1], tuple(steps), tuple(codes)) if return_steps else steps[-1]


def _convolve_5x5(widths: list[int], strides: list[int]) -> list[nn.Module]:
    """Convolutions from each width to the next, each followed by a LeakyReLU."""
    layers: list[nn.Module] = []
    for (before, after), stride in zip(pairwise(widths), strides, strict=True):
        layers += [nn.Conv2d(before, after, 5, stride, padding=2), nn.LeakyReLU(SLOPE)]
    return layers


def _average(x: Tensor) -> Tensor:
    """Global average of features, shape (B, C), summed in float32 at least; in the type of ``x``."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).mean((-2, -1)).to(x.dtype)
