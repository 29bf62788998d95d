"""ECHOPulse as its released weights need it: one pooled token of one beat, windows of 11 frames that share 3.

Source: the code of ECHOPulse (Li et al., ICLR 2025). The system of the paper, with time in seconds, is `echopulse`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from echogen.ecg import choose_lead, find_landmarks
from echogen.ecg.st_mem_input import published_input
from echogen.errors import InputError
from echogen.generators.base import GENERATOR_FILE, Context, Generator, Sampling
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.published import KeyValue
from echogen.networks.published_tokenizer import PublishedTokenizer
from echogen.networks.published_transformer import PublishedTransformer
from echogen.networks.st_mem import StMem
from echogen.records import Cine, Conditions, Ecg, FloatArray
from echogen.samplers.published import RandomChoices, sample

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class EchoPulsePublishedConfig:
    """What generator.json holds beside the system's name.

    fps: rate at which the frames are said to follow each other; the released networks know no time. frames: of a window.
    prime: last frames of a window that the next one begins with. steps: of parallel decoding. temperature: of the codes at the
    first step, falling to 0. takes: the conditions. dtype: what the networks multiply in, "bfloat16" or the slower "float32".
    """

    fps: float = 30.0
    frames: int = 11
    prime: int = 3
    steps: int = 18
    temperature: float = 0.9
    takes: tuple[str, ...] = ("ecg", "frames")
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"The networks compute in {' or '.join(DTYPES)}, not in {self.dtype!r}.")
        if self.fps <= 0 or not 0 < self.prime < self.frames or self.steps < 1:
            raise InputError("A generator needs a positive frame rate and number of steps, and windows longer than their prime.")


class EchoPulsePublished(Generator):
    """The released networks of ECHOPulse; the published guidance changes nothing, so `guidance` has no effect here either."""

    system = "echopulse-published"
    #: Far enough ahead that the first window too has a whole beat to take.
    ecg_future_s = 3.5

    def __init__(
        self,
        config: EchoPulsePublishedConfig,
        tokenizer: PublishedTokenizer,
        transformer: PublishedTransformer,
        ecg: StMem,
        device: torch.device,
    ) -> None:
        _check_fit(config, tokenizer, transformer, ecg)
        self.config = config
        self.device = device
        self.dtype = DTYPES[config.dtype]
        self.tokenizer = tokenizer.to(device).eval()
        self.transformer = transformer.to(device).eval()
        self.ecg = ecg.to(device).eval()
        self.native_fps = config.fps
        self.takes = frozenset(config.takes)
        self.name, self.weights_hash = self.system, ""

    @classmethod
    def _load(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
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
        text = json.dumps({"system": self.system, **asdict(self.config)}, indent=2) + "\n"
        (folder / GENERATOR_FILE).write_text(text, encoding="utf-8")

    @property
    def window_s(self) -> float:
        """The frames of a window."""
        return self.config.frames / self.config.fps

    @torch.inference_mode()
    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """The next frames, made after the last ones of the window before (or after a reference image), which are not repeated.

        A reference image becomes the first frame, as the tokenizer draws it. Raises `InputError` without an ECG that shows two
        beats, or when the image does not have the network's size.
        """
        config, state = self.config, context.state
        prime: Tensor | None = state.get("prime", self._image(conditions.frames))
        shown = config.prime if context.index else 0
        times = context.next_s + np.arange(config.frames - shown) / config.fps
        beat = self._beat(conditions.ecg, float(times.mean()), state.get("beat"))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            told = state.get("told")
            if told is None or not np.array_equal(told[0], beat):
                told = beat, self._conditioning(beat)
            known = torch.zeros(1, 0, dtype=torch.int64, device=self.device)
            if prime is not None:
                known = self.tokenizer.tokenize(prime).flatten(1)
            ids = self._guess(known, told[1], context.index, sampling)
            video = self.tokenizer.decode_ids(ids)[0].float()
        # Echo is grey; the mean does not depend on the order of the colours.
        grey = video[shown:].mean(1).clamp(0.0, 1.0)
        frames = (grey * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
        following = {"prime": video[-config.prime :].transpose(0, 1)[None], "beat": beat, "told": told}
        return Cine(frames, times), Context(context.index + 1, context.next_s + len(times) / config.fps, following)

    def _conditioning(self, beat: FloatArray) -> list[KeyValue]:
        """A beat as the keys and values that every block of the transformer looks at."""
        sizes = self.ecg.config
        signal = torch.from_numpy(published_input(beat, sizes.seq_len, sizes.num_leads)).to(self.device)
        return self.transformer.encode_context(self.ecg.pooled(signal[None]).unsqueeze(1))

    def _guess(self, known: Tensor, keys: list[KeyValue], index: int, sampling: Sampling) -> Tensor:
        """The ids (1, T', positions, 1) of window `index`, which begins with the known ids (1, any number)."""
        config, transformer = self.config, self.transformer
        shape = self.tokenizer.latent_shape(config.frames)
        ids = sample(
            lambda ids, places: transformer(ids, shape, keys, places=places),
            known,
            int(np.prod(shape)) - known.shape[1],
            transformer.config.mask_id,
            RandomChoices(torch.Generator().manual_seed(_mix(sampling.seed, index))),
            steps=sampling.steps or config.steps,
            temperature=config.temperature,
        )
        return ids.view(1, shape[0], -1, 1)

    def _image(self, frames: Cine | None) -> Tensor | None:
        """A reference image as a video (1, channels, 1, height, width) in [0, 1]."""
        if frames is None:
            return None
        image, sizes = frames.frames[0], self.tokenizer.config
        if image.shape != sizes.image_size:
            height, width = sizes.image_size
            raise InputError(f"The first frame must be {height} x {width} pixels, not {image.shape[0]} x {image.shape[1]}.")
        grey = torch.from_numpy(image).to(self.device).float() / 255.0
        return grey.expand(1, sizes.channels, 1, -1, -1)

    @staticmethod
    def _beat(ecg: Ecg | None, time_s: float, before: FloatArray | None) -> FloatArray:
        """The trace from R peak to R peak around a time, or the beat nearest to it; the one `before` where there is none.

        The lead is II where it was recorded, as in the published data, else the one that shows the beats best.
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


def _check_fit(
    config: EchoPulsePublishedConfig, tokenizer: PublishedTokenizer, transformer: PublishedTransformer, ecg: StMem
) -> None:
    """Refuse networks and windows that do not belong together."""
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


def _mix(seed: int, index: int) -> int:
    """One seed from a video's seed and a window's number."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)
