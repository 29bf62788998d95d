"""The content asked of one window of video, its conditions encoded for a network, and a query about its new tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from echogen.arrays import Floats
from echogen.ecg_window.analysis import EcgWindow
from echogen.ecg_window.features import FEATURES, latent_features
from echogen.ecg_window.outline import Outline, expected_outline
from echogen.ecg_window.spec import EcgWindowSpec, latent_times
from echogen.generators.base import ef_to_give
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.random_seeds import Purpose, mixed_seed
from echogen.networks.conditioning import SEX_IDS, VIEW_IDS
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer
from echogen.physiology import Filling
from echogen.records import Conditions
from echogen.samplers.maskgit import Guided, guided


@dataclass(frozen=True)
class WindowRequest:
    """The content asked of one window of video.

    conditions: conditions of the video, with defaults in place of those that are not asked for (`with_defaults`).
    ecg_window: beats and cleaned lead of the ECG around the window; None without an ECG.
    times_s: (frames,) times of the window's frames, on the ECG's clock, in s.
    is_first: True if the window's first latent is a single frame.
    cavity: length and width of the cavity at end-diastole, in pixels; None where they are not known.
    filling: filling of the ventricle between beats.
    ahead_s: time by which the window is asked to run ahead of the ECG, in s, since the video lags behind by as much.
    spec: sizes of the ECG window and of the latents.
    ef_calibration: pairs of an EF given to the network and the EF of its videos, in %; see `ef_to_give`.
    """

    conditions: Conditions
    ecg_window: EcgWindow | None
    times_s: Floats
    is_first: bool
    cavity: tuple[float, float] | None = None
    filling: Filling = field(default_factory=Filling)
    ahead_s: float = 0.0
    spec: EcgWindowSpec = field(default_factory=EcgWindowSpec)
    ef_calibration: tuple[tuple[float, float], ...] = ()

    def calibrated_ef_percent(self, conditions: Conditions | None = None) -> float | None:
        """Return the EF in % to give to the network so that its video has the EF asked for; None where none is asked for.

        conditions: others than the window's own.
        """
        asked = (conditions or self.conditions).ef_percent
        return None if asked is None else ef_to_give(asked, self.ef_calibration)

    @property
    def drawn_view(self) -> str | None:
        """View that the video is drawn in: the one asked for or usual, else that of the reference; None: unknown."""
        view, reference = self.conditions.view, self.conditions.reference
        return reference.view if view is None and reference is not None else view

    @property
    def lead_name(self) -> str | None:
        """ECG lead in use; None without an ECG."""
        return None if self.ecg_window is None else self.ecg_window.lead_name

    @property
    def latents(self) -> int:
        """Latents that the window's frames make."""
        return self.spec.latents(len(self.times_s))

    def outline(self, conditions: Conditions | None = None) -> Outline | None:
        """Return the outline of the cavity expected from the beats; None where beats, EF or size are not known.

        conditions: others than the window's own.
        """
        conditions = conditions or self.conditions
        ef_percent = self.calibrated_ef_percent(conditions)
        if self.ecg_window is None or self.cavity is None or ef_percent is None:
            return None
        return expected_outline(self.ecg_window.beats, conditions.sex, ef_percent, *self.cavity, self.filling)

    def latent_clock(self, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the times of the latents after the first frame, (rows, latents) in s, and `is_first`, (rows,)."""
        times = latent_times(self.times_s, self.is_first, self.spec.frames_per_latent) - self.times_s[0]
        times_s = torch.tensor(times, dtype=torch.float32, device=device).expand(rows, -1)
        return times_s, torch.full((rows,), self.is_first, dtype=torch.bool, device=device)


def with_defaults(conditions: Conditions, seed: int, config: EchoPulseConfig) -> Conditions:
    """Fill in the usual EF (drawn from the seed) and view where none is asked for."""
    ef, view = conditions.ef_percent, conditions.view
    if ef is None and config.usual_ef is not None:
        mean, deviation = config.usual_ef
        drawn = np.random.default_rng(mixed_seed(seed, 0, Purpose.EF)).normal(mean, deviation)
        ef = float(np.clip(drawn, *config.ef_range))
    if view is None and conditions.reference is None:
        view = config.usual_view
    return replace(conditions, ef_percent=ef, view=view)


def encode_conditions(
    network: MaskedTransformer, request: WindowRequest, rows: Sequence[Conditions], device: torch.device
) -> Conditioning:
    """Encode a window's conditions for a network, one row of its batch for each of the given ones.

    rows: conditions that differ in EF, view or sex; all share the window's ECG, or lack it (ecg=None).
    """
    count, latents, spec, ecg_window = len(rows), request.latents, request.spec, request.ecg_window
    efs = [request.calibrated_ef_percent(conditions) for conditions in rows]
    times = request.times_s + request.ahead_s
    lead = np.zeros(spec.samples(latents), np.float32)
    features = np.zeros((count, latents, spec.frames_per_latent * FEATURES), np.float32)
    if ecg_window is not None:
        lead = ecg_window.window(float(times[0]), latents)
        for row, conditions, ef in zip(features, rows, efs, strict=True):
            sex, outline = conditions.sex, request.outline(conditions)
            row[:] = latent_features(times, request.is_first, ecg_window.beats, sex, ef, outline, spec.frames_per_latent)
    present = torch.tensor([ecg_window is not None and row.ecg is not None for row in rows], device=device)
    return network.condition(
        count,
        ecg=torch.from_numpy(lead).to(device).expand(count, -1),
        ecg_start_s=torch.full((count,), -spec.before_s, device=device),
        ecg_keep=present,
        ef_percent=torch.tensor([np.nan if ef is None else ef for ef in efs], device=device),
        view=torch.tensor([VIEW_IDS[row.view] for row in rows], device=device),
        sex=torch.tensor([SEX_IDS[row.sex] for row in rows], device=device),
        frame_features=torch.from_numpy(features).to(device),
        frame_keep=present,
    )


@dataclass(frozen=True)
class TokenQuery:
    """A question to the transformer: the codes of new latents in a window, which may keep others before and hide some behind.

    encoded_conditions: conditions of the window, in one row, or in two for guidance: with and without what is guided.
    times_s: (rows, latents) times of the window's latents after its first frame, in s.
    is_first: (rows,) True if the window's first latent is a single frame.
    kept: (1, given, positions, groups) ids of the latents before the new ones; None without any.
    guidance: scale from the second row's answer to the first row's; 1 is the first row's own.
    """

    encoded_conditions: Conditioning
    times_s: Tensor
    is_first: Tensor
    kept: Tensor | None = None
    guidance: float = 1.0

    @classmethod
    def about(
        cls,
        request: WindowRequest,
        encoded_conditions: Conditioning,
        device: torch.device,
        *,
        rows: int,
        latents: int,
        kept: Tensor | None,
        guidance: float,
    ) -> TokenQuery:
        """Ask about the first `latents` latents of a requested window, whose conditions were encoded in so many rows."""
        times_s, is_first = request.latent_clock(rows, device)
        modulation = encoded_conditions.modulation
        modulation = None if modulation is None else modulation[:, :latents]
        return cls(encoded_conditions._replace(modulation=modulation), times_s[:, :latents], is_first, kept, guidance)

    @property
    def given(self) -> int:
        """Latents that are kept before the new ones."""
        return 0 if self.kept is None else self.kept.shape[1]

    def window(self, tokens: Tensor, mask_id: int) -> Tensor:
        """Return the whole window (1, latents, positions, groups) with these new tokens (1, new, positions, groups)."""
        return whole_window(self.kept, tokens, self.times_s.shape[1], mask_id)

    def logits_of(self, transformer: MaskedTransformer) -> Callable[[Tensor], Tensor] | Guided:
        """Return a function from new tokens (1, new, positions, groups), some hidden, to the transformer's logits of them."""
        rows, mask_id = len(self.is_first), transformer.config.mask_id

        def logits(tokens: Tensor) -> Tensor:
            window = self.window(tokens, mask_id).expand(rows, -1, -1, -1)
            new = slice(self.given, self.given + tokens.shape[1])
            features = transformer.features(window, self.times_s, self.is_first, self.encoded_conditions, new)
            return transformer.logits(features)

        def both_rows(tokens: Tensor) -> tuple[Tensor, Tensor]:
            both = logits(tokens).float()
            return both[:1], both[1:]

        return logits if rows == 1 else guided(both_rows, self.guidance)


def whole_window(kept: Tensor | None, tokens: Tensor, latents: int, mask_id: int) -> Tensor:
    """Join kept latents, new tokens (1, new, positions, groups) and hidden latents behind them to a window of `latents`."""
    parts = [tokens] if kept is None else [kept, tokens]
    behind = latents - sum(part.shape[1] for part in parts)
    if behind:
        parts.append(tokens.new_full((tokens.shape[0], behind, *tokens.shape[2:]), mask_id))
    return torch.cat(parts, dim=1)
