"""How tissue moves from one frame to another, by least squares over a neighbourhood, from coarse to fine.

Source: Lucas and Kanade, IJCAI 1981, with both frames moved half-way, so that neither is preferred.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Standard deviation in pixels of the neighbourhood, and of the smoothing before; grey slopes below sqrt(`FLAT`) say nothing.
NEIGHBOURHOOD, SMOOTH, FLAT = 3.0, 1.0, 3e-3
LEVELS, ROUNDS = 2, 2
#: A round moves at most so many pixels of its level.
FURTHEST = 1.5


def _smoothed(x: Tensor, sigma: float) -> Tensor:
    """Gaussian mean of (B, 1, H, W)."""
    reach = round(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma).square())
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))


def moved(frames: Tensor, motion: Tensor) -> Tensor:
    """Frames (B, 1, H, W) as seen at each place + motion (B, 2, H, W), (x, y) in pixels."""
    height, width = frames.shape[-2:]
    x = torch.arange(width, device=frames.device) + motion[:, 0]
    y = torch.arange(height, device=frames.device)[:, None] + motion[:, 1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def motion_between(before: Tensor, after: Tensor) -> Tensor:
    """By how many pixels (x, y) what lies at each place half-way moves from `before` to `after`: (B, 2, H, W).

    before, after: (B, 1, H, W) in 0..1. Sides are multiples of 2. What moves more than about 5 pixels is not followed.
    """
    pairs = [(_smoothed(before, SMOOTH), _smoothed(after, SMOOTH))]
    for _ in range(LEVELS - 1):
        first, second = pairs[-1]
        pairs.append((F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)))
    motion = torch.zeros_like(pairs[-1][0]).expand(-1, 2, -1, -1)
    for first, second in reversed(pairs):
        if motion.shape[-2:] != first.shape[-2:]:
            motion = 2.0 * F.interpolate(motion, first.shape[-2:], mode="bilinear", align_corners=False)
        for _ in range(ROUNDS):
            a, b = moved(first, -0.5 * motion), moved(second, 0.5 * motion)
            wide = F.pad(0.5 * (a + b), (1, 1, 1, 1), mode="replicate")
            slope_x = 0.5 * (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2])
            slope_y = 0.5 * (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1])
            xx, xy, yy, xt, yt = (
                _smoothed(product, NEIGHBOURHOOD)
                for product in (slope_x**2, slope_x * slope_y, slope_y**2, slope_x * (b - a), slope_y * (b - a))
            )
            xx, yy = xx + FLAT, yy + FLAT
            change = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / (xx * yy - xy**2)
            motion = motion + change.clamp(-FURTHEST, FURTHEST)
        motion = torch.cat([_smoothed(part, NEIGHBOURHOOD) for part in motion.split(1, dim=1)], dim=1)
    return motion
