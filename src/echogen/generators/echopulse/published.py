"""ECHOPulse as its released weights need it: one pooled token of one beat, windows of 11 frames that share 3.

Source: the code of ECHOPulse (Li et al., ICLR 2025). The system of the paper, with time in seconds, is `echopulse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from echogen.ecg import choose_lead, find_landmarks
from echogen.ecg.st_mem_input import published_input
from echogen.errors import InputError
from echogen.generators.base import Context, Generator
from echogen.generators.pictures import as_frames, reference_picture
from echogen.generators.precision import DTYPES, Precision
from echogen.generators.random_seeds import mixed_seed
from echogen.generators.sampling import Sampling
from echogen.generators.settings_file import write_settings
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.published import KeyValue
from echogen.networks.published_tokenizer import PublishedTokenizer
from echogen.networks.published_transformer import PublishedTransformer
from echogen.networks.st_mem import StMem
from echogen.records import Cine, Conditions, Ecg, FloatArray
from echogen.samplers.published import RandomChoices, sample


@dataclass(frozen=True)
class EchoPulsePublishedConfig:
    """Settings that generator.json holds beside the system's name.

    fps: rate in Hz at which the frames are said to follow each other; the released networks know no time.
    frames: frames of a window.
    prime: last frames of a window that the next one begins with.
    steps: steps of parallel decoding.
    temperature: temperature of the codes at the first step, falling to 0.
    takes: conditions that may be asked for.
    dtype: number type of the matrix products, "bfloat16" or the slower "float32".
    Raises `InputError` for values that cannot be.
    """

    fps: float = 30.0
    frames: int = 11
    prime: int = 3
    steps: int = 18
    temperature: float = 0.9
    takes: tuple[str, ...] = ("ecg", "reference")
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"The networks compute in {' or '.join(DTYPES)}, not in {self.dtype!r}.")
        if self.fps <= 0 or not 0 < self.prime < self.frames or self.steps < 1:
            raise InputError("A generator needs a positive frame rate and number of steps, and windows longer than their prime.")


@dataclass(frozen=True)
class PublishedState:
    """The part of a video that its next window goes on from.

    prime: (1, channels, frames, height, width) last frames of the window before, as the tokenizer drew them.
    beat: (samples,) ECG in mV of the beat that the window before was made from.
    encoded_beat: keys and values of that beat for every block of the transformer; None encodes it again.
    """

    prime: Tensor
    beat: FloatArray
    encoded_beat: list[KeyValue] | None = None


class EchoPulsePublished(Generator):
    """The released networks of ECHOPulse; the published guidance changes nothing, so `guidance` has no effect here either."""

    system = "echopulse-published"
    #: ECG in s after a window that it sees: enough that the first window, too, has a whole beat to take.
    ecg_future_s = 3.5

    def __init__(
        self,
        config: EchoPulsePublishedConfig,
        tokenizer: PublishedTokenizer,
        transformer: PublishedTransformer,
        ecg: StMem,
        device: torch.device,
    ) -> None:
        """Put networks to work under a config; raises `InputError` where they do not fit one another or the config."""
        check_published_networks(config, tokenizer, transformer, ecg)
        self.config = config
        self.device = device
        self.precision = Precision(device, DTYPES[config.dtype])
        self.tokenizer = tokenizer.to(device).eval()
        self.transformer = transformer.to(device).eval()
        self.ecg = ecg.to(device).eval()
        self.native_fps = config.fps
        self.takes = frozenset(config.takes)
        self.name, self.weights_hash = self.system, ""

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        """Make the generator of a folder; see `Generator.from_folder`."""
        config = config_from_dict(EchoPulsePublishedConfig, settings)
        tokenizer = load_network(PublishedTokenizer, folder / "tokenizer")
        transformer = load_network(PublishedTransformer, folder / "transformer")
        return cls(config, tokenizer, transformer, load_network(StMem, folder / "ecg"), device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator.json and the three networks (in their own type) into a folder."""
        folder = Path(folder)
        save_network(self.tokenizer, folder / "tokenizer")
        save_network(self.transformer, folder / "transformer")
        save_network(self.ecg, folder / "ecg")
        write_settings(folder, self.system, self.config)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the matrix products."""
        return self.precision.dtype

    @property
    def window_s(self) -> float:
        """Duration of a window's frames, in s."""
        return self.config.frames / self.config.fps

    @torch.inference_mode()
    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """Make the next frames after the last ones of the window before (or after a reference), which are not repeated.

        A reference becomes the first frame, as the tokenizer draws it. Raises `InputError` without an ECG that shows two
        beats, or when the reference does not have the network's size.
        """
        config = self.config
        state: PublishedState | None = context.state
        prime = self._reference_video(conditions.reference) if state is None else state.prime
        repeated = config.prime if context.index else 0
        times_s = context.next_s + np.arange(config.frames - repeated) / config.fps
        beat = beat_around(conditions.ecg, float(times_s.mean()), None if state is None else state.beat)
        with self.precision.autocast():
            encoded_beat = None
            if state is not None and np.array_equal(state.beat, beat):
                encoded_beat = state.encoded_beat
            if encoded_beat is None:
                encoded_beat = self.encode_beat(beat)
            given = torch.zeros(1, 0, dtype=torch.int64, device=self.device)
            if prime is not None:
                given = self.tokenizer.tokenize(prime).flatten(1)
            tokens = self.guess_tokens(given, encoded_beat, context.index, sampling)
            video = self.tokenizer.decode_ids(tokens)[0].float()
        # Echo is grey; the mean does not depend on the order of the colours.
        frames = as_frames(video[repeated:].mean(1).clamp(0.0, 1.0))
        following = PublishedState(video[-config.prime :].transpose(0, 1)[None], beat, encoded_beat)
        return Cine(frames, times_s), Context(context.index + 1, context.next_s + len(times_s) / config.fps, following)

    def encode_beat(self, beat: FloatArray) -> list[KeyValue]:
        """Encode a beat (samples,) as the keys and values that every block of the transformer looks at."""
        sizes = self.ecg.config
        signal = torch.from_numpy(published_input(beat, sizes.seq_len, sizes.num_leads)).to(self.device)
        return self.transformer.encode_context(self.ecg.pooled(signal[None]).unsqueeze(1))

    def guess_tokens(self, given: Tensor, encoded_beat: list[KeyValue], index: int, sampling: Sampling) -> Tensor:
        """Guess the ids (1, latents, positions, 1) of window `index`, which begins with given ids (1, any number)."""
        config, transformer = self.config, self.transformer
        shape = self.tokenizer.latent_shape(config.frames)
        tokens = sample(
            lambda ids, places: transformer(ids, shape, encoded_beat, places=places),
            given,
            int(np.prod(shape)) - given.shape[1],
            transformer.config.mask_id,
            RandomChoices(torch.Generator().manual_seed(mixed_seed(sampling.seed, index))),
            steps=sampling.steps or config.steps,
            temperature=config.temperature,
        )
        return tokens.view(1, shape[0], -1, 1)

    def _reference_video(self, reference: Cine | None) -> Tensor | None:
        """Return a reference's first frame as a video (1, channels, 1, height, width) in 0..1; None without a reference."""
        if reference is None:
            return None
        sizes = self.tokenizer.config
        return reference_picture(reference, *sizes.image_size, self.device).expand(1, sizes.channels, 1, -1, -1)


