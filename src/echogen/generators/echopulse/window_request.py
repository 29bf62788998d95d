"""What one window of video is to show, told to the transformer, and the transformer's answer about its new tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echogen.ecg_window import features as steering
from echogen.ecg_window.analysis import EcgWindow
from echogen.networks.conditioning import SEX_IDS, VIEW_IDS
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer
from echogen.physiology import Filling
from echogen.records import Conditions
from echogen.samplers.maskgit import Guided, guided


@dataclass(frozen=True)
class WindowRequest:
    """A window: what is asked, what it hears of the ECG, the times of its frames in s, and whether a single frame begins it.

    cavity: length and width in pixels at end-diastole, as far as they are known. filling: how the ventricle fills.
    """

    conditions: Conditions
    ecg_window: EcgWindow | None
    times_s: NDArray[np.float64]
    is_first: bool
    cavity: tuple[float, float] | None = None
    filling: Filling = field(default_factory=Filling)

    @property
    def latents(self) -> int:
        """How many latents the frames make."""
        return -(-len(self.times_s) // 4)

    def outline(self, conditions: Conditions | None = None) -> steering.Outline | None:
        """The outline of the cavity that the heart's clock expects; None where beats, EF or size are not known.

        conditions: others than the scene's own.
        """
        conditions = conditions or self.conditions
        if self.ecg_window is None or self.cavity is None or conditions.ef_percent is None:
            return None
        return steering.expected_outline(self.ecg_window.beats, conditions.sex, conditions.ef_percent, *self.cavity, self.filling)

    def clock(self, rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The times of the latents from the first frame on, (rows, latents) in s, and `is_first`, (rows,)."""
        times = steering.latent_times(self.times_s, self.is_first) - self.times_s[0]
        clock = torch.tensor(times, dtype=torch.float32, device=device).expand(rows, -1)
        return clock, torch.full((rows,), self.is_first, dtype=torch.bool, device=device)


def frames_of(latents: int, is_first: bool) -> int:
    """How many frames latents stand for: four each, but one for the first of a video."""
    return 4 * latents - 3 * is_first


def encode_conditions(
    network: MaskedTransformer, request: WindowRequest, asked: Sequence[Conditions], ahead_s: float, device: torch.device
) -> Conditioning:
    """The scene for a network, one row for each of the conditions, which share its ECG or lack it.

    ahead_s: how far ahead the heart is asked to be.
    """
    rows, latents, ecg_window = len(asked), request.latents, request.ecg_window
    times = request.times_s + ahead_s
    lead = np.zeros(steering.window_samples(latents), np.float32)
    features = np.zeros((rows, latents, 4 * steering.FEATURES), np.float32)
    if ecg_window is not None:
        lead = ecg_window.window(float(times[0]), latents)
        for row, conditions in zip(features, asked, strict=True):
            ef, sex, outline = conditions.ef_percent, conditions.sex, request.outline(conditions)
            row[:] = steering.latent_features(times, request.is_first, ecg_window.beats, sex, ef, outline)
    present = torch.tensor([ecg_window is not None and row.ecg is not None for row in asked], device=device)
    return network.condition(
        rows,
        ecg=torch.from_numpy(lead).to(device).expand(rows, -1),
        ecg_start_s=torch.full((rows,), -steering.ECG_BEFORE_S, device=device),
        ecg_keep=present,
        ef_percent=torch.tensor([np.nan if row.ef_percent is None else row.ef_percent for row in asked], device=device),
        view=torch.tensor([VIEW_IDS[row.view] for row in asked], device=device),
        sex=torch.tensor([SEX_IDS[row.sex] for row in asked], device=device),
        frame_features=torch.from_numpy(features).to(device),
        frame_keep=present,
    )


@dataclass(frozen=True)
class TokenQuery:
    """What the transformer is asked: the codes of new latents, in a window that may keep others before them and hide some behind.

    told: the scene, one row or two; with two the answer is guided from the second to the first by `scale`. clock, head: see
    `WindowRequest.clock`, whose length is that of the window. kept (1, given, positions, groups): ids before the new ones.
    """

    told: Conditioning
    clock: Tensor
    head: Tensor
    kept: Tensor | None = None
    scale: float = 1.0

    @classmethod
    def about(
        cls,
        request: WindowRequest,
        told: Conditioning,
        rows: int,
        device: torch.device,
        latents: int,
        kept: Tensor | None,
        scale: float,
    ) -> TokenQuery:
        """The question about the first latents of a scene that was told in so many rows."""
        clock, head = request.clock(rows, device)
        modulation = None if told.modulation is None else told.modulation[:, :latents]
        return cls(told._replace(modulation=modulation), clock[:, :latents], head, kept, scale)

    def window(self, tokens: Tensor, mask_id: int) -> Tensor:
        """The whole window (1, latents, positions, groups) with these new tokens (1, new, positions, groups)."""
        return between(self.kept, tokens, self.clock.shape[1], mask_id)

    def asked_of(self, transformer: MaskedTransformer) -> Callable[[Tensor], Tensor] | Guided:
        """tokens (1, new, positions, groups) -> their logits."""
        given = 0 if self.kept is None else self.kept.shape[1]
        rows = len(self.head)

        def predict(tokens: Tensor) -> Tensor:
            window = self.window(tokens, transformer.config.mask_id).expand(rows, -1, -1, -1)
            asked = slice(given, given + tokens.shape[1])
            return transformer.logits(transformer.features(window, self.clock, self.head, self.told, asked))

        def pair(tokens: Tensor) -> tuple[Tensor, Tensor]:
            both = predict(tokens).float()
            return both[:1], both[1:]

        return predict if rows == 1 else guided(pair, self.scale)


def between(kept: Tensor | None, tokens: Tensor, latents: int, mask_id: int) -> Tensor:
    """A window of latents: those that are kept, the tokens (1, new, positions, groups), and hidden ones up to its end."""
    parts = [tokens] if kept is None else [kept, tokens]
    behind = latents - sum(part.shape[1] for part in parts)
    if behind:
        parts.append(tokens.new_full((tokens.shape[0], behind, *tokens.shape[2:]), mask_id))
    return torch.cat(parts, dim=1)
