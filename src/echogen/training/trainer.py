"""Trainer of all tasks: the same script on a CPU, one GPU, or many (`accelerate launch`)."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast, send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from echogen.errors import InputError
from echogen.files import whole_folder
from echogen.training.checkpoint import checkpoint_files, load_checkpoint, save_checkpoint
from echogen.training.ema import Ema
from echogen.training.recipe import Recipe, first_difference, recipe_values
from echogen.training.reports import Report
from echogen.training.task import OptimizerGroup, Task

logger = logging.getLogger("echogen.training")

#: Steps from one agreement of a run's processes on the clock and on a stop to the next; each costs a message between them.
AGREE_EVERY = 10


class TrainingStopped(RuntimeError):
    """End of a training that cannot go on; the message is one plain sentence."""


def bf16_is_native(device: torch.device) -> bool:
    """True if the device computes in bfloat16 itself (a CPU: AMX or AVX-512 BF16)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in checks)


def learning_rate_factor(recipe: Recipe, step: int, share_done: float) -> float:
    """Learning rate of a step over the recipe's: linear warm-up, times 1 or half a cosine over `share_done` (0..1)."""
    warm_up = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    if recipe.schedule == "constant":
        return warm_up
    final = recipe.final_learning_rate_share
    return warm_up * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(share_done, 1.0))))


def train(task: Task, recipe: Recipe, folder: str | Path, *, resume: bool = False, progress: bool = True) -> None:
    """Train until the recipe's steps or minutes are over, or SIGINT or SIGTERM asks to stop; all results go to `folder`.

    Left there: weights/ (the averages, by `Task.save`), checkpoints/ (the last two), metrics.csv, samples/, tensorboard/,
    recipe.yaml.

    resume: Continue from the newest checkpoint exactly as if never interrupted, or from the start if there is none.
    progress: Show a bar where there is a terminal.
    Raises `InputError` when `folder` holds checkpoints and resume is not
    asked for, or when the recipe differs from the one it began with; `TrainingStopped` when a loss or gradient is not finite.
    """
    folder = Path(folder)
    # Without `cpu`, the processes of `torchrun` on a machine without a GPU would not find each other.
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    rank, world, main = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    rows = recipe.batch_size * recipe.accumulate * world
    saved = _earlier(folder, recipe, resume, rows)
    accelerator.wait_for_everyone()
    state = _State(task, recipe, accelerator, rows)
    if saved:
        state.load(saved)
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_values(recipe), sort_keys=False), encoding="utf-8")
    native = recipe.precision == "auto" and bf16_is_native(accelerator.device)
    low_precision = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=native or recipe.precision == "bf16")
    first, seconds_before = state.step, state.seconds
    limit_s = recipe.minutes * 60.0 if recipe.minutes else math.inf
    clock_share = seconds_before / limit_s
    end = recipe.steps if clock_share < 1.0 else first
    meter = _Meter(accelerator)

    def save() -> None:
        meter.check(state.step)
        if main:
            save_checkpoint(folder, state.step, state.values())
            with whole_folder(folder / "weights", replace=True) as unfinished:
                task.save(unfinished, state.ema.networks)

    report = Report(folder, recipe.steps, first, progress) if main else None
    parts = _Parts(task, rank, world, recipe.accumulate)
    batches = _batches(parts, first * recipe.accumulate, end * recipe.accumulate, recipe.workers)
    began = time.monotonic()
    with _signals() as asked_to_stop, report or nullcontext(), closing(batches):
        for step in range(first, end):
            factor = learning_rate_factor(recipe, step, max(step / recipe.steps, clock_share))
            of_step = [send_to_device(next(batches), accelerator.device, non_blocking=True) for _ in range(recipe.accumulate)]
            task.set_step_totals(_mean_totals(task, of_step, accelerator))
            for number, batch in enumerate(of_step):
                torch.manual_seed(int(np.random.SeedSequence([recipe.seed, step, parts.place(number)]).generate_state(1)[0]))
                with low_precision:
                    losses = task.losses(batch, step)
                meter.add(losses)
                state.add_gradients(losses, begin=number == 0)
            meter.add(state.update(factor))
            if accelerator.device.type == "cpu" and world == 1:
                meter.check(state.step)
            state.seconds = seconds_before + time.monotonic() - began
            stop = False
            if world == 1 or step % AGREE_EVERY == 0:
                clock_share, stop = _agree(accelerator, state.seconds / limit_s, asked_to_stop())
            complete = state.step == recipe.steps or clock_share >= 1.0
            last = stop or complete
            if state.step % recipe.log_every == 0 or state.step == 1 or last:
                means = meter.means(state.step) | {"learning_rate": recipe.learning_rate * factor}
                if report:
                    report.scalars(state.step, state.seconds, means)
            if state.step % recipe.save_every == 0 or last:
                save()
            if report:
                report.advance(state.step, max(state.step / recipe.steps, clock_share))
                if recipe.sample_every and (state.step % recipe.sample_every == 0 or complete):
                    with state.ema.swapped(state.networks), torch.no_grad(), low_precision:
                        pixels = task.sample(state.step)
                    if pixels is not None:
                        report.picture(state.step, pixels)
            if last:
                break
    if state.step == first:
        save()
    if main and state.step < recipe.steps:
        logger.info("Stopped at step %d of %d; --resume continues from there.", state.step, recipe.steps)
    accelerator.wait_for_everyone()


