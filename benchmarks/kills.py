"""A training on shards, killed again and again and resumed: python benchmarks/kills.py -> docs/scale.md.

Each life of the training is a process of its own that is killed (SIGKILL) at a random moment; the next one resumes. In the end
the weights must be those of a training that nobody disturbed, bit for bit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from common import DOCS, arguments
from echogen.benchmark.markdown import write_section
from echogen.training.recipe import Recipe
from echogen.training.tasks.st_mem import StMemTask
from echogen.training.trainer import train

#: A tiny ST-MEM, whose steps take milliseconds, so that a kill may meet any part of one, or of the writing of a checkpoint.
NETWORK = {
    "encoder": {"seq_len": 300, "patch_size": 50, "width": 32, "depth": 1, "heads": 2, "head_dim": 16, "mlp_dim": 64},
    "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2, "decoder_head_dim": 16, "decoder_mlp_dim": 64,
}  # fmt: skip
#: Shortest and longest life of a training in s.
LIFE_S = (0.02, 1.2)


def recipe(shards: Path, steps: int) -> Recipe:
    return Recipe(
        task="st-mem", steps=steps, batch_size=2, learning_rate=1e-3, warmup_steps=10, save_every=10, sample_every=0,
        log_every=10, precision="fp32", data={"source": str(shards)}, network=NETWORK,
    )  # fmt: skip


def lived(made: Recipe, folder: Path, life_s: float | None) -> bool:
    """One life of a training, killed after so many seconds unless it is over before; True if it came to its end."""
    child = os.fork()
    if not child:
        code = 1
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends with it
            train(StMemTask(made), made, folder, resume=True, progress=False)
            code = 0
        finally:
            os._exit(code)
    if life_s is not None:
        time.sleep(life_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("A resumed training ended with an error.")
    return os.WIFEXITED(status)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted((folder / "weights").rglob("*.safetensors"))
    return {name: value for path in files for name, value in load_file(path).items()}


def main() -> None:
    options = arguments(__doc__ or "", kills=100, steps=2500, work="runs/kills", seed=0)
    torch.set_num_threads(1)
    work = Path(options.work)
    if work.exists():
        raise SystemExit(f"{work} is there already; name another folder with --work.")
    work.mkdir(parents=True)
    for command in (
        ["simulate", "--seconds", "2", "-n", "3", "-o", str(work / "clips")],
        ["prepare", str(work / "clips"), "-o", str(work / "shards")],
    ):
        subprocess.run([sys.executable, "-m", "echogen", *command], check=True, capture_output=True)
    made = recipe(work / "shards", options.steps)
    lived(made, work / "undisturbed", None)
    rng = np.random.default_rng(options.seed)
    killed = 0
    while killed < options.kills:
        if lived(made, work / "killed", float(rng.uniform(*LIFE_S))):
            raise SystemExit(f"The training was over after {killed} kills; give it more --steps.")
        killed += 1
        print(f"killed {killed}", end="\r", flush=True)
    lived(made, work / "killed", None)
    one, other = weights(work / "undisturbed"), weights(work / "killed")
    same = one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    if not same:
        raise SystemExit(f"After {killed} kills the weights differ.")
    text = (
        f"A training on shards ({options.steps:,} steps of a tiny ST-MEM, a checkpoint every ten) was killed with "
        f"SIGKILL {killed} times, "
        f"each time {LIFE_S[0]:g} to {LIFE_S[1]:g} s after it had begun or resumed, and resumed each time: its weights "
        f"are those "
        "of a training that nobody disturbed, bit for bit. Command: `python benchmarks/kills.py`.\n"
    )
    print(text)
    write_section(DOCS / "scale.md", "Killed and resumed", text)


if __name__ == "__main__":
    main()
