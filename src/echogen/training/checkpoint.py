"""Checkpoints that are whole or absent: written aside, flushed to the disk, then moved into place."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from echogen.errors import InputError

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


def checkpoint_files(folder: Path) -> list[Path]:
    """The finished checkpoints of a training folder, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("step_*.pt"), key=lambda path: (len(path.name), path.name))


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) as the checkpoint of `step`; the last `keep` stay."""
    path = folder / CHECKPOINTS / f"step_{step:08d}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _flush_folder(path.parent)
    for old in checkpoint_files(folder)[:-keep]:
        old.unlink()
    for left_over in path.parent.glob("*.partial"):
        left_over.unlink()
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, on the CPU; None where there is none.

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


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder, then put it in the place of `folder`; a failing `write` leaves the old one as it was."""
    partial, old = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".old")
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    _flush_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut (POSIX only; elsewhere the file system decides)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
