"""DASR: a super-resolution network that adapts to the degradation which its encoder finds in the image.

Wang, Wang, Dong, Xu, Yang, An, Guo: Unsupervised Degradation Representation Learning for Blind Super-Resolution,
CVPR 2021, arXiv 2104.00416. Checked against outputs of the authors' released code.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dasr_arch._registration import ARCH_REGISTRY
from dasr_arch.archs.blocks import SLOPE, DAConvKind, DAGroup, PixelShuffleUpsampler
from dasr_arch.archs.contract import SRNetwork
from dasr_arch.archs.encoder import DegradationEncoder, KernelEncoder
from dasr_arch.archs.layers.argument_checks import check_choice
from dasr_arch.archs.layers.wiener_skip import WienerUpsampler
from dasr_arch.backends.cache import DerivedWeights
from dasr_arch.backends.collapsed_tail import SMALLEST_SIDE, CollapsedTail, run_recorded
from dasr_arch.backends.depthwise import convolve_each, convolve_shifted
from dasr_arch.backends.ncnn_body import NcnnBody, NcnnEncoder
from dasr_arch.backends.ncnn_net import has_ncnn, import_ncnn
from dasr_arch.backends.onednn import (
    can_fuse,
    can_fuse_body,
    compute_dtype,
    encode_fused,
    is_exported,
    is_inferred_on_cpu,
    run_body_fused,
)
from dasr_arch.backends.reference import convolve_grouped
from dasr_arch.backends.winograd_wgrad import Conv3x3
from dasr_arch.degradations.resize import upsample_bicubic

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB, in [0, 1]
RELEASED_RANGE = 255.0
LARGE_FOR_A_GPU = 256 * 256  # LR pixels; with fewer it waits for the next kernel (docs/performance.md)


Implementation = Literal['auto', 'reference', 'fast', 'ncnn']
Skip = Literal['none', 'bicubic', 'wiener']


class DASROutput(NamedTuple):
    """An image and what it was adapted to.

    Attributes:
        sr: RGB of shape (B, 3, h * scale, w * scale), around [0, 1].
        representation: shape (B, representation_dim).
    """

    sr: Tensor
    representation: Tensor


@ARCH_REGISTRY.register()
class DASR(SRNetwork):
    """Degradation-aware blind super-resolution, as used at test: encoder and super-resolution network.

    The key encoder, the queue and the projection head of the contrastive training belong to the training alone:
    see :class:`dasr_arch.losses.contrastive.MomentumContrast`.

    Args:
        scale: up-sampling factor, 1, 2, 3, 4 or 8; the paper has 2, 3 and 4.
        num_feat: channels of the super-resolution network.
        num_groups: number of degradation-aware groups.
        num_blocks: blocks in each group.
        representation_dim: length of the degradation representation.
        encoder_feat: channels of the encoder's first convolutions.
        reduction: divisor of the hidden width of the channel modulation.
        img_range: maximum of the pixel values inside the network; the released weights need 255.
        upsampler: 'pixelshuffle' as in the paper, or 'direct': one convolution straight to the pixels of the output.
        skip: 'bicubic' adds the bicubically enlarged input to the output, so that the network learns the rest; 'wiener'
            adds what a linear filter makes of it that the representation chooses, see WienerUpsampler (ours).
        da_conv: 'full'; 'kernel' without channel modulation (Model 3); 'concat' plain convolutions that see the code
            as feature maps (Model 2).
        condition: 'encoder'; 'kernel' is told the blur kernel instead of finding the degradation (Model 5).
        kernel_size: side of that kernel in pixels.
        implementation: 'reference' computes as the released code does; 'fast' gives the same values in less time, and
            'ncnn' in still less; 'auto' is what is faster. See :meth:`set_implementation`.

    Raises:
        ValueError: if an argument has no such choice, or ncnn is asked for and not installed.
    """

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_groups: int = 5,
        num_blocks: int = 5,
        representation_dim: int = 256,
        encoder_feat: int = 64,
        reduction: int = 8,
        img_range: float = RELEASED_RANGE,
        upsampler: Literal['pixelshuffle', 'direct'] = 'pixelshuffle',
        skip: Skip = 'none',
        da_conv: DAConvKind = 'full',
        condition: Literal['encoder', 'kernel'] = 'encoder',
        kernel_size: int = 21,
        implementation: Implementation = 'auto',
    ) -> None:
        super().__init__()
        check_choice('scale', scale, (1, 2, 3, 4, 8), 'DASR')
        check_choice('upsampler', upsampler, ('pixelshuffle', 'direct'), 'DASR')
        check_choice('skip', skip, ('none', 'bicubic', 'wiener'), 'DASR')
        check_choice('da_conv', da_conv, ('full', 'kernel', 'concat'), 'DASR')
        check_choice('condition', condition, ('encoder', 'kernel'), 'DASR')
        if num_feat < reduction or min(num_groups, num_blocks, representation_dim, encoder_feat, reduction) < 1:
            raise ValueError(
                'num_feat, num_groups, num_blocks, representation_dim, encoder_feat and reduction must be positive '
                f'and num_feat at least reduction, got {num_feat}, {num_groups}, {num_blocks}, {representation_dim}, '
                f'{encoder_feat} and {reduction}'
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd and positive, got {kernel_size}')
        if not img_range > 0:
            raise ValueError(f'img_range must be positive, got {img_range}')
        self.scale = scale
        self.img_range = img_range
        self.blind = condition == 'encoder'
        self.needs = () if self.blind else ('kernel',)
        if self.blind:
            self.encoder = DegradationEncoder(encoder_feat, representation_dim)
        else:
            self.kernel_encoder = KernelEncoder(kernel_size, representation_dim)
        self.compress = nn.Linear(representation_dim, num_feat, bias=False)
        self.head = nn.Conv2d(3, num_feat, 3, padding=1)
        self.groups = nn.ModuleList(DAGroup(num_feat, num_blocks, reduction, da_conv) for _ in range(num_groups))
        self.body_conv = Conv3x3(num_feat, num_feat)
        direct = upsampler == 'direct'
        self.upsampler = nn.Sequential() if direct else PixelShuffleUpsampler(scale, num_feat)
        self.last_conv = Conv3x3(num_feat, 3 * scale**2 if direct else 3)
        self.shuffle = nn.PixelShuffle(scale) if direct else nn.Identity()
        self.register_buffer('mean', torch.tensor(DIV2K_MEAN).reshape(1, 3, 1, 1) * img_range, persistent=False)
        # Buffers instead of attributes, so that a state dict alone tells how its network is built.
        self.register_buffer('pixel_range', torch.tensor(float(img_range)) if img_range != RELEASED_RANGE else None)
        self.bicubic_skip: Tensor | None
        self.register_buffer('bicubic_skip', torch.tensor(scale) if skip == 'bicubic' else None)
        self.enlargement = WienerUpsampler(scale, representation_dim) if skip == 'wiener' else None
        if self.enlargement is not None:  # what is added to it begins with nothing
            for parameter in self.last_conv.parameters():
                nn.init.zeros_(parameter)
        self.mean: Tensor
        self.derived_weights = DerivedWeights()
        self._collapsed_tail = CollapsedTail(scale, self.derived_weights)
        self._ncnn_encoder, self._ncnn_body = NcnnEncoder(self.derived_weights), NcnnBody(self.derived_weights)
        self.set_implementation(implementation)

    def train(self, mode: bool = True) -> 'DASR':
        """As in ``nn.Module``; training frees what inference has derived from the weights."""
        if mode:
            self.derived_weights.drop()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'DASR':
        self.derived_weights.drop()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.derived_weights.drop()
        super()._load_from_state_dict(*args, **kwargs)

    def set_implementation(self, implementation: Implementation) -> None:
        """Chooses how the network computes what it computes; weights and results stay the same.

        Args:
            implementation: 'reference' is the authors' formulation: contiguous tensors, the predicted kernels applied
                as one grouped convolution over batch x channels. 'fast' computes in channels_last order, with one
                depth-wise convolution for the images side by side and the tail as one convolution, and where no
                gradient is asked for on a CPU, activations and additions are part of the convolutions before them.
                'ncnn' is 'fast', and where no gradient is asked for on a CPU, in float32, the package ncnn computes the
                encoder and what lies between the image and the up-sampling. 'auto' is that on CPUs where ncnn is
                installed, and else 'fast'; on NVIDIA's GPUs it is 'fast' without gradients for 256 x 256 LR pixels and
                more, and with torch.compile, which makes one kernel there of the nine products of a depth-wise
                convolution; else 'reference'.

        Raises:
            ValueError: if there is no such choice, or ncnn is not installed.
        """
        check_choice('implementation', implementation, ('auto', 'reference', 'fast', 'ncnn'), 'DASR')
        if implementation == 'ncnn':
            import_ncnn()
        self.implementation = implementation

    def resolve_implementation(self, device: torch.device) -> Literal['reference', 'fast']:
        """The formulation that a choice means for training on a device, where ncnn takes no part."""
        if self.implementation == 'auto':
            return 'fast' if device.type == 'cpu' or torch.compiler.is_compiling() else 'reference'
        return 'reference' if self.implementation == 'reference' else 'fast'

    def _is_fast(self, x: Tensor) -> bool:
        if self.implementation == 'auto' and x.is_cuda and not torch.is_grad_enabled() and not is_exported():
            return x.shape[0] * x.shape[-2] * x.shape[-1] >= LARGE_FOR_A_GPU
        return self.resolve_implementation(x.device) == 'fast'

    def forward(
        self,
        lq: Tensor,
        *,
        representation: Tensor | None = None,
        kernel: Tensor | None = None,
        return_representation: bool = False,
    ) -> Tensor | DASROutput:
        """Super-resolves images.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1], any size from one pixel up.
            representation: what to adapt to, shape (B, representation_dim) or (1, representation_dim); by default what
                the encoder finds in ``lq``.
            kernel: true blur kernels of shape (B, k, k), for networks with condition 'kernel' only.
            return_representation: whether the representation comes back as well.

        Returns:
            RGB of shape (B, 3, h * scale, w * scale), around [0, 1], not clamped; with return_representation a
            DASROutput.

        Raises:
            ValueError: if a network that is told the kernel gets neither kernel nor representation.
        """
        if representation is None:
            representation = self.encode(lq, kernel=kernel)
        sr = self._super_resolve(self._scale_input(lq), representation)
        return DASROutput(sr, representation) if return_representation else sr

    def encode(self, lq: Tensor, *, kernel: Tensor | None = None) -> Tensor:
        """Finds the degradation representation of images; the part of :meth:`forward` before super-resolution.

        Args:
            lq: RGB of shape (B, 3, h, w) in [0, 1].
            kernel: true blur kernels of shape (B, k, k), for networks with condition 'kernel' only.

        Returns:
            Representations of shape (B, representation_dim), not normalised.

        Raises:
            ValueError: if a network that is told the kernel gets none.
        """
        if self.blind:
            x = self._scale_input(lq)
            if self._takes_ncnn(x):
                return self._ncnn_encoder(self.encoder, x)
            out: Tensor = encode_fused(self.encoder, x) if self._is_fused(x) else self.encoder(x)
            return out
        if kernel is None:
            raise ValueError('DASR with condition: kernel is told the blur kernel but got none; pass kernel=(B, k, k)')
        out = self.kernel_encoder(kernel.to(self.compress.weight.dtype))
        return out

    def _scale_input(self, lq: Tensor) -> Tensor:
        """The image in 0..img_range, in the order that the implementation computes in."""
        x = lq * self.img_range
        return x.contiguous(memory_format=torch.channels_last) if self._is_fast(x) else x.contiguous()

    def _is_fused(self, x: Tensor) -> bool:
        return self._is_fast(x) and not self.training and can_fuse(x) and self.compress.weight.dtype == torch.float32

    def _takes_ncnn(self, x: Tensor) -> bool:
        if self.training or not is_inferred_on_cpu(x) or not compute_dtype(x) == self.compress.weight.dtype == x.dtype:
            return False
        return self.implementation == 'ncnn' or (self.implementation == 'auto' and has_ncnn())

    def _super_resolve(self, x: Tensor, representation: Tensor) -> Tensor:
        """Turns x (B, 3, h, w) in 0..img_range and a representation into RGB around [0, 1]."""
        representation = representation.to(self.compress.weight.dtype)  # the encoder averages in float32 at least
        code = functional.leaky_relu(self.compress(representation), SLOPE).expand(x.shape[0], -1)  # (B, C)
        if self._takes_ncnn(x) and can_fuse_body(self.groups):
            out = self._ncnn_body(self.head, list(self.groups), self.body_conv, x - self.mean, code)
        elif self._is_fused(x) and can_fuse_body(self.groups):
            out = run_body_fused(self.head, list(self.groups), self.body_conv, x - self.mean, code)
        else:
            out = self._run_body(x - self.mean, code)
        sr = self._run_tail(out)
        with torch.autocast(x.device.type, enabled=False):
            if self.enlargement is not None:
                enlarged: Tensor = self.enlargement(x, representation)
                return (sr + enlarged) / self.img_range
            if self.bicubic_skip is not None:
                return (sr + upsample_bicubic(x, self.scale)) / self.img_range
            return (sr + self.mean) / self.img_range

    def _run_tail(self, features: Tensor) -> Tensor:
        """Up-sampling and last convolution; what comes out is never rounded to half precision."""
        tail = nn.Sequential(*self.upsampler, self.last_conv)
        if self._can_collapse(features):
            return run_recorded(tail, features) if torch.is_grad_enabled() else self._collapsed_tail(tail, features)
        out = self.upsampler(features)
        with torch.autocast(out.device.type, enabled=False):
            sr: Tensor = self.shuffle(self.last_conv(out.to(self.last_conv.weight.dtype)))
        return sr

    def _can_collapse(self, features: Tensor) -> bool:
        return (
            self._is_fast(features)
            and not is_exported()
            and len(self.upsampler) > 0
            and min(features.shape[-2:]) >= SMALLEST_SIDE
            and self.last_conv.weight.dtype == torch.float32
        )

    def _run_body(self, x: Tensor, code: Tensor) -> Tensor:
        """Everything between the image and the up-sampling."""
        depthwise = convolve_grouped
        if self._is_fast(x):
            depthwise = convolve_shifted if x.is_cuda and torch.compiler.is_compiling() else convolve_each
        features: Tensor = self.head(x)
        out: Tensor = features
        for group in self.groups:
            out = group(out, code, depthwise)
        out = self.body_conv(out) + features
        return out
