"""Stores of a few simulated clips, for tasks that learn from them."""

from __future__ import annotations

from pathlib import Path

from echogen.datasets.clip_store import FIRST_TRAINING_SEED, FPS, render_clips


def small_store(
    folder: Path, clips: int = 1, frames: int = 9, *, first_seed: int = FIRST_TRAINING_SEED, fps: float = FPS, finer: int = 1
) -> Path:
    """Render a store of one shard with so many clips, in this process, and return its folder."""
    render_clips(folder, clips, frames=frames, first_seed=first_seed, processes=1, fps=fps, finer=finer, clips_per_shard=clips)
    return folder
