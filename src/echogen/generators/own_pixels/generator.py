"""Video of a patient's own still: its pixels are carried along the motion that the ECG and the ejection fraction ask for.

Nothing is drawn by a network: every frame is the still, displaced by a flow that follows from the outlines of its chambers and
brings the cavity to the volume of the heart's clock. A frame is a function of its time, the still and the seed, so memory does
not grow with length and any resolution is made alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch

from echogen.arrays import Floats
from echogen.config import config_from_dict
from echogen.ecg_window.analysis import analyse_ecg, analyse_ecg_so_far
from echogen.ecg_window.beats import USUAL_INTERVAL_S, Beats
from echogen.ecg_window.features import USUAL_EF_PERCENT
from echogen.ecg_window.outline import volume_share
from echogen.errors import InputError
from echogen.generators.base import Context, Generator
from echogen.generators.own_pixels.carried import CarriedStill
from echogen.generators.sampling import LiveTiming, Sampling
from echogen.generators.settings_file import write_settings
from echogen.physiology import Filling
from echogen.records import Cine, Conditions, Ecg

Phase = Literal["ed", "es"]

#: Conditions that are taken; the mask holds the ids of `STRUCTURES` on the pixels of the reference.
TAKES = frozenset({"ecg", "reference", "maps.mask", "ef_percent", "sex", "view"})
#: Time in s over which a window leads over from the pose that the one before it ended with to its own.
SEAM_S = 0.08
#: Largest volume, over that of the still, by which the first frame may differ from the still and still be the still itself.
SAME_VOLUME = 0.15
#: Time in s from a P onset to its R peak in the steady rhythm that is shown without an ECG.
PQ_S, QRS_ONSET_S = 0.16, 0.04


@dataclass(frozen=True)
class OwnPixelsConfig:
    """Settings of own pixels.

    phase: moment of the beat that the still shows, "ed" or "es".
    fps: frames per second.
    window_s: length of a window, in s.
    live_s: length of a part of a live video, in s.
    future_s: ECG that must be there beyond a live part, in s.
    lead_in_s: ECG that must be there before a live video begins, in s.
    """

    phase: Phase = "ed"
    fps: float = 32.0
    window_s: float = 2.0
    live_s: float = 0.125
    future_s: float = 0.25
    lead_in_s: float = 3.0

    def __post_init__(self) -> None:
        if min(self.fps, self.window_s, self.live_s) <= 0 or min(self.future_s, self.lead_in_s) < 0:
            raise InputError("The settings of own pixels must be positive.")


@dataclass(frozen=True)
class StillState:
    """The part of a video that its next window goes on from.

    still: the given frame and its poses.
    start_s: time of the first frame, in s; None before it.
    contraction: contraction of the last frame. last_s: its time in s.
    """

    still: CarriedStill
    start_s: float | None = None
    contraction: float = 0.0
    last_s: float = 0.0


class OwnPixels(Generator):
    """A still's own pixels, moved.

    config: its settings.

    >>> import numpy as np
    >>> import echogen
    >>> from echogen.generators.own_pixels.generator import OwnPixels
    >>> from echogen.records import FrameMap
    >>> study = echogen.simulate(seconds=4.0, seed=3)
    >>> still = echogen.Cine(study.cine.frames[:1], np.zeros(1))
    >>> outlines = {"mask": FrameMap(study.masks[:1], np.zeros(1))}
    >>> OwnPixels()(study.ecg, seconds=1.0, reference=still, maps=outlines, ef_percent=40.0).frames.shape
    (32, 128, 128)
    """

    system = "own-pixels"
    name = "own-pixels"
    weights_hash = "none"
    takes = TAKES
    ef_range = (10.0, 80.0)
    needs_reference = True

    def __init__(self, config: OwnPixelsConfig | None = None) -> None:
        self.config = config or OwnPixelsConfig()
        self.native_fps = self.config.fps

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        """Make the generator of a folder with generator.json."""
        return cls(config_from_dict(OwnPixelsConfig, settings))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator.json into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_settings(Path(folder), self.system, self.config)

    @property
    def window_s(self) -> float:
        """Longest time that one window covers, in s."""
        return self.config.window_s

    @property
    def live_timing(self) -> LiveTiming:
        """Timing along an ECG that is being recorded."""
        config = self.config
        return LiveTiming(1.0 / config.fps, config.live_s, config.future_s, config.lead_in_s)

    def check(self, conditions: Conditions) -> None:
        """Raise `InputError` for conditions that are not taken, and without a still or outlines of its chambers."""
        super().check(conditions)
        mask = conditions.maps.get("mask")
        if conditions.reference is None or mask is None:
            raise InputError(f"The generator {self.name} moves the pixels of a still; give one, and a mask of its chambers.")
        if mask.values.shape[1:] != conditions.reference.frames.shape[1:]:
            raise InputError("The mask of a still must have as many rows and columns as the still.")

    def initial_state(self, conditions: Conditions, sampling: Sampling) -> StillState:
        """Prepare the still: its flow, its poses, and its texture."""
        assert conditions.reference is not None
        masks = conditions.maps["mask"].values[0].astype(np.uint8)
        return StillState(CarriedStill.of(conditions.reference.frames[0], masks, sampling.seed))

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """Carry the still through one window."""
        state: StillState = context.state
        length = self.config.window_s if not sampling.live else self.config.live_s if context.index else 1.0 / self.native_fps
        times = context.next_s + np.arange(max(round(length * self.native_fps), 1)) / self.native_fps
        beats = self._beats(conditions.ecg, context, sampling)
        contractions, state = self._contractions(beats, times, conditions, state)
        assert state.start_s is not None
        frames = [state.still.frame(k, t, t - state.start_s) for k, t in zip(contractions, times, strict=True)]
        reference = conditions.reference
        assert reference is not None
        cine = Cine(np.stack(frames), times, reference.mm_per_pixel, conditions.view or reference.view)
        return cine, Context(context.index + 1, float(times[-1]) + 1.0 / self.native_fps, state)

    def _beats(self, ecg: Ecg | None, context: Context, sampling: Sampling) -> Beats | None:
        """Find the beats around a window; None where a later window has none, steady ones without an ECG."""
        if ecg is None:
            r_s = USUAL_INTERVAL_S * (np.arange(-12, 8) + np.floor(context.next_s / USUAL_INTERVAL_S))
            return Beats(r_s, r_s - QRS_ONSET_S, r_s - PQ_S, np.zeros(len(r_s), bool))
        try:
            return (analyse_ecg_so_far(ecg) if sampling.live else analyse_ecg(ecg)).beats
        except InputError:
            if context.index == 0:
                raise
            return None

    def _contractions(
        self, beats: Beats | None, times: Floats, conditions: Conditions, state: StillState
    ) -> tuple[Floats, StillState]:
        """Return the contraction of each frame (times,), led over from the frame before, and the state after them."""
        first = state.start_s is None
        before = np.array([times[0] if first else state.last_s])
        ef = USUAL_EF_PERCENT if conditions.ef_percent is None else conditions.ef_percent
        own = 1.0 if self.config.phase == "ed" else 1.0 - ef / 100.0
        both = np.concatenate([before, times])
        if beats is None:
            contractions = np.full(len(both), state.contraction)
        else:
            near = beats.extended(float(both.min()) - 1.0, float(both.max()) + 1.0)
            volumes = volume_share(both, near.clock(conditions.sex, ef), ef, Filling()) / own
            contractions = state.still.motion.contraction(volumes)
        shown = state.contraction
        if first:
            change = abs(float(state.still.motion.volume(contractions[0])) - 1.0)
            shown = 0.0 if change < SAME_VOLUME else float(contractions[0])
        lead_over = (shown - contractions[0]) * np.exp(-(times - before[0]) / SEAM_S)
        contractions = contractions[1:] + lead_over
        start_s = float(times[0]) if state.start_s is None else state.start_s
        return contractions, replace(state, start_s=start_s, contraction=float(contractions[-1]), last_s=float(times[-1]))
