"""ECHOPulse as its paper has it: windows of 11 grey frames, made from ST-MEM's patches of the ECG or from a sentence.

Source: Li et al., ECHOPulse, ICLR 2025. The tasks `echopulse-tokenizer` and `echopulse-transformer` train its networks, on whole
windows only: the first latent is a single frame, and the first few latents may be given. So every window is made as a whole one,
and goes on from the last frames of the one before as from given ones: they are tokenised again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg.st_mem_input import st_mem_input
from echogen.errors import InputError
from echogen.generators.base import GENERATOR_FILE, Context, Generator, Sampling
from echogen.generators.echopulse_config import ORDERS
from echogen.networks.attention import Tokens
from echogen.networks.conditioning import SEX_IDS, VIEW_IDS
from echogen.networks.config import config_from_dict, load_network, save_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer, MaskedTransformerConfig
from echogen.networks.st_mem import StMem
from echogen.networks.text import TextEncoder, ef_sentence
from echogen.networks.token_critic import Critic, TokenCritic, check_critic, load_critic
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.records import Cine, Conditions, Ecg
from echogen.samplers import halton
from echogen.samplers.maskgit import guided, sample

Encoder = StMem | TextEncoder


@dataclass(frozen=True)
class EchoPulsePaperConfig:
    """What generator.json holds beside the system's name; the defaults are those of the recipe echopulse-transformer.

    fps: rate of the frames (every third of 32 a second). frames: of a window, 1 + a multiple of the time patch. prime: last
    frames of a window that the next one begins with, fewer than frames and also 1 + a multiple of the time patch; no more than
    training gave. steps: of parallel decoding. guidance: classifier-free scale, 1 is none. temperature: of the codes. order: one
    of `ORDERS`; choice_temperature: noise on confidence or score. takes: some of `possible_conditions`. leads: those that the ECG
    encoder may see. text_encoder: name on the Hugging Face hub, or folder (also one inside the generator's own); None where
    ST-MEM is used. Raises `InputError` for values that cannot be.
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
    takes: tuple[str, ...] = ("ecg", "frames")
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
        by_text, patches = isinstance(encoder, TextEncoder), tokenizer.config
        self.latents = check_fit(patches, transformer.config, width_of(encoder), config.frames)
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
        if config.order == "critic" and critic is None:
            raise InputError("There is no critic to order the tokens by; train one, or set the order to confidence or halton.")
        if critic is not None:
            check_critic(critic, transformer)
        self.config = config
        self.device = device
        self.dtype = torch.bfloat16
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
    def _load(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
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
        text = json.dumps({"system": self.system, **asdict(self.config)}, indent=2) + "\n"
        (folder / GENERATOR_FILE).write_text(text, encoding="utf-8")

    @property
    def adaptable(self) -> VideoTokenizer:
        """The tokenizer."""
        return self.tokenizer

    @property
    def window_s(self) -> float:
        """The frames of a window."""
        return self.config.frames / self.config.fps

    @torch.inference_mode()
    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """The next window, made whole: guess its tokens after those of the given frames, draw it, and give the new frames.

        Given are a reference image, or the last frames of the window before grey and in [0, 1]. They are drawn anew with
        the window, so that what follows fits them, but those of the window before are not repeated. Raises `InputError` when the
        ECG is shorter than its encoder's window, flat, or of leads that the encoder does not know.
        """
        config, is_first = self.config, context.index == 0
        given = self._image(conditions.frames) if is_first else context.state["prime"]
        shown = 0 if is_first else config.prime
        times = context.next_s + (np.arange(config.frames) - shown) / config.fps
        ids = self._guess(conditions, sampling, context.index, times, given)
        with torch.autocast(self.device.type, self.dtype):
            drawn = self.tokenizer.decode_ids(ids)[0].float()
        # Echo is grey: every channel was trained on the same frames, all of them in [0, 1].
        grey = drawn.mean(1, keepdim=True).clamp(0.0, 1.0)
        frames = (grey[shown:, 0] * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
        next_s = context.next_s + len(frames) / config.fps
        state = {"prime": grey[-config.prime :].expand_as(drawn[-config.prime :])}
        return Cine(frames, times[shown:], view=conditions.view), Context(context.index + 1, next_s, state)

    def _image(self, frames: Cine | None) -> Tensor | None:
        """A reference image, if there is one, as a frame (1, channels, height, width) in [0, 1]."""
        if frames is None:
            return None
        image, sizes = frames.frames[:1], self.tokenizer.config
        if image.shape[1:] != (sizes.image_size, sizes.image_size):
            side, (height, width) = sizes.image_size, image.shape[1:]
            raise InputError(f"The first frame must be {side} x {side} pixels, not {height} x {width}.")
        grey = torch.from_numpy(image).to(self.device).float()[:, None] / 255.0
        return grey.expand(-1, sizes.channels_in, -1, -1)

    def _tokenised(self, frames: Tensor) -> Tensor:
        """The ids (1, latents, positions, groups) of frames (1 + a multiple of the time patch, channels, height, width)."""
        video = frames.transpose(0, 1)
        return self.tokenizer.tokenize(video[None] if len(video) > 1 else video)

    def _guess(
        self, conditions: Conditions, sampling: Sampling, index: int, times: NDArray[np.float64], given: Tensor | None
    ) -> Tensor:
        """The ids (1, latents, positions, groups) of a window whose frames have these times; it begins with the given ones."""
        config, transformer, device = self.config, self.transformer, self.device
        scale = config.guidance if sampling.guidance is None else sampling.guidance
        told = any(getattr(conditions, name) is not None for name in ("ecg", "text", "ef_percent", "view", "sex"))
        rows = 2 if scale != 1.0 and told else 1
        shape = (1, self.latents, transformer.config.spatial_positions, transformer.config.groups)
        ids = torch.full(shape, transformer.config.mask_id, dtype=torch.int64, device=device)
        if given is not None:
            known = self._tokenised(given)
            ids[:, : known.shape[1]] = known
        moments = latent_times(times - times[0], self.tokenizer.config.time_patch)
        clock = torch.tensor(moments, dtype=torch.float32, device=device).expand(rows, -1)
        head = torch.ones(rows, dtype=torch.bool, device=device)
        critic = self.critic if config.order == "critic" else None
        with torch.autocast(device.type, self.dtype):
            tokens = self._tokens(conditions, times)
            asked = self._condition(transformer, conditions, tokens, rows)
            judging = critic.trunk if isinstance(critic, TokenCritic) else transformer
            heard = self._condition(judging, conditions, tokens, 1) if critic is not None else asked

            def predict(shown: Tensor) -> Tensor:
                return transformer(shown.expand(rows, -1, -1, -1), clock, head, asked).float()

            def pair(shown: Tensor) -> tuple[Tensor, Tensor]:
                both = predict(shown)
                return both[:1], both[1:]

            def score(shown: Tensor) -> Tensor:
                assert critic is not None
                judged: Tensor = critic(transformer, shown, clock[:1], head[:1], lambda network: heard)
                return judged

            return sample(
                predict if rows == 1 else guided(pair, scale),
                ids,
                transformer.config.mask_id,
                steps=sampling.steps or config.steps,
                generator=torch.Generator().manual_seed(_mix(sampling.seed, index)),
                temperature=config.temperature,
                choice_temperature=config.choice_temperature,
                order=self.order,
                score=None if critic is None else score,
            )

    def _tokens(self, conditions: Conditions, times: NDArray[np.float64]) -> Tokens | None:
        """The tokens of the sentence, or of the ECG's patches on the clock of the window; None where there is neither."""
        if isinstance(self.encoder, TextEncoder):
            sentence = self._sentence(conditions)
            return None if sentence is None else self.encoder([sentence])
        ecg, sizes = conditions.ecg, self.encoder.config
        if ecg is None:
            return None
        start = excerpt_start(ecg, float(times[0]), float(times[-1]), _length_s(self.encoder))
        leads = known_leads(ecg, self.config.leads)
        seen = st_mem_input(ecg, start, leads=leads, samples=sizes.seq_len, rate_hz=sizes.rate_hz)
        signal = torch.from_numpy(seen.signal).to(self.device)[None]
        begin = torch.tensor([seen.start_s - times[0]], dtype=torch.float32, device=self.device)
        tokens: Tokens = self.encoder(signal, begin, seen.leads)
        return tokens

    def _sentence(self, conditions: Conditions) -> str | None:
        """The text that is asked for, else the EF in a sentence as in training."""
        ef = conditions.ef_percent
        if conditions.text is None:
            return None if ef is None else ef_sentence(ef)
        if ef is not None and not self.transformer.config.adaptive_norm:
            raise InputError("This generator hears of the ejection fraction in a sentence only; give a text or an EF, not both.")
        return conditions.text

    def _condition(self, network: MaskedTransformer, asked: Conditions, tokens: Tokens | None, rows: int) -> Conditioning:
        """The first row with everything that is asked for, the second, if any, with nothing: what training hid together."""
        told = torch.arange(rows, device=self.device) == 0
        if tokens is not None:
            times = None if tokens.times_s is None else tokens.times_s.expand(rows, -1)
            tokens = Tokens(tokens.values.expand(rows, -1, -1), times, tokens.mask & told[:, None])
        ef = torch.full((rows,), np.nan if asked.ef_percent is None else asked.ef_percent, device=self.device)
        return network.condition(
            rows,
            context=tokens,
            ef_percent=ef.masked_fill(~told, torch.nan),
            view=told * VIEW_IDS[asked.view],
            sex=told * SEX_IDS[asked.sex],
        )


def latent_times(times_s: NDArray[np.float64], time_patch: int) -> NDArray[np.float64]:
    """(latents,) the time of the first frame, then the mean time of every time_patch frames."""
    return np.concatenate([times_s[:1], times_s[1:].reshape(-1, time_patch).mean(1)])


def excerpt_start(ecg: Ecg, first_s: float, last_s: float, length_s: float) -> float:
    """Where an excerpt of length_s begins for the video from first_s to last_s: the middle of what training draws it from.

    It covers the video and lies within the ECG, as far as it can.
    """
    latest = max(ecg.start_s, ecg.end_s - length_s)
    return float(np.clip([last_s - length_s, first_s], ecg.start_s, latest).mean())


def known_leads(ecg: Ecg, leads: tuple[str, ...]) -> list[str]:
    """The ECG's own names of those of `leads` that it has, MLII counting as II; raises `InputError` where it has none."""
    own = {name.upper().removeprefix("ML"): name for name in reversed(ecg.lead_names)}
    found = [own[lead.upper()] for lead in leads if lead.upper() in own]
    if not found:
        raise InputError(
            f"The generator knows the leads {', '.join(leads)}, but the ECG has {', '.join(ecg.lead_names)}; "
            "name its leads or give another recording."
        )
    return found


def possible_conditions(transformer: MaskedTransformerConfig, by_text: bool) -> frozenset[str]:
    """What such networks can be asked for."""
    told = {"ef_percent", "view", "sex"} if transformer.adaptive_norm else set()
    return frozenset({"frames"} | told | ({"text", "ef_percent"} if by_text else {"ecg"}))


def check_tokens(tokenizer: VideoTokenizerConfig, transformer: MaskedTransformerConfig, latents: int) -> None:
    """Raise `InputError` when the transformer does not take windows of `latents` of this tokenizer's latent frames."""
    codes = tokenizer.quantizer
    for what, has, needs in (
        ("codes", transformer.vocabulary, codes.vocabulary),
        ("codes a position", transformer.groups, codes.groups),
        ("tokens a latent frame", transformer.spatial_positions, tokenizer.positions),
    ):
        if has != needs:
            raise InputError(
                f"The tokenizer makes {needs} {what} but the transformer expects {has}; they do not belong together."
            )
    if transformer.max_latents < latents:
        raise InputError(
            f"The transformer takes at most {transformer.max_latents} latent frames, but a window has {latents}; "
            "they do not belong together."
        )


def check_fit(tokenizer: VideoTokenizerConfig, transformer: MaskedTransformerConfig, width: int, frames: int) -> int:
    """How many latent frames a window of so many frames has; width: of the condition's tokens.

    Raises `InputError` where tokenizer, transformer, encoder and window do not belong together.
    """
    if tokenizer.channels_out != tokenizer.channels_in:
        raise InputError(
            f"The tokenizer sees {tokenizer.channels_in} channels but draws {tokenizer.channels_out}; this system needs one that "
            "gives its own frames back, as the task echopulse-tokenizer trains it."
        )
    if frames < 1 or (frames - 1) % tokenizer.time_patch:
        raise InputError(f"A window must have 1 frame plus a multiple of the time patch {tokenizer.time_patch}, not {frames}.")
    latents = 1 + (frames - 1) // tokenizer.time_patch
    check_tokens(tokenizer, transformer, latents)
    if transformer.ecg is not None or not transformer.cross_attention_every:
        raise InputError("The transformer takes no condition tokens from an encoder; it belongs to another system.")
    if transformer.context_dim != width:
        raise InputError(
            f"The encoder gives tokens of width {width} but the transformer expects {transformer.context_dim}; "
            "they do not belong together."
        )
    return latents


def width_of(encoder: Encoder) -> int:
    """The width of an encoder's tokens."""
    return encoder.dim if isinstance(encoder, TextEncoder) else encoder.config.width


def _length_s(encoder: StMem) -> float:
    return encoder.config.seq_len / encoder.config.rate_hz


def _mix(seed: int, index: int) -> int:
    """One seed from a video's seed and a window's number."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)
