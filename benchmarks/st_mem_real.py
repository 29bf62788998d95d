"""Pre-training of ST-MEM on real ECGs: python benchmarks/st_mem_real.py -> docs/st_mem.md.

The 12-lead recordings of $ECHOGEN_TEST_DATA are parted by the format of the file, which stands for the maker of the device. Each
half is learned from, with simulated ECGs beside it, and judged on the other half. The weights are thrown away.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.ecg import ecg_info
from echogen.ecg.formats import read_ecg
from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg.st_mem_input import st_mem_input
from echogen.errors import InputError
from echogen.networks.st_mem_pretraining import StMemPretraining
from echogen.training.recipe import load_recipe
from echogen.training.tasks.st_mem import StMemTask
from echogen.training.trainer import train

RECIPE = "st-mem-phantom-small"
#: Folder of recordings of one format, and the suffixes of the files that stand for a recording.
FOLDERS = ("ecg_aecg", "ecg_dicom", "ecg_edf", "ecg_muse", "ecg_other", "ecg_philips", "ecg_scp", "ecg_wfdb")
SUFFIXES = (".xml", ".dcm", ".edf", ".mat", ".scp", ".hea")
#: Drawings of the hidden patches of each recording, over which the error is averaged.
DRAWS = 8


def recordings(folder: Path) -> dict[str, list[Path]]:
    """Files of 12-lead recordings by folder."""
    found: dict[str, list[Path]] = {}
    for name in FOLDERS:
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() in SUFFIXES:
                try:
                    info = ecg_info(path)
                    ecg = read_ecg(path, seconds=min(info.duration_s, 10.0))
                except InputError:
                    continue
                if set(STANDARD_LEADS) <= set(ecg.lead_names):
                    found.setdefault(name, []).append(path)
    return found


def signals(paths: Sequence[Path], network: StMemPretraining) -> NDArray[np.float32]:
    """ECGs (files, 12, samples) as the encoder takes them, from the beginning of each file."""
    config = network.config.encoder
    need = config.seq_len / config.rate_hz
    read = [read_ecg(path, seconds=min(ecg_info(path).duration_s, need + 1.0)) for path in paths]
    return np.stack([st_mem_input(ecg, samples=config.seq_len, rate_hz=config.rate_hz).signal for ecg in read])


@torch.inference_mode()
def errors(paths: Sequence[Path], network: StMemPretraining) -> NDArray[np.float64]:
    """Mean squared error of the hidden patches of each file, each patch normalised: 1 for drawing nothing."""
    network.eval()
    ecgs = torch.from_numpy(signals(paths, network))
    rng = np.random.default_rng(0)
    config = network.config
    found = np.zeros((DRAWS, len(paths)))
    for draw in range(DRAWS):
        for row, ecg in enumerate(ecgs):
            order = rng.random((1, 12, config.encoder.patches)).argsort(-1)[..., : config.kept_patches]
            found[draw, row] = float(network(ecg[None], kept=torch.from_numpy(np.sort(order, axis=-1))).loss)
    return found.mean(0)


def trained(folder: Path | None, steps: int, work: Path, seed: int = 0) -> StMemPretraining:
    """A network after so many steps on simulated ECGs, and as often on those of a folder where there is one."""
    source = '["phantom"]' if folder is None else f'["phantom", "{folder}"]'
    changes = [f"data.source={source}", f"steps={steps}", "minutes=null", f"seed={seed}", "sample_every=0", "save_every=100000"]
    changes += [f"warmup_steps={max(1, steps // 10)}"]
    recipe = load_recipe(RECIPE, changes)
    task = StMemTask(recipe)
    train(task, recipe, work, resume=True)
    return task.network


def main() -> None:
    options = arguments(__doc__ or "", steps=1500, work="runs/st-mem-real")
    at = os.environ.get("ECHOGEN_TEST_DATA")
    if not at:
        raise SystemExit("Set ECHOGEN_TEST_DATA to the folder of real recordings.")
    found = recordings(Path(at))
    halves = [[name for index, name in enumerate(found) if index % 2 == half] for half in (0, 1)]
    work = Path(options.work)
    simulated = trained(None, options.steps, work / "simulated")
    rows, all_before, all_after = [], [], []
    for number, learned in enumerate(halves):
        judged = halves[1 - number]
        with tempfile.TemporaryDirectory() as folder:
            for name in learned:
                for path in found[name]:
                    for part in path.parent.glob(f"{path.stem}.*"):
                        (Path(folder) / name).mkdir(exist_ok=True)
                        (Path(folder) / name / part.name).symlink_to(part)
            network = trained(Path(folder), options.steps, work / f"half-{number}")
        paths = [path for name in judged for path in found[name]]
        before, after = errors(paths, simulated), errors(paths, network)
        all_before.append(before)
        all_after.append(after)
        own = [path for name in learned for path in found[name]]
        formats = ", ".join(name.removeprefix("ecg_") for name in learned)
        rows.append(
            [formats, str(len(own)), str(len(paths)), f"{before.mean():.3f}", f"{after.mean():.3f}",
             f"{int((after < before).sum())} of {len(paths)}", f"{errors(own, network).mean():.3f}"]
        )  # fmt: skip
    before, after = np.concatenate(all_before), np.concatenate(all_after)
    better = int((after < before).sum())
    rows.append(["both", "", str(len(before)), f"{before.mean():.3f}", f"{after.mean():.3f}", f"{better} of {len(before)}", ""])
    head = ["real ECGs learned from", "n", "n judged, of other formats", "error, simulated ECGs alone", "error, with real ones"]
    text = (
        f"Recipe {RECIPE}, {options.steps} steps of 16 ECGs (minutes; the recipe has 20,000): simulated ones "
        f"alone, or half simulated and half of the "
        f"real recordings "
        "of some file formats; judged on the real recordings of the other formats, which stand for other devices. Error: mean "
        f"squared error of the hidden three quarters of patches, each patch normalised (1: nothing is drawn), over "
        f"{DRAWS} draws "
        "of what is hidden. A dozen recordings are few: this shows that training on real files works and what it brings, not "
        "how good an encoder of many thousands would be. The networks are not kept. "
        f"Command: `python benchmarks/st_mem_real.py --steps {options.steps}`.\n\n"
    ) + table([*head, "lower in", "error on those learned from"], rows)
    print(text)
    write_section(DOCS / "st_mem.md", "Pre-training on real ECGs", text)


if __name__ == "__main__":
    main()