def beat_around(ecg: Ecg | None, time_s: float, before: FloatArray | None) -> FloatArray:
    """Cut the trace (samples,) from R peak to R peak around a time, or the beat nearest to it.

    before: the beat to take where the ECG shows none. The lead is II where it was recorded, as in the published data, else the
    one that shows the beats best. Raises `InputError` without an ECG, and where it shows no beat and there is none before.
    """
    if ecg is None:
        raise InputError("The released networks of ECHOPulse cannot do without an ECG; give one that shows heart beats.")
    try:
        peaks = find_landmarks(ecg).r_s
    except InputError:
        if before is None:
            raise
        return before
    if len(peaks) < 2:
        if before is None:
            raise InputError("The released networks of ECHOPulse need a whole beat; give an ECG with at least two R peaks.")
        return before
    index = int(np.clip(np.searchsorted(peaks, time_s, side="right") - 1, 0, len(peaks) - 2))
    lead = next((name for name in ecg.lead_names if name.upper() in ("II", "MLII")), None) or choose_lead(ecg)
    return ecg.between(float(peaks[index]), float(peaks[index + 1])).lead(lead)


def check_published_networks(
    config: EchoPulsePublishedConfig, tokenizer: PublishedTokenizer, transformer: PublishedTransformer, ecg: StMem
) -> None:
    """Raise `InputError` for networks and windows that do not belong together."""
    codes, vocabulary = tokenizer.config.codebook_size, transformer.config.vocabulary
    if codes != vocabulary:
        raise InputError(
            f"The tokenizer has {codes} codes but the transformer expects {vocabulary}; they do not belong together."
        )
    if ecg.config.width != transformer.config.context_dim:
        raise InputError(
            f"The ECG encoder gives tokens of width {ecg.config.width} but the transformer expects "
            f"{transformer.config.context_dim or 'none'}; they do not belong together."
        )
    tokenizer.latent_shape(config.prime)
    tokens = int(np.prod(tokenizer.latent_shape(config.frames)))
    if tokens > transformer.config.max_tokens:
        raise InputError(
            f"A window of {config.frames} frames has {tokens} tokens, but the transformer takes at most "
            f"{transformer.config.max_tokens}; they do not belong together."
        )
