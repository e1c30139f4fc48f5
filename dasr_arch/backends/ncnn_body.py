"""Encoder and body of DASR computed by ncnn; the results are those of torch up to rounding (docs/performance.md)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dasr_arch.archs.blocks import DABlock, DAConv, DAGroup
from dasr_arch.backends.ncnn_net import ADD, MULTIPLY, Built, Pass, Program, release_memory
from dasr_arch.backends.onednn import fold_normalisation

_IMAGE, _RESULT = 'image', 'result'


class NcnnEncoder(Built):
    """A DegradationEncoder in evaluation mode."""

    def __call__(self, encoder: nn.Module, x: Tensor) -> Tensor:
        """Encodes images without gradients.

        Args:
            encoder: the encoder, with float32 weights on the CPU.
            x: RGB of shape (B, 3, h, w) in [0, 255], float32.

        Returns:
            Representations of shape (B, D), float32.

        Raises:
            InputError: if ncnn is not installed.
            MemoryError: if it got no memory.
        """
        network = self.look_up([encoder], lambda: _write_encoder(encoder))
        try:
            return torch.cat([_encode(network, image) for image in x])
        finally:
            release_memory()


class NcnnBody(Built):
    """Everything of DASR between the image and the up-sampling."""

    def __call__(
        self, head: nn.Conv2d, groups: Sequence[nn.Module], body_conv: nn.Conv2d, x: Tensor, code: Tensor
    ) -> Tensor:
        """Computes features without gradients.

        Args:
            head: the first convolution, with float32 weights on the CPU, like all others.
            groups: the DAGroups, built of DAConv.
            body_conv: the convolution after them.
            x: images of shape (B, 3, h, w), mean subtracted, float32.
            code: compressed representations of shape (B, C).

        Returns:
            Features of shape (B, C, h, w), in channels_last order.

        Raises:
            InputError: if ncnn is not installed.
            MemoryError: if it got no memory.
        """
        network = self.look_up([head, *groups, body_conv], lambda: _write_body(head, groups, body_conv))
        try:
            return torch.cat([_run_body(network, groups, *pair) for pair in zip(x, code.float().split(1), strict=True)])
        finally:
            release_memory()


def _encode(network: Any, image: Tensor) -> Tensor:
    work = Pass(network)
    work.give(_IMAGE, image)
    return work.get(_RESULT)


def _run_body(network: Any, groups: Sequence[nn.Module], image: Tensor, code: Tensor) -> Tensor:
    """Features (1, C, h, w) of an image (3, h, w); torch predicts kernels and factors block by block."""
    work = Pass(network)
    work.give(_IMAGE, image)
    for number, block in enumerate(_list_blocks(groups)):
        for index, conv in enumerate((block.da_conv1, block.da_conv2)):
            assert isinstance(conv, DAConv)
            work.give(_name_kernel(number, index), conv.kernel(code).reshape(-1, 3, 3))
            if conv.modulation is not None:
                work.give(_name_factors(number, index), torch.sigmoid(conv.modulation(code)).reshape(-1, 1, 1))
        work.advance(_name_block(number))
    return work.get(_RESULT)


def _write_encoder(encoder: nn.Module) -> Program:
    program = Program()
    value = program.take(_IMAGE)
    for conv, weight, bias in fold_normalisation(encoder):
        value = program.convolve(value, weight, bias, stride=conv.stride[0], activate=True)
    program.average(value, name=_RESULT)
    return program


def _write_body(head: nn.Conv2d, groups: Sequence[nn.Module], body_conv: nn.Conv2d) -> Program:
    program = Program()
    value = program.convolve(program.take(_IMAGE), head.weight, head.bias)
    value, features = program.split(value, 2)
    number = 0
    for group in groups:
        assert isinstance(group, DAGroup)
        value, before = program.split(value, 2)
        for block in group.blocks:
            value = _write_block(program, value, block, number)
            number += 1
        value = program.combine(ADD, program.convolve(value, group.conv.weight, group.conv.bias), before)
    program.combine(ADD, program.convolve(value, body_conv.weight, body_conv.bias), features, name=_RESULT)
    return program


def _write_block(program: Program, value: str, block: nn.Module, number: int) -> str:
    assert isinstance(block, DABlock)
    value, before = program.split(value, 2)
    value = program.activate(_write_adaptive(program, value, block.da_conv1, number, 0))
    value = program.convolve(value, block.conv1.weight, block.conv1.bias, activate=True)
    value = program.activate(_write_adaptive(program, value, block.da_conv2, number, 1))
    value = program.convolve(value, block.conv2.weight, block.conv2.bias)
    return program.combine(ADD, value, before, name=_name_block(number))


def _write_adaptive(program: Program, value: str, conv: nn.Module, number: int, index: int) -> str:
    """A DAConv, whose kernel and factors the network is given."""
    assert isinstance(conv, DAConv)
    pointwise = conv.pointwise
    kernel = program.take(_name_kernel(number, index))
    if conv.modulation is None:
        value = program.convolve_depthwise(value, kernel, pointwise.in_channels)
        return program.convolve(value, pointwise.weight, pointwise.bias)
    first, second = program.split(value, 2)
    value = program.convolve_depthwise(first, kernel, pointwise.in_channels)
    value = program.convolve(value, pointwise.weight, pointwise.bias)
    factors = program.take(_name_factors(number, index))
    return program.combine(ADD, value, program.combine(MULTIPLY, second, factors))


def _list_blocks(groups: Sequence[nn.Module]) -> list[DABlock]:
    return [block for group in groups for block in group.modules() if isinstance(block, DABlock)]


def _name_block(number: int) -> str:
    return f'block_{number}'


def _name_kernel(number: int, index: int) -> str:
    return f'kernel_{number}_{index}'


def _name_factors(number: int, index: int) -> str:
    return f'factors_{number}_{index}'
