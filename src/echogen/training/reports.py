"""Reports of a training run: metrics.csv, TensorBoard curves, sample pictures, a progress bar or log lines."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

logger = logging.getLogger("echogen.training")


class MetricsTable:
    """CSV file with one row a log; a new name adds a column. Rows after `first_step` are dropped on opening."""

    def __init__(self, path: Path, first_step: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = [
                    row for row in csv.DictReader(file) if (row["step"] or "").isdigit() and int(row["step"]) <= first_step
                ]
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row if name))
        self._rewrite()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        self.rows.append(dict(row))
        fresh = [name for name in row if name not in self.columns]
        self.columns += fresh
        if fresh:
            self._rewrite()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def _rewrite(self) -> None:
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)


class Report:
    """Record of one training run in `folder`, continued after `first_step`; bar: draw a progress bar on a terminal."""

    def __init__(self, folder: Path, steps: int, first_step: int, bar: bool) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.steps = folder, steps
        self.table = MetricsTable(folder / "metrics.csv", first_step)
        self.curves = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1 if first_step else None)
        console = Console(stderr=True)
        self.bar: Progress | None = None
        if bar and console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=console)
            self.bar_task = self.bar.add_task(f"step {first_step}/{steps}", total=1.0)
        self.text = ""

    def __enter__(self) -> Report:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()
        self.curves.close()

    def advance(self, step: int, share: float) -> None:
        """Move the progress bar; share: part of the run that is done, 0..1."""
        if self.bar:
            self.bar.update(self.bar_task, completed=share, description=f"step {step}/{self.steps} {self.text}")

    def scalars(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Log numbers by name; seconds: training time so far."""
        self.table.add({"step": step, "seconds": f"{seconds:.2f}"} | {name: f"{value:.6g}" for name, value in values.items()})
        for name, value in values.items():
            self.curves.add_scalar(name, value, step)
        texts = [f"{name} {value:.4g}" for name, value in values.items()]
        self.text = texts[0]
        if not self.bar:
            logger.info("step %d/%d, %.0f s: %s", step, self.steps, seconds, " ".join(texts))

    def picture(self, step: int, pixels: NDArray[np.uint8]) -> None:
        """Log a filmstrip, (height, width) grey or (height, width, 3) RGB."""
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"step_{step:06d}.png")
        self.curves.add_image("sample", pixels, step, dataformats="HW" if pixels.ndim == 2 else "HWC")
