"""Motion of tissue from one frame to another, by least squares over a neighbourhood, from coarse to fine.

Source: Lucas and Kanade, "An iterative image registration technique with an application to stereo vision", IJCAI 1981, with both
frames shifted half-way, so that neither is preferred.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Standard deviation of the Gaussian neighbourhood over which the motion is alike, in pixels: some specks of speckle.
NEIGHBOURHOOD_PX = 3.0
#: Standard deviation of the smoothing of the frames before, in pixels, so that slopes are not those of noise.
SMOOTHING_PX = 1.0
#: Squared grey slope (grey in 0..1, per pixel) that is added to every squared slope, so that flat places do not move.
FLAT_SLOPE = 3e-3
#: Sizes of the picture at which the motion is found, each half the one before.
LEVELS = 2
#: Corrections of the motion at each size.
ROUNDS = 2
#: Largest correction in one round, in pixels of its size: beyond that the slopes are no longer those of the same tissue.
LARGEST_STEP_PX = 1.5


def _smoothed(x: Tensor, sigma: float) -> Tensor:
    """Return the Gaussian mean of (B, 1, H, W); sigma: standard deviation in pixels."""
    reach = round(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma).square())
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))


def shifted_frames(frames: Tensor, motion: Tensor) -> Tensor:
    """Read frames (B, 1, H, W) at each place plus a motion (B, 2, H, W), which is (x, y) in pixels."""
    height, width = frames.shape[-2:]
    x = torch.arange(width, device=frames.device) + motion[:, 0]
    y = torch.arange(height, device=frames.device)[:, None] + motion[:, 1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


def motion_between(before: Tensor, after: Tensor) -> Tensor:
    """Find the motion (x, y) in pixels, (B, 2, H, W), of the tissue that lies at each place half-way between two frames.

    before, after: (B, 1, H, W) in 0..1, of even sides. Tissue that moves more than about 5 pixels is not followed.
    """
    pairs = [(_smoothed(before, SMOOTHING_PX), _smoothed(after, SMOOTHING_PX))]
    for _ in range(LEVELS - 1):
        first, second = pairs[-1]
        pairs.append((F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)))
    motion = torch.zeros_like(pairs[-1][0]).expand(-1, 2, -1, -1)
    for first, second in reversed(pairs):
        if motion.shape[-2:] != first.shape[-2:]:
            motion = 2.0 * F.interpolate(motion, first.shape[-2:], mode="bilinear", align_corners=False)
        for _ in range(ROUNDS):
            a, b = shifted_frames(first, -0.5 * motion), shifted_frames(second, 0.5 * motion)
            wide = F.pad(0.5 * (a + b), (1, 1, 1, 1), mode="replicate")
            slope_x = 0.5 * (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2])
            slope_y = 0.5 * (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1])
            xx, xy, yy, xt, yt = (
                _smoothed(product, NEIGHBOURHOOD_PX)
                for product in (slope_x**2, slope_x * slope_y, slope_y**2, slope_x * (b - a), slope_y * (b - a))
            )
            xx, yy = xx + FLAT_SLOPE, yy + FLAT_SLOPE
            change = torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / (xx * yy - xy**2)
            motion = motion + change.clamp(-LARGEST_STEP_PX, LARGEST_STEP_PX)
        motion = torch.cat([_smoothed(part, NEIGHBOURHOOD_PX) for part in motion.split(1, dim=1)], dim=1)
    return motion