class _State:
    """State of a run: networks, optimizers, averages, the step reached and the seconds used."""

    def __init__(self, task: Task, recipe: Recipe, accelerator: Accelerator, rows: int) -> None:
        self.recipe, self.accelerator, self.rows = recipe, accelerator, rows
        self.active: list[OptimizerGroup] = []
        self.networks = {name: network.to(accelerator.device).train() for name, network in task.networks().items()}
        task.to(accelerator.device)
        if accelerator.num_processes > 1:
            for tensor in (tensor for network in self.networks.values() for tensor in network.state_dict().values()):
                tensor.copy_(broadcast(tensor, from_process=0))
        self.groups = task.optimized()
        self.weights = {
            g.name: [w for n in g.networks for w in self.networks[n].parameters() if w.requires_grad] for g in self.groups
        }
        self.optimizers = {group.name: self._adamw(group) for group in self.groups}
        self.ema = Ema(self.networks, recipe.ema_decay)
        self.step = 0
        self.seconds = 0.0

    def _adamw(self, group: OptimizerGroup) -> torch.optim.AdamW:
        weights = self.weights[group.name]
        matrices = [weight for weight in weights if weight.ndim >= 2]
        others = [weight for weight in weights if weight.ndim < 2]
        parts = [{"params": matrices, "weight_decay": self.recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        fused = self.accelerator.device.type in ("cpu", "cuda")
        return torch.optim.AdamW(
            [part for part in parts if part["params"]],
            lr=self.recipe.learning_rate,
            betas=group.betas or self.recipe.betas,
            fused=fused,
        )

    def add_gradients(self, losses: Mapping[str, Tensor], *, begin: bool) -> None:
        """Add the gradients of one part of a step, each part with the same weight; `begin` starts a step anew."""
        active = [group for group in self.groups if group.loss in losses]
        if not active:
            raise ValueError(f"The task's losses {sorted(losses)} hold none that an optimizer minimises.")
        if begin:
            self.active = active
            for group in active:
                self.optimizers[group.name].zero_grad(set_to_none=True)
        for group in active:
            loss = losses[group.loss] / self.recipe.accumulate
            torch.autograd.backward(loss, inputs=self.weights[group.name], retain_graph=group is not active[-1])

    def update(self, factor: float) -> dict[str, Tensor]:
        """Make one step of every optimizer that has gradients, and of the averages; gives the gradient norms before clipping."""
        norms = {}
        for group in self.active:
            weights = self.weights[group.name]
            self._average_gradients(weights)
            name = "gradient_norm" if len(self.groups) == 1 else f"gradient_norm_{group.name}"
            norms[name] = torch.nn.utils.clip_grad_norm_(weights, self.recipe.clip_norm or math.inf)
            for part in self.optimizers[group.name].param_groups:
                part["lr"] = self.recipe.learning_rate * group.learning_rate_share * factor
            self.optimizers[group.name].step()
        self.step += 1
        if self.step % self.recipe.ema_every == 0:
            self.ema.update(self.networks)
        return norms

    def _average_gradients(self, weights: list[nn.Parameter]) -> None:
        if self.accelerator.num_processes == 1:
            return
        gradients = [weight.grad if weight.grad is not None else torch.zeros_like(weight) for weight in weights]
        mean = self.accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for weight, part in zip(weights, mean.split([weight.numel() for weight in weights]), strict=True):
            weight.grad = part.view_as(weight)

    def values(self) -> dict[str, Any]:
        """Content of a checkpoint."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "rows": self.rows,
            "recipe": recipe_values(self.recipe),
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "ema": {name: network.state_dict() for name, network in self.ema.networks.items()},
            "ema_updates": self.ema.updates,
        }

    def load(self, values: Mapping[str, Any]) -> None:
        """Take over the content of a checkpoint."""
        for name, network in self.networks.items():
            network.load_state_dict(values["networks"][name])
            self.ema.networks[name].load_state_dict(values["ema"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(values["optimizers"][name])
        self.step, self.seconds, self.ema.updates = values["step"], values["seconds"], values["ema_updates"]


class _Meter:
    """Means of named scalars since they were last read; they stay on the device until then."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().float()
            self.counts[name] = self.counts.get(name, 0) + 1

    def _reduced(self) -> dict[str, float]:
        if not self.sums:
            return {}
        sums = self.accelerator.reduce(torch.stack(list(self.sums.values())), "mean").tolist()
        return {name: total / self.counts[name] for name, total in zip(self.sums, sums, strict=True)}

    def check(self, step: int) -> dict[str, float]:
        """Means so far; raises `TrainingStopped` when one is not finite, on every process alike."""
        means = self._reduced()
        broken = [name for name, mean in means.items() if not math.isfinite(mean)]
        if broken:
            raise TrainingStopped(
                f"Training stopped at step {step} because {', '.join(broken)} was no longer a finite number;"
                " train in a new folder with a lower learning rate."
            )
        return means

    def means(self, step: int) -> dict[str, float]:
        """Means so far, as of `check`, and start anew."""
        means = self.check(step)
        self.sums, self.counts = {}, {}
        return means


class _Parts(Dataset[Any]):
    """Batches of one process, in order: `accumulate` parts of each step.

    To the task, the parts are like processes: part m of process r of w is process m w + r of w `accumulate`. So the rows of a
    step are the same, in the same order, however they are divided.
    """

    def __init__(self, task: Task, rank: int, world: int, accumulate: int) -> None:
        self.task, self.rank, self.world, self.accumulate = task, rank, world, accumulate

    def place(self, number: int) -> int:
        """Number of the process that a part of this process stands for."""
        return number * self.world + self.rank

    def __getitem__(self, index: int) -> Any:
        step, number = divmod(index, self.accumulate)
        with torch.no_grad():
            return self.task.batch(step, self.place(number), self.world * self.accumulate)


def _mean_totals(task: Task, batches: Sequence[Any], accelerator: Accelerator) -> dict[str, Tensor]:
    """Means of a task's `totals` over all parts of a step, of all processes; none where the step has one part."""
    if len(batches) * accelerator.num_processes == 1:
        return {}
    totals = [task.totals(batch) for batch in batches]
    if not totals[0]:
        return {}
    own = torch.stack([torch.stack([values[name].float() for name in totals[0]]) for values in totals]).mean(0)
    return dict(zip(totals[0], accelerator.reduce(own, "mean"), strict=True))


def _as_it_is(batch: Any) -> Any:
    return batch


def _batches(parts: _Parts, first: int, last: int, workers: int) -> Generator[Any]:
    """Parts first..last - 1 in order, made ahead by one thread, or by worker processes."""
    if workers:
        yield from DataLoader(parts, batch_size=None, sampler=range(first, last), num_workers=workers, collate_fn=_as_it_is)
        return
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(parts.__getitem__, first) if first < last else None
        for index in range(first, last):
            assert ahead is not None
            batch = ahead.result()
            ahead = thread.submit(parts.__getitem__, index + 1) if index + 1 < last else None
            yield batch


def _earlier(folder: Path, recipe: Recipe, resume: bool, rows: int) -> dict[str, Any] | None:
    """Checkpoint to continue from, if any; rows: Number of samples a step, over all processes."""
    if not resume:
        if checkpoint_files(folder):
            raise InputError(f"{folder} already holds a training run; continue it with --resume or choose another folder.")
        return None
    saved = load_checkpoint(folder)
    if saved is None:
        logger.warning("There is no checkpoint in %s; starting from the beginning.", folder)
        return None
    key = first_difference(saved["recipe"], recipe_values(recipe))
    if key:
        raise InputError(f"The run in {folder} began with another {key}; resume it with that value or train in another folder.")
    if saved.get("rows", rows) != rows:
        raise InputError(
            f"The run in {folder} began with {saved['rows']} samples a step (batch_size x accumulate x processes), not {rows}; "
            "resume it with that many or train in another folder."
        )
    return saved


def _agree(accelerator: Accelerator, clock_share: float, stop: bool) -> tuple[float, bool]:
    """Clock of the main process, and True if any process was asked to stop."""
    if accelerator.num_processes == 1:
        return clock_share, stop
    mine = torch.tensor([clock_share if accelerator.is_main_process else 0.0, float(stop)], device=accelerator.device)
    share, stops = accelerator.reduce(mine, "sum").tolist()
    return share, stops > 0


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Let the first SIGINT or SIGTERM only ask to stop, inside the block; a second one acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, usual[signal.Signals(number)])

    for number in usual:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
