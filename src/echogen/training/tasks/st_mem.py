"""Task `st-mem`: an ECG encoder learns from simulated 12-lead ECGs by drawing the patches that are hidden from it.

The ECGs are made on the fly. Source: Na et al., Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship
of Electrocardiogram (ST-MEM), ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from echogen.ecg.st_mem_input import st_mem_input
from echogen.errors import InputError
from echogen.networks.config import load_network, save_network
from echogen.networks.st_mem import LEAD_II, StMem, StMemConfig
from echogen.networks.st_mem_pretraining import StMemPretraining, StMemPretrainingConfig
from echogen.phantom.electrical import LEAD_NAMES, make_ecg
from echogen.phantom.rhythm import make_rhythm
from echogen.records import Ecg, FloatArray
from echogen.training.recipe import Recipe
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, Window, WindowShape
from echogen.training.task import Task

#: Height in pixels of each trace in a filmstrip.
_TRACE_HEIGHT = 64


@dataclass(frozen=True)
class EcgData(SourceSettings):
    """ECGs of a source, or of simulated hearts where none is named.

    rhythms: Rhythms, each drawn equally often; one that is named twice comes twice as often.
    heart_rate_bpm: Lowest and highest heart rate in bpm.
    """

    rhythms: tuple[str, ...] = ("sinus", "sinus", "af", "pvc", "pause", "paced")
    heart_rate_bpm: tuple[float, float] = (40.0, 150.0)


def simulated_ecg(data: EcgData, config: StMemConfig, rng: np.random.Generator) -> Ecg:
    """Simulate a 12-lead ECG of a random heart, of the length and sampling rate that the encoder sees."""
    length_s = config.seq_len / config.rate_hz
    rhythm = make_rhythm(str(rng.choice(data.rhythms)), rng.uniform(*data.heart_rate_bpm), 0.0, length_s, rng)
    return make_ecg(rhythm, 0.0, length_s, rng, rate_hz=config.rate_hz)


class StMemTask(Task):
    """Masked autoencoder from ECGs with three quarters of their patches hidden to the hidden patches; the encoder is saved.

    In the recipe's network, `encoder: {}` is the paper's size.
    """

    Data = EcgData
    Network = StMemPretrainingConfig
    former_names = MappingProxyType(FORMER_NAMES)

    data: EcgData

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        if not self.data.rhythms or self.data.heart_rate_bpm != tuple(sorted(self.data.heart_rate_bpm)):
            raise InputError("The recipe's data needs at least one rhythm, and heart_rate_bpm as [lowest, highest].")
        for rhythm in self.data.rhythms:
            for heart_rate_bpm in self.data.heart_rate_bpm:
                make_rhythm(rhythm, heart_rate_bpm, 0.0, 1.0, np.random.default_rng(0))  # raises for what cannot be made
        config: StMemPretrainingConfig = self.network_config(recipe)
        if config.encoder.num_leads != len(LEAD_NAMES):
            raise InputError(f"The recipe's network.encoder.num_leads must be {len(LEAD_NAMES)}, as simulated ECGs have.")
        self.network = StMemPretraining(config)
        self.source: TrainingSource | None = None
        if self.data.source is not None:
            shape = WindowShape(frames=0, ecg_seconds=config.encoder.seq_len / config.encoder.rate_hz)
            self.source = TrainingSource(
                self.data, Needs(frozenset({"ecg", "twelve_leads"})), shape, recipe.seed, check=self._check_window
            )
        start = self.starting_weights("st_mem")
        if start:
            earlier = load_network(StMem, start)
            if earlier.config != config.encoder:
                raise InputError(
                    f"The encoder in {start} has another size than the recipe's network.encoder; give them the same settings."
                )
            self.network.encoder.load_state_dict(earlier.state_dict())

    def networks(self) -> dict[str, nn.Module]:
        """The encoder with its decoder."""
        return {"st_mem_pretraining": self.network}

    def _signal(self, ecg: Ecg) -> FloatArray:
        """An ECG (12, seq_len) as the encoder takes it."""
        config = self.network.config.encoder
        return st_mem_input(ecg, samples=config.seq_len, rate_hz=config.rate_hz).signal

    def _check_window(self, window: Window) -> None:
        """Raise `InputError` for a window whose ECG the encoder cannot take, such as a flat one."""
        assert window.ecg is not None
        self._signal(window.ecg)

    def _ecg(self, position: int) -> Ecg:
        """ECG of a row, of the source or of a simulated heart where the recipe names none."""
        if self.source is None:
            return simulated_ecg(self.data, self.network.config.encoder, self.row_random(position))
        ecg = self.source.at(position).ecg
        assert ecg is not None
        return ecg

    def _kept(self, position: int) -> NDArray[np.int64]:
        """Random indices (12, kept) of the patches of a row that the encoder sees, in order."""
        config = self.network.config
        order = self.row_random(position).random((len(LEAD_NAMES), config.encoder.patches)).argsort(-1)
        return np.sort(order[:, : config.kept_patches], axis=-1)

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Standardised ECGs (B, 12, seq_len), and the patches of each lead that are seen (B, 12, kept)."""
        places = self.positions(step, rank, world)
        ecgs = np.stack([self._signal(self._ecg(position)) for position in places])
        return {"ecg": torch.from_numpy(ecgs), "kept": torch.from_numpy(np.stack([self._kept(place) for place in places]))}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Mean squared error of the hidden patches, each normalised: 1 for drawing nothing."""
        return {"loss": self.network(batch["ecg"], kept=batch["kept"]).loss}

    @torch.no_grad()
    def sample(self, step: int) -> NDArray[np.uint8]:
        """Lead II of four ECGs, each above what was drawn of it; patches that were given are drawn grey."""
        ecg = torch.from_numpy(np.stack([self._signal(self._ecg(position)) for position in range(4)])).to(self.device)
        found = self.network(ecg)
        patches, drawn, hidden = (part[:, LEAD_II] for part in (self.network.encoder.patches(ecg), found.patches, found.hidden))
        hidden = hidden.unsqueeze(-1)
        spread, mean = torch.std_mean(patches, dim=-1, keepdim=True)
        drawn = torch.where(hidden, drawn.float() * spread + mean, patches)
        brightness = torch.where(hidden, 255, 80).expand_as(patches)
        rows = []
        for true, ours, level in zip(*(part.flatten(1).cpu().numpy() for part in (patches, drawn, brightness)), strict=True):
            low, high = float(true.min()), float(true.max())
            rows += [_trace(true, low, high, 255), _trace(ours, low, high, level)]
        return np.vstack(rows)

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the encoder in bfloat16, without its decoder."""
        network = networks["st_mem_pretraining"]
        assert isinstance(network, StMemPretraining)
        save_network(network.encoder, folder / "st_mem", torch.bfloat16)


def _trace(signal: NDArray[np.floating], low: float, high: float, brightness: ArrayLike) -> NDArray[np.uint8]:
    """Trace (height, samples) on black: one pixel a sample, at the height of its value between low and high."""
    share = np.clip((signal - low) / max(high - low, 1e-6), 0.0, 1.0)
    picture = np.zeros((_TRACE_HEIGHT, len(signal)), dtype=np.uint8)
    picture[np.rint((1.0 - share) * (_TRACE_HEIGHT - 1)).astype(np.int64), np.arange(len(signal))] = brightness
    return picture
