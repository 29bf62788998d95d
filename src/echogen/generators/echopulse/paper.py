"""ECHOPulse as its paper has it: windows of 11 grey frames, made from ST-MEM's patches of the ECG or from a sentence.

Source: Li et al., ECHOPulse, ICLR 2025. The tasks `echopulse-tokenizer` and `echopulse-transformer` train its networks, on whole
windows only: the first latent is a single frame, and the first few latents may be given. So every window is made as a whole one,
and goes on from the last frames of the one before as from given ones: they are tokenised again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from echogen.arrays import Floats
from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg.st_mem_input import st_mem_input
from echogen.ecg_window.spec import latent_times
from echogen.errors import InputError
from echogen.generators.base import Context, Generator
from echogen.generators.echopulse.checks import Encoder, check_order, check_paper_networks, possible_conditions, width_of
from echogen.generators.echopulse.config import ORDERS
from echogen.generators.echopulse.ecg_excerpt import excerpt_start, known_leads
from echogen.generators.pictures import as_frames, reference_picture
from echogen.generators.precision import Precision
from echogen.generators.random_seeds import mixed_seed
from echogen.generators.sampling import Sampling
from echogen.generators.settings_file import write_settings
from echogen.networks.attention import Tokens
from echogen.networks.conditioning import SEX_IDS, VIEW_IDS
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer
from echogen.networks.st_mem import StMem
from echogen.networks.text import TextEncoder, ef_sentence
from echogen.networks.token_critic import Critic, TokenCritic, load_critic
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import Cine, Conditions
from echogen.samplers import halton
from echogen.samplers.maskgit import guided, sample


@dataclass(frozen=True)
class EchoPulsePaperConfig:
    """Settings that generator.json holds beside the system's name; the defaults are those of the recipe echopulse-transformer.

    fps: frame rate in Hz; every third frame of 32 a second.
    frames: frames of a window, 1 + a multiple of the time patch.
    prime: last frames of a window that the next one begins with, fewer than frames and also 1 + a multiple of the time patch;
        no more than training gave.
    steps: steps of parallel decoding.
    guidance: scale of classifier-free guidance; 1 is none.
    temperature: temperature of the codes.
    order: rule for the tokens that a step keeps, one of `ORDERS`.
    choice_temperature: noise on the confidence, or on the critic's score, by which tokens are kept.
    ef_range: lowest and highest EF that may be asked for, in %.
    takes: conditions that may be asked for, some of `possible_conditions`.
    leads: leads that the ECG encoder may see.
    text_encoder: T5 encoder by its name on the Hugging Face hub or by folder (also one inside the generator's own); None where
        ST-MEM is used.
    Raises `InputError` for values that cannot be.
    """

    fps: float = 32.0 / 3.0
    frames: int = 11
    prime: int = 3
    steps: int = 18
    guidance: float = 3.0
    temperature: float = 1.0
    order: str = "confidence"
    choice_temperature: float = 4.5
    ef_range: tuple[float, float] = (15.0, 80.0)
    takes: tuple[str, ...] = ("ecg", "reference")
    leads: tuple[str, ...] = STANDARD_LEADS
    text_encoder: str | None = None

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise InputError(f"The order of tokens must be one of {', '.join(ORDERS)}, not {self.order!r}.")
        if self.fps <= 0 or self.steps < 1 or self.prime < 1:
            raise InputError("A generator needs a positive frame rate, and at least one step and one frame as prime.")
        unknown = [lead for lead in self.leads if lead not in STANDARD_LEADS]
        if unknown or not self.leads:
            raise InputError(f"The leads must be some of {', '.join(STANDARD_LEADS)}, not {', '.join(unknown) or 'none'}.")


@dataclass(frozen=True)
class PaperState:
    """The part of a video that its next window goes on from.

    prime: (frames, channels, height, width) last frames of the window before, grey and in 0..1.
    """

    prime: Tensor


class EchoPulsePaper(Generator):
    """Masked video transformer of the paper: the ECG's patches (or a sentence) as a sequence, 18 guided steps a window."""

    system = "echopulse-paper"

    def __init__(
        self,
        config: EchoPulsePaperConfig,
        tokenizer: VideoTokenizer,
        transformer: MaskedTransformer,
        encoder: Encoder,
        device: torch.device,
        critic: Critic | None = None,
    ) -> None:
        """Put networks to work under a config; raises `InputError` where they do not fit one another or the config."""
        by_text, patches = isinstance(encoder, TextEncoder), tokenizer.config
        self.latents = check_paper_networks(patches, transformer.config, width_of(encoder), config.frames)
        if config.prime >= config.frames or (config.prime - 1) % patches.time_patch:
            raise InputError(
                f"The frames that a window of {config.frames} begins with (prime) must be fewer, and 1 plus a multiple of the "
                f"time patch {patches.time_patch}, not {config.prime}."
            )
        if by_text != (config.text_encoder is not None):
            raise InputError("The generator's text_encoder must be named where its condition is a text, and only there.")
        foreign = set(config.takes) - possible_conditions(transformer.config, by_text)
        if foreign:
            raise InputError(f"These networks have not learned the condition {', '.join(sorted(foreign))}; take it from takes.")
        check_order(config.order, transformer, critic)
        self.config = config
        self.device = device
        self.precision = Precision(device)
        self.tokenizer = tokenizer.to(device).eval()
        self.transformer = transformer.to(device).eval()
        self.encoder: Encoder = encoder.to(device).eval()
        self.critic = None if critic is None else critic.to(device).eval()
        by_turn = config.order == "halton"
        self.order = halton.order(self.latents, patches.grid, patches.grid, patches.active_patches) if by_turn else None
        self.native_fps = config.fps
        self.takes = frozenset(config.takes)
        self.ef_range = config.ef_range
        if isinstance(encoder, StMem):
            # Where the ECG begins or ends, what the encoder sees begins or ends with the video.
            self.ecg_past_s = _length_s(encoder)
            self.ecg_future_s = max(0.0, _length_s(encoder) - self.window_s)
        self.name, self.weights_hash = self.system, ""

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        """Make the generator of a folder; see `Generator.from_folder`."""
        config = config_from_dict(EchoPulsePaperConfig, settings)
        tokenizer = load_network(VideoTokenizer, folder / "tokenizer")
        transformer = load_network(MaskedTransformer, folder / "transformer")
        name = config.text_encoder
        encoder: Encoder
        if name is None:
            encoder = load_network(StMem, folder / "ecg_encoder")
        else:
            encoder = TextEncoder(folder / name if (folder / name).is_dir() else name)
        critic = load_critic(folder / "critic", transformer) if (folder / "critic").is_dir() else None
        return cls(config, tokenizer, transformer, encoder, device, critic)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator.json and the networks into a folder: transformer and critic in bfloat16, as they are trained.

        Tokenizer and ECG encoder keep their type, so that ids and patches stay those that were learned from. Of a text encoder
        only the name is written.
        """
        folder = Path(folder)
        save_network(self.tokenizer, folder / "tokenizer")
        save_network(self.transformer, folder / "transformer", torch.bfloat16)
        if isinstance(self.encoder, StMem):
            save_network(self.encoder, folder / "ecg_encoder")
        if self.critic is not None:
            save_network(self.critic, folder / "critic", torch.bfloat16)
        write_settings(folder, self.system, self.config)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the matrix products."""
        return self.precision.dtype

    @property
    def adaptable(self) -> VideoTokenizer:
        """The tokenizer."""
        return self.tokenizer

    @property
    def window_s(self) -> float:
        """Duration of a window's frames, in s."""
        return self.config.frames / self.config.fps

    @torch.inference_mode()
    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """Make the next window whole: guess its tokens after those of the given frames, draw it, and return the new frames.

        Given are a reference's first frame, or the last frames of the window before, grey and in 0..1. They are drawn anew with
        the window, so that what follows fits them, but those of the window before are not repeated. Raises `InputError` when the
        ECG is shorter than its encoder's window, flat, or of leads that the encoder does not know.
        """
        config, is_first = self.config, context.index == 0
        given = self._reference_frame(conditions.reference) if is_first else context.state.prime
        repeated = 0 if is_first else config.prime
        times_s = context.next_s + (np.arange(config.frames) - repeated) / config.fps
        tokens = self.guess_tokens(conditions, sampling, context.index, times_s, given)
        with self.precision.autocast():
            drawn = self.tokenizer.decode_ids(tokens)[0].float()
        # Echo is grey: every channel was trained on the same frames, all of them in [0, 1].
        grey = drawn.mean(1, keepdim=True).clamp(0.0, 1.0)
        frames = as_frames(grey[repeated:, 0])
        next_s = context.next_s + len(frames) / config.fps
        state = PaperState(grey[-config.prime :].expand_as(drawn[-config.prime :]))
        return Cine(frames, times_s[repeated:], view=conditions.view), Context(context.index + 1, next_s, state)

    def _reference_frame(self, reference: Cine | None) -> Tensor | None:
        """Return a reference's first frame (1, channels, height, width) in 0..1; None without a reference."""
        if reference is None:
            return None
        sizes = self.tokenizer.config
        grey = reference_picture(reference, sizes.image_size, sizes.image_size, self.device)
        return grey[None, None].expand(-1, sizes.channels_in, -1, -1)

    def _tokenised(self, frames: Tensor) -> Tensor:
        """Ids (1, latents, positions, groups) of frames (1 + a multiple of the time patch, channels, height, width)."""
        video = frames.transpose(0, 1)
        return self.tokenizer.tokenize(video[None] if len(video) > 1 else video)

    def guess_tokens(
        self, conditions: Conditions, sampling: Sampling, index: int, times_s: Floats, given: Tensor | None
    ) -> Tensor:
        """Guess the ids (1, latents, positions, groups) of window `index`, whose frames have these times in s.

        given: (frames, channels, height, width) frames that it begins with, in 0..1; None without any.
        """
        config, transformer, device = self.config, self.transformer, self.device
        scale = config.guidance if sampling.guidance is None else sampling.guidance
        has_condition = bool(conditions.names - {"reference"})
        rows = 2 if scale != 1.0 and has_condition else 1
        shape = (1, self.latents, transformer.config.spatial_positions, transformer.config.groups)
        ids = torch.full(shape, transformer.config.mask_id, dtype=torch.int64, device=device)
        if given is not None:
            given_ids = self._tokenised(given)
            ids[:, : given_ids.shape[1]] = given_ids
        moments = latent_times(times_s - times_s[0], True, self.tokenizer.config.time_patch)
        clock = torch.tensor(moments, dtype=torch.float32, device=device).expand(rows, -1)
        is_first = torch.ones(rows, dtype=torch.bool, device=device)
        critic = self.critic if config.order == "critic" else None
        with self.precision.autocast():
            condition = self.condition_tokens(conditions, times_s)
            encoded_conditions = self.encode_conditions(transformer, conditions, condition, rows)
            judge = critic.trunk if isinstance(critic, TokenCritic) else transformer
            judged_under = None if critic is None else self.encode_conditions(judge, conditions, condition, 1)

            def predict(tokens: Tensor) -> Tensor:
                return transformer(tokens.expand(rows, -1, -1, -1), clock, is_first, encoded_conditions).float()

            def both_rows(tokens: Tensor) -> tuple[Tensor, Tensor]:
                both = predict(tokens)
                return both[:1], both[1:]

            def score(tokens: Tensor) -> Tensor:
                assert critic is not None
                assert judged_under is not None
                judged: Tensor = critic(transformer, tokens, clock[:1], is_first[:1], lambda network: judged_under)
                return judged

            return sample(
                predict if rows == 1 else guided(both_rows, scale),
                ids,
                transformer.config.mask_id,
                steps=sampling.steps or config.steps,
                generator=torch.Generator().manual_seed(mixed_seed(sampling.seed, index)),
                temperature=config.temperature,
                choice_temperature=config.choice_temperature,
                order=self.order,
                score=None if critic is None else score,
            )

    def condition_tokens(self, conditions: Conditions, times_s: Floats) -> Tokens | None:
        """Encode the sentence, or the ECG's patches around frames of these times in s; None where there is neither."""
        if isinstance(self.encoder, TextEncoder):
            sentence = self._sentence(conditions)
            return None if sentence is None else self.encoder([sentence])
        ecg, sizes = conditions.ecg, self.encoder.config
        if ecg is None:
            return None
        start_s = excerpt_start(ecg, float(times_s[0]), float(times_s[-1]), _length_s(self.encoder))
        leads = known_leads(ecg, self.config.leads)
        excerpt = st_mem_input(ecg, start_s, leads=leads, samples=sizes.seq_len, rate_hz=sizes.rate_hz)
        signal = torch.from_numpy(excerpt.signal).to(self.device)[None]
        begin = torch.tensor([excerpt.start_s - times_s[0]], dtype=torch.float32, device=self.device)
        tokens: Tokens = self.encoder(signal, begin, excerpt.leads)
        return tokens

    def _sentence(self, conditions: Conditions) -> str | None:
        """The text that is asked for, else the EF in a sentence as in training; None where there is neither."""
        ef = conditions.ef_percent
        if conditions.text is None:
            return None if ef is None else ef_sentence(ef)
        if ef is not None and not self.transformer.config.adaptive_norm:
            raise InputError("This generator hears of the ejection fraction in a sentence only; give a text or an EF, not both.")
        return conditions.text

    def encode_conditions(
        self, network: MaskedTransformer, conditions: Conditions, condition: Tokens | None, rows: int
    ) -> Conditioning:
        """Encode the first row with all conditions, and the second, if any, without one: training hid them together.

        condition: tokens of the sentence or the ECG (`condition_tokens`).
        """
        with_all = torch.arange(rows, device=self.device) == 0
        if condition is not None:
            times_s = None if condition.times_s is None else condition.times_s.expand(rows, -1)
            condition = Tokens(condition.values.expand(rows, -1, -1), times_s, condition.mask & with_all[:, None])
        ef = torch.full((rows,), np.nan if conditions.ef_percent is None else conditions.ef_percent, device=self.device)
        return network.condition(
            rows,
            context=condition,
            ef_percent=ef.masked_fill(~with_all, torch.nan),
            view=with_all * VIEW_IDS[conditions.view],
            sex=with_all * SEX_IDS[conditions.sex],
        )


def _length_s(encoder: StMem) -> float:
    return encoder.config.seq_len / encoder.config.rate_hz
