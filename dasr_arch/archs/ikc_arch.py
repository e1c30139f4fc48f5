"""IKC: a non-blind network (SFTMD), a kernel predictor and a kernel corrector.

Gu, Lu, Zuo, Dong: Blind Super-Resolution with Iterative Kernel Correction, CVPR 2019, arXiv 1904.03377. The three
networks were checked against outputs of the best-known public code, whose weights load unchanged. A kernel is given by
its code of ten PCA coefficients, see :mod:`dasr_arch.archs.layers.kernel_pca`.
"""

import os
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._errors import check_choice, check_counts, check_kernel_size
from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.contract import KeyMap, SRNetwork
from dasr_arch.archs.layers.conv_stack import chain_convs
from dasr_arch.archs.layers.image_ops import output_conv
from dasr_arch.archs.layers.kernel_pca import KernelPCA, expand_to_maps
from dasr_arch.degradations.kernel_pca import isotropic_basis

SLOPE = 0.2  # of every LeakyReLU
_HIDDEN = 32  # channels of the hidden layer of a gain or shift
_BLOCKS = 16  # as in the public SFTMD
_activation = partial(nn.LeakyReLU, SLOPE)


class SFTLayer(nn.Module):
    """Spatial feature transform (section 3.2): a gain and a shift, predicted from the features and the kernel code."""

    def __init__(self, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.gain = chain_convs(num_feat + code_length, _HIDDEN, num_feat, activation=_activation)
        self.shift = chain_convs(num_feat + code_length, _HIDDEN, num_feat, activation=_activation)

    def forward(self, x: Tensor, code_maps: Tensor) -> Tensor:
        """Transforms features (B, num_feat, h, w), given the kernel code as maps (B, code_length, h, w)."""
        both = torch.cat([x, code_maps.to(x.dtype)], 1)
        out: Tensor = x * self.gain(both).sigmoid() + self.shift(both)
        return out


class SFTResidualBlock(nn.Module):
    """Two SFT layers and two convolutions in turn, with a residual."""

    def __init__(self, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.sft1 = SFTLayer(num_feat, code_length)
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.sft2 = SFTLayer(num_feat, code_length)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, x: Tensor, code_maps: Tensor) -> Tensor:
        """As :meth:`SFTLayer.forward`."""
        out: Tensor = self.conv1(functional.relu(self.sft1(x, code_maps)))
        out = self.conv2(functional.relu(self.sft2(out, code_maps))) + x
        return out


class IKCOutput(NamedTuple):
    """Results of all iterations."""

    sr: Tensor  # the last SR image, RGB of shape (B, 3, h * scale, w * scale), in [0, 1]
    steps: tuple[Tensor, ...]  # SR images of all iterations, the last included
    codes: tuple[Tensor, ...]  # their kernel codes, of shape (B, code_length)


def _list_sftmd_names() -> dict[str, str]:
    """Tensor names in the public SFTMD files, as patterns, and our names."""
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
    """IKC's non-blind super-resolution network: the kernel code modulates the features in every block by SFT layers.

    A second stack of blocks, which the public code saves but never uses, is left out.

    Args:
        scale: upsampling factor, 2, 3 or 4.
        num_feat: channels.
        num_blocks: number of blocks.
        code_length: length of the kernel code.
        kernel_size: size of the kernels in pixels, odd; larger ones are cropped.
        clamp: whether the output is clamped to [0, 1], also in training, as in the public code.
        basis_path: file with the PCA basis of the public weights; by default a basis computed from our degradations and
            saved with the weights.

    Raises:
        ValueError: if an argument is out of range.
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
        self.kernel_code = KernelPCA('SFTMD', isotropic_basis(scale, kernel_size, code_length), basis_path)
        self.head = chain_convs(3, num_feat, num_feat, num_feat, activation=_activation)
        self.blocks = nn.ModuleList(SFTResidualBlock(num_feat, code_length) for _ in range(num_blocks))
        self.last_sft = SFTLayer(num_feat, code_length)
        self.middle_conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        layers: list[nn.Module] = []
        for factor in [2, 2] if scale == 4 else [scale]:
            layers += [nn.Conv2d(num_feat, num_feat * factor**2, 3, padding=1), nn.PixelShuffle(factor), _activation()]
        self.upsampler = nn.Sequential(*layers)
        self.last_conv = nn.Conv2d(num_feat, 3, 9, padding=4)

    def missing_in_released(self) -> dict[str, Tensor]:
        """PCA basis, which the public files lack."""
        return {'kernel_code.basis': self.kernel_code.basis_of_released_weights()}

    def forward(self, lq: Tensor, *, kernel: Tensor | None = None, code: Tensor | None = None) -> Tensor:
        """Super-resolves RGB (B, 3, h, w) in [0, 1] to (B, 3, h * scale, w * scale), in [0, 1] unless ``clamp`` is off.

        ``kernel`` are blur kernels (B, k, k), each summing to 1, or ``code`` the kernel codes (B, code_length).
        ValueError without either, or if a shape does not fit.
        """
        code_maps = expand_to_maps(self.kernel_code(len(lq), kernel, code), lq)
        shallow = self.head(lq)
        features = shallow
        for block in self.blocks:
            features = block(features, code_maps)
        features = self.middle_conv(self.last_sft(features + shallow, code_maps))
        sr = output_conv(self.last_conv, self.upsampler(features))
        return sr.clamp(0, 1) if self.clamp else sr


@ARCH_REGISTRY.register()
class Predictor(SRNetwork):
    """Estimates the kernel code of an image.

    Args:
        code_length: length of the kernel code; 10 for IKC's networks.
        num_feat: channels of the hidden layers.
        signed: leaves out the last LeakyReLU of the public code, which attenuates negative coefficients.

    Raises:
        ValueError: if an argument is out of range.

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
        """Estimates the kernel codes (B, code_length) of RGB (B, 3, h, w) in [0, 1], any size from one pixel up."""
        return _average(self.body(lq))


@ARCH_REGISTRY.register()
class Corrector(SRNetwork):
    """Corrects a kernel code, given the SR image computed with it.

    Args:
        code_length: length of the kernel code.
        num_feat: channels.

    Raises:
        ValueError: if an argument is out of range.

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
        self.fusion = chain_convs(2 * num_feat, 2 * num_feat, num_feat, code_length, side=1, activation=_activation)

    def forward(self, sr: Tensor, code: Tensor) -> Tensor:
        """Corrects the kernel codes (B, code_length) that SR images (B, 3, H, W) were computed with.

        They are RGB in [0, 1], of any size from one pixel up.
        """
        features = self.body(sr)
        embedding = self.code_layers(code.to(sr.dtype))
        return code + _average(self.fusion(torch.cat([features, expand_to_maps(embedding, features)], 1)))


@ARCH_REGISTRY.register()
class IKC(SRNetwork):
    """Blind super-resolution: predicts the kernel code, then alternates between SR image and correction.

    The result is that of the last iteration. The public test script selects the best of seven iterations of every image
    by the ground truth, so published figures may be higher.

    Args:
        scale: upsampling factor, 2, 3 or 4.
        num_feat: channels of all three networks.
        num_blocks: blocks of SFTMD.
        code_length: length of the kernel code.
        num_steps: number of iterations, 1 or more.
        kernel_size: see SFTMD.
        basis_path: see SFTMD; needed only for training.

    Raises:
        ValueError: if an argument is out of range.
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
        """Super-resolves RGB (B, 3, h, w) in [0, 1] to (B, 3, h * scale, w * scale) in [0, 1].

        The result is of the last iteration, or an IKCOutput of all with ``return_steps``.
        """
        code = self.predictor(lq)
        steps, codes = [self.sftmd(lq, code=code)], [code]
        for _ in range(self.num_steps - 1):
            codes.append(self.corrector(steps[-1], codes[-1]))
            steps.append(self.sftmd(lq, code=codes[-1]))
        return IKCOutput(steps[-1], tuple(steps), tuple(codes)) if return_steps else steps[-1]


def _convolve_5x5(widths: list[int], strides: list[int]) -> list[nn.Module]:
    """5 x 5 convolutions with LeakyReLU, from each number of channels to the next."""
    layers: list[nn.Module] = []
    for (before, after), stride in zip(pairwise(widths), strides, strict=True):
        layers += [nn.Conv2d(before, after, 5, stride, padding=2), nn.LeakyReLU(SLOPE)]
    return layers


def _average(x: Tensor) -> Tensor:
    """Global average pooling to shape (B, C), computed in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).mean((-2, -1)).to(x.dtype)
