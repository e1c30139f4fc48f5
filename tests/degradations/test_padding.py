"""Borders equal numpy's, for any padding around any size."""

import numpy as np
import pytest
import torch

from dasr_arch.degradations.padding import border_index, pad_border

MODES = {'replicate': 'edge', 'mirror': 'symmetric', 'reflect': 'reflect'}


@pytest.mark.parametrize('border', MODES)
@pytest.mark.parametrize('size', [(1, 1), (1, 4), (2, 3), (9, 5)])
@pytest.mark.parametrize('pad', [0, 1, 7])
def test_padding_equals_numpy_even_where_it_exceeds_the_image(border, size, pad):
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (pad, pad), (pad, pad)], mode=MODES[border])
    assert np.array_equal(pad_border(x, pad, border).numpy(), expected)


@pytest.mark.parametrize('border', MODES)
def test_positions_inside_stand_for_themselves(border):
    assert border_index(torch.arange(6), 6, border).tolist() == list(range(6))


def test_every_row_may_have_a_size_of_its_own():
    index = border_index(torch.tensor([[-1, 4], [-1, 4]]), torch.tensor([[3], [5]]), 'reflect')
    assert index.tolist() == [[1, 0], [1, 4]]


@pytest.mark.parametrize('border', MODES)
def test_positions_far_outside_stay_inside(border):
    index = border_index(torch.arange(-1000, 1000), 7, border)
    assert index.min() == 0
    assert index.max() == 6


def test_gradient_of_padding_counts_the_copies():
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    pad_border(x, 1, 'replicate').sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [4, 4, 4, 4]
