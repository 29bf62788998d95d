"""Checkpoints of a training run, written whole or not at all."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from echogen.errors import InputError
from echogen.files import whole_file

logger = logging.getLogger(__name__)

#: Name of the folder of the checkpoints in that of the run.
CHECKPOINTS = "checkpoints"


def checkpoint_files(folder: Path) -> list[Path]:
    """Finished checkpoints of a training folder, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("step_*.pt"), key=lambda path: (len(path.name), path.name))


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) as the checkpoint of `step`; the last `keep` stay."""
    path = folder / CHECKPOINTS / f"step_{step:08d}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(".step_*.pt"):
        left_over.unlink()  # of a run that was stopped while it wrote
    with whole_file(path) as unfinished:
        torch.save(state, unfinished)
    for old in checkpoint_files(folder)[:-keep]:
        old.unlink()
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint that can be read, on the CPU; None where there is none.

    A damaged file is passed over with a warning. Raises `InputError` when every checkpoint is damaged.
    """
    files = checkpoint_files(folder)
    for path in reversed(files):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
            logger.warning("Passing over the damaged checkpoint %s (%s).", path, type(error).__name__)
    if files:
        raise InputError(f"None of the checkpoints in {folder / CHECKPOINTS} can be read; train in a new folder.")
    return None
