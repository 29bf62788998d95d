"""A second opinion on ejection fraction: a regressor that looks at the whole video and does not segment."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from echogen.cine.timing import resample_frames
from echogen.networks.config import load_network
from echogen.networks.ef_regressor import EfRegressor, at_size
from echogen.records import Cine

_FOLDER = Path(__file__).parent.parent / "weights" / "ef-regressor"
#: A video must fill this share of the window that the regressor looks at.
_LEAST_SHARE = 0.5


@lru_cache(maxsize=1)
def load_regressor() -> EfRegressor:
    """The shipped regressor, on the CPU. Raises `InputError` when its files are damaged."""
    return load_network(EfRegressor, _FOLDER)


@lru_cache(maxsize=1)
def regressor_error() -> dict[str, Any]:
    """Error of the shipped regressor on truth clips: n, ef_mae_percent, ef_bias_percent, ef_r2, command."""
    values: dict[str, Any] = json.loads((_FOLDER / "truth_error.json").read_text(encoding="utf-8"))
    return values


@torch.inference_mode()
def regressed_ef_percent(cine: Cine, regressor: EfRegressor) -> float | None:
    """Ejection fraction in % as a regressor sees it, the mean over windows half overlapping; None of a video that is too short.

    cine: frames in the canonical geometry, brought to the regressor's rate here. A video that fills at least half of the window
    (shipped and published: of 2 s) is black after its end, as in training. Runs where the regressor's weights are.
    """
    config, device = regressor.config, regressor.fc.weight.device
    frames = resample_frames(cine, config.fps).frames
    if len(frames) < _LEAST_SHARE * config.frames:
        return None
    video = at_size(torch.from_numpy(np.ascontiguousarray(frames))[None].to(device) / 255.0, config.size)[0]
    video = functional.pad(video, (0, 0, 0, 0, 0, max(config.frames - len(video), 0)))
    last = len(video) - config.frames
    starts = np.unique(np.rint(np.linspace(0, last, 1 + -(-2 * last // config.frames))).astype(int))
    answers = [float(regressor(video[None, start : start + config.frames])) for start in starts]
    return float(np.mean(answers))
