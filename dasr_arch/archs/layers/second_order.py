"""Parts of SAN: channel attention from the covariance of the channels, and non-local attention within regions.

Dai et al., Second-Order Attention Network for Single Image Super-Resolution, CVPR 2019, sections 3.2 and 3.3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_LARGEST_SIDE = 1000  # pixels that the statistics are taken from, in the middle of larger features
_ITERATIONS = 5  # of Newton and Schulz; weights rely on the root that is not fully converged
_TINY = 1e-8  # keeps features without any variance from a division by zero
_POOL = 2  # side of the blocks that keys and values are pooled over


class SecondOrderAttention(nn.Module):
    """Weighs channels by what the square root of their covariance tells.

    Args:
        num_feat: channels C.
        reduction: divisor of the hidden width.
    """

    def __init__(self, num_feat: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = num_feat // reduction
        self.gate = nn.Sequential(nn.Conv2d(num_feat, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, num_feat, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Weighs features.

        Args:
            x: shape (B, C, h, w).

        Returns:
            Features of the same shape.
        """
        with torch.autocast(x.device.type, enabled=False):  # iterating in half precision would lose the root
            root = covariance_root(_crop_middle(x).to(torch.promote_types(x.dtype, torch.float32)))
        statistics = root.mean(1)[..., None, None].to(self.gate[0].weight.dtype)  # type: ignore[arg-type]
        out: Tensor = x * self.gate(statistics).sigmoid()
        return out


def covariance_root(x: Tensor) -> Tensor:
    """Square root of the covariance of channels, by five Newton-Schulz iterations.

    Args:
        x: features of shape (B, C, h, w), float32 or float64; differentiable, also where they are constant.

    Returns:
        Symmetric matrices of shape (B, C, C). Small eigenvalues come out too small: five iterations are few.
    """
    rows = x.flatten(2)
    rows = rows - rows.mean(2, keepdim=True)
    covariance = rows @ rows.transpose(1, 2) / rows.shape[2]
    trace = covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + _TINY
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    root, inverse = covariance / trace, identity.expand_as(covariance)
    for _ in range(_ITERATIONS):
        step = (3 * identity - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse  # the last inverse is not needed
    return root * trace.sqrt()


class RegionNonLocal(nn.Module):
    """Non-local attention within each quarter of the image; it starts as the identity.

    As in the released code, keys and values are pooled over 2 x 2 pixels, although the paper does not say so: the
    published weights rely on it. Sides of less than four pixels are not divided, of less than two not pooled.

    Args:
        num_feat: channels C.
        reduction: divisor of the number of channels of queries, keys and values.
    """

    def __init__(self, num_feat: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = num_feat // reduction
        self.query = nn.Conv2d(num_feat, hidden, 1)
        self.key = nn.Conv2d(num_feat, hidden, 1)
        self.value = nn.Conv2d(num_feat, hidden, 1)
        self.out = nn.Conv2d(hidden, num_feat, 1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attends.

        Args:
            x: features of shape (B, C, h, w), any size from one pixel up.

        Returns:
            Features of the same shape.
        """
        rows = [torch.cat([self._attend(part) for part in _halve(row, 3)], 3) for row in _halve(x, 2)]
        return torch.cat(rows, 2)

    def _attend(self, x: Tensor) -> Tensor:
        """One region."""
        pool = [min(_POOL, side) for side in x.shape[-2:]]
        key, value = (functional.max_pool2d(layer(x), pool) for layer in (self.key, self.value))
        query, key, value = (part.flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.query(x), key, value))
        found = functional.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, 1, h * w, hidden)
        found = found.squeeze(1).transpose(1, 2).reshape(x.shape[0], -1, *x.shape[-2:])
        out: Tensor = self.out(found) + x
        return out


def _halve(x: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Two halves along an axis, the second with the odd pixel, if both have pixels enough to be pooled."""
    half = x.shape[axis] // 2
    return x.split([half, x.shape[axis] - half], axis) if half >= _POOL else (x,)


def _crop_middle(x: Tensor) -> Tensor:
    """The middle of features that are too large for statistics of all pixels."""
    height, width = (min(side, _LARGEST_SIDE) for side in x.shape[-2:])
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]
