"""C-ViViT, a tokenizer that turns video into discrete codes and back, causal in time, the first frame on its own.

Source: ECHOPulse (ICLR 2025), section 3.1 and Table 4, after Villegas et al., Phenaki, 2023.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.attention import Block, rotary, rotary_pairs
from echogen.networks.quantizers import Quantized, QuantizerConfig, make_quantizer

#: Side in pixels of the cells in which the smooth head draws; small beside a patch, so that edges cross it smoothly.
CELL = 4


@dataclass(frozen=True)
class VideoTokenizerConfig:
    """Architecture of a `VideoTokenizer`.

    image_size: Height and width of frames in pixels.
    channels_in: Channels of the frames that are encoded: 1 (grey) or 3 (colour).
    channels_out: Channels that are drawn: those of the picture, then two of displacement where it has them.
    patch: Side in pixels of the patches that become tokens.
    time_patch: Frames in a token; the first frame has tokens of its own.
    dim: Width of the transformers.
    heads: Attention heads.
    spatial_depth_encoder: Encoder blocks with attention within latent frames.
    temporal_depth_encoder: Encoder blocks with attention along time.
    temporal_depth_decoder: Decoder blocks with attention along time.
    spatial_depth_decoder: Decoder blocks with attention within latent frames.
    mlp_ratio: Width between the two layers of an MLP over dim.
    gated_mlp: Use the gated GEGLU in MLPs.
    qk_norm: Normalise queries and keys.
    causal: Attend along time to earlier latent frames only.
    time_window: Latent frames (its own included) that a temporal block attends to; null for all.
    quantizer: Codes of the tokens.
    active_patches: Row-major places of the patches that can hold sector; others are drawn as zeros. Null for all.
    smooth_head_channels: Width of a convolutional head that draws across patch borders; 0 for one linear map a patch.
    seconds_per_latent: Duration of a latent frame in s, time_patch over the frame rate.
    cavity_cells: Cells of a token's patch (all its frames) of which the decoder says the share that is cavity; 0 for none.
    noise_channels: Random numbers in every cell of a latent, of which the smooth head can draw speckle; 0 for none.
    """

    image_size: int = 128
    channels_in: int = 1
    channels_out: int = 3
    patch: int = 16
    time_patch: int = 4
    dim: int = 160
    heads: int = 4
    spatial_depth_encoder: int = 2
    temporal_depth_encoder: int = 2
    temporal_depth_decoder: int = 2
    spatial_depth_decoder: int = 2
    mlp_ratio: float = 4.0
    gated_mlp: bool = False
    qk_norm: bool = True
    causal: bool = True
    time_window: int | None = None
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    active_patches: tuple[int, ...] | None = None
    smooth_head_channels: int = 0
    seconds_per_latent: float = 0.125
    cavity_cells: int = 0
    noise_channels: int = 0

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise InputError(f"The image size {self.image_size} is not a multiple of the patch size {self.patch}.")
        if self.dim % self.heads:
            raise InputError(f"The width {self.dim} is not a multiple of the number of heads {self.heads}.")
        if self.smooth_head_channels and self.patch % CELL:
            raise InputError(f"The smooth head needs a patch size that is a multiple of {CELL}, not {self.patch}.")
        if self.noise_channels and not self.smooth_head_channels:
            raise InputError("Noise goes into the smooth head; give smooth_head_channels, or no noise_channels.")
        if self.time_window is not None and (self.time_window < 1 or not self.causal):
            raise InputError("A time window needs causal attention and at least one latent frame.")
        places = self.active_patches
        if places is not None and (
            not places or sorted(set(places)) != list(places) or places[0] < 0 or places[-1] >= self.grid**2
        ):
            raise InputError(f"Active patches must be increasing numbers from 0 to {self.grid**2 - 1}.")

    @property
    def decoder_context(self) -> int | None:
        """Number of earlier latent frames that the decoder's output depends on; None for all."""
        window = self.time_window
        return None if window is None else self.temporal_depth_decoder * (window - 1)

    @property
    def grid(self) -> int:
        """Number of patches along one side of the image."""
        return self.image_size // self.patch

    @property
    def positions(self) -> int:
        """Number of tokens per latent frame."""
        return self.grid**2 if self.active_patches is None else len(self.active_patches)

    @classmethod
    def paper(cls) -> VideoTokenizerConfig:
        """Config of ECHOPulse, Table 4: 11 colour frames of 128 x 128, patches of 8 x 8 x 2, width 512, 4 + 4 layers, 8192 codes.

        The frame rate is not stated; one latent frame is taken as 2 frames at 30 per second.
        """
        return cls(
            channels_in=3,
            patch=8,
            time_patch=2,
            dim=512,
            heads=8,
            spatial_depth_encoder=4,
            temporal_depth_encoder=4,
            temporal_depth_decoder=4,
            spatial_depth_decoder=4,
            quantizer=QuantizerConfig(kind="vq", codebook_size=8192, codebook_dim=32),
            seconds_per_latent=2 / 30,
        )


class TokenizerOutput(NamedTuple):
    """Output of a tokenizer for a video.

    reconstruction: Drawn frames (B, frames, channels_out, H, W).
    ids: Codes (B, T', S, groups) of the whole video.
    quantizer_loss: Scalar loss of the quantizer.
    """

    reconstruction: Tensor
    ids: Tensor
    quantizer_loss: Tensor


#: Modules and parameters that decide the ids of a video.
ENCODING_PARTS = (
    "embed_first", "embed_group", "spatial_encoder", "temporal_encoder", "norm_encoder", "position_encoder", "quantizer",
)  # fmt: skip


class VideoTokenizer(nn.Module):
    """Causal video tokenizer: patches, spatial, then temporal attention, codes, temporal, then spatial attention, pixels."""

    config_class: ClassVar = VideoTokenizerConfig
    active: Tensor | None

    def __init__(self, config: VideoTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        dim, area = config.dim, config.patch**2
        self.embed_first = nn.Linear(config.channels_in * area, dim)
        self.embed_group = nn.Linear(config.channels_in * config.time_patch * area, dim)
        self.position_encoder = nn.Parameter(torch.randn(config.positions, dim) * 0.02)
        self.position_decoder = nn.Parameter(torch.randn(config.positions, dim) * 0.02)
        self.spatial_encoder = self._blocks(config.spatial_depth_encoder)
        self.temporal_encoder = self._blocks(config.temporal_depth_encoder)
        self.norm_encoder = nn.LayerNorm(dim, bias=False)
        self.quantizer = make_quantizer(config.quantizer, dim)
        self.temporal_decoder = self._blocks(config.temporal_depth_decoder)
        self.spatial_decoder = self._blocks(config.spatial_depth_decoder)
        self.norm_decoder = nn.LayerNorm(dim, bias=False)
        width = config.smooth_head_channels
        out = width * (config.patch // CELL) ** 2 if width else config.channels_out * area
        self.head_first = nn.Linear(dim, out)
        self.head_group = nn.Linear(dim, out * config.time_patch)
        self.smooth = (
            nn.Sequential(
                nn.Conv2d(width + config.noise_channels, width, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(width, config.channels_out * CELL**2, 3, padding=1),
                nn.PixelShuffle(CELL),
            )
            if width
            else None
        )
        self.cavity = nn.Linear(dim, config.cavity_cells) if config.cavity_cells else None
        places = None if config.active_patches is None else torch.tensor(config.active_patches)
        self.register_buffer("active", places, persistent=False)

    def _blocks(self, depth: int) -> nn.ModuleList:
        c = self.config
        return nn.ModuleList(Block(c.dim, c.heads, c.mlp_ratio, gated_mlp=c.gated_mlp, qk_norm=c.qk_norm) for _ in range(depth))

    def frames(self, start: int, length: int) -> slice:
        """Frames of the video that latents [start, start + length) stand for."""
        first = 0 if start == 0 else 1 + (start - 1) * self.config.time_patch
        return slice(first, 1 + (start + length - 1) * self.config.time_patch)

    def encode(self, video: Tensor) -> Tensor:
        """Encode a video (B, 1 + k time_patch, H, W) or (B, C, ...) of C channels in [0, 1] as latents (B, 1 + k, S, dim).

        Raises `InputError` when the frames or the size do not fit the config.
        """
        video = self._checked(video)
        first = self.embed_first(self._patches(video[:, :, :1], 1))
        groups = self.embed_group(self._patches(video[:, :, 1:], self.config.time_patch))
        x = torch.cat((first, groups), dim=1)
        x = x + self.position_encoder
        x = self._within_frames(x, self.spatial_encoder)
        x = self._along_time(x, self.temporal_encoder)
        latents: Tensor = self.norm_encoder(x)
        return latents

    def freeze_encoder(self) -> None:
        """Keep training from changing the ids of a video: the encoder's and the quantizer's weights stand still."""
        for name, parameter in self.named_parameters():
            if name.partition(".")[0] in ENCODING_PARTS:
                parameter.requires_grad_(False)

    def quantize(self, latents: Tensor) -> Quantized:
        """Quantise latents (B, T', S, dim): values of the same shape, ids (B, T', S, groups) and the loss."""
        quantized: Quantized = self.quantizer(latents)
        return quantized

    def tokenize(self, video: Tensor) -> Tensor:
        """Ids (B, 1 + k, S, groups) of a video; see `encode`."""
        return self.quantize(self.encode(video)).ids

    def decode(self, values: Tensor, first: bool = True) -> Tensor:
        """Draw quantised values (B, T', S, dim) as pixels (B, frames, channels_out, H, W), unbounded, about [0, 1].

        first: Latent 0 stands for a single frame, giving 1 + (T' - 1) time_patch frames; else the sequence starts mid-stream and
            gives T' time_patch frames.
        """
        return self.picture(self.decode_features(values), first)

    def decoded(self, values: Tensor) -> Tensor:
        """Former name of `decode_features`."""
        warnings.warn("VideoTokenizer.decoded is called decode_features now.", DeprecationWarning, stacklevel=2)
        return self.decode_features(values)

    def decode_features(self, values: Tensor) -> Tensor:
        """Features (B, T', S, dim) of the decoder for every token of quantised values of that shape; see `decode`."""
        x = self._along_time(values + self.position_decoder, self.temporal_decoder)
        features: Tensor = self.norm_decoder(self._within_frames(x, self.spatial_decoder))
        return features

    def picture(self, x: Tensor, first: bool = True, random: torch.Generator | None = None) -> Tensor:
        """Draw `decode_features` as pixels; see `decode`. random: Generator of a decoder with noise; None is torch's own."""
        latents = x.shape[1]
        parts = []
        if first:
            parts.append(self._pictures(self.head_first(x[:, :1]), 1))
            x = x[:, 1:]
        if x.shape[1]:
            parts.append(self._pictures(self.head_group(x), self.config.time_patch))
        pictures = torch.cat(parts, dim=1)
        if self.smooth is None:
            return pictures
        if self.config.noise_channels:
            pictures = torch.cat((pictures, self._noise(pictures, latents, first, random)), dim=2)
        video: Tensor = self.smooth(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        return video if self.active is None else video * self._sector(video)

    def _noise(self, pictures: Tensor, latents: int, first: bool, random: torch.Generator | None) -> Tensor:
        """Noise (B, frames, noise_channels, side, side), alike in all frames of a latent."""
        shape = (len(pictures), latents, self.config.noise_channels, *pictures.shape[-2:])
        noise = torch.randn(shape, generator=random, device=pictures.device, dtype=pictures.dtype)
        frames = torch.full((latents,), self.config.time_patch)
        frames[0] = 1 if first else self.config.time_patch
        return noise.repeat_interleave(frames.to(pictures.device), dim=1)

    def decode_ids(self, ids: Tensor, first: bool = True) -> Tensor:
        """Draw ids (B, T', S, groups) as pixels; see `decode`."""
        return self.decode(self.quantizer.decode_ids(ids), first)

    def forward(self, video: Tensor, crop: tuple[int, int] | None = None) -> TokenizerOutput:
        """Encode, quantise and decode a video; crop = (start, length) decodes only those latents, as if mid-stream.

        The crop's frames are `video[:, frames(start, length)]`.
        """
        quantized = self.quantize(self.encode(video))
        start, length = (0, quantized.ids.shape[1]) if crop is None else crop
        if start < 0 or length < 1 or start + length > quantized.ids.shape[1]:
            raise InputError(f"The crop {crop} lies outside the video's {quantized.ids.shape[1]} latent frames.")
        pixels = self.decode(quantized.values[:, start : start + length], first=start == 0)
        return TokenizerOutput(pixels, quantized.ids, quantized.loss)

    def _checked(self, video: Tensor) -> Tensor:
        """Video as (B, C, T, H, W), checked against the config."""
        c = self.config
        expected = 4 if c.channels_in == 1 else 5
        if video.dim() != expected:
            raise InputError(f"The tokenizer takes a video of {expected} dimensions, not {video.dim()}.")
        if c.channels_in == 1:
            video = video.unsqueeze(1)
        if video.shape[1] != c.channels_in:
            raise InputError(f"The tokenizer takes {c.channels_in} channels, not {video.shape[1]}.")
        if tuple(video.shape[3:]) != (c.image_size, c.image_size):
            raise InputError(
                f"The tokenizer takes {c.image_size} x {c.image_size} pixels, not {video.shape[3]} x {video.shape[4]}."
            )
        if video.shape[2] < 1 or (video.shape[2] - 1) % c.time_patch:
            raise InputError(f"The tokenizer takes 1 frame plus a multiple of {c.time_patch}, not {video.shape[2]} frames.")
        return video

    def _patches(self, video: Tensor, depth: int) -> Tensor:
        """Active patches (B, k, S, C depth patch patch) in [-1, 1] of frames (B, C, k depth, H, W) in [0, 1]."""
        batch, channels, frames = video.shape[:3]
        grid, patch = self.config.grid, self.config.patch
        cut = video.reshape(batch, channels, frames // depth, depth, grid, patch, grid, patch)
        flat = cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(2, 3)
        if self.active is not None:
            flat = flat.index_select(2, self.active)
        return flat * 2 - 1

    def _within_frames(self, x: Tensor, blocks: nn.ModuleList) -> Tensor:
        """Spatial attention in (B, T', S, dim), every latent frame by itself."""
        flat = x.flatten(0, 1)
        for block in blocks:
            flat = block(flat)
        return flat.view(x.shape)

    def _along_time(self, x: Tensor, blocks: nn.ModuleList) -> Tensor:
        """Temporal attention in (B, T', S, dim), every position by itself."""
        c, count = self.config, x.shape[1]
        times = torch.arange(count, device=x.device).unsqueeze(0) * c.seconds_per_latent
        table = rotary(times, rotary_pairs(c.dim // c.heads))
        mask = None
        if c.time_window is not None:
            everywhere = torch.ones(count, count, dtype=torch.bool, device=x.device)
            mask = everywhere.tril() & everywhere.triu(1 - c.time_window)
        columns = x.transpose(1, 2)
        flat = columns.reshape(-1, count, c.dim)
        for block in blocks:
            flat = block(flat, table=table, mask=mask, causal=c.causal)
        return flat.view(columns.shape).transpose(1, 2)

    def _pictures(self, x: Tensor, depth: int) -> Tensor:
        """Pictures (B, k depth, channels, grid side, grid side) of head outputs (B, k, S, depth channels side side)."""
        c = self.config
        side = c.patch // CELL if c.smooth_head_channels else c.patch
        batch, count = x.shape[:2]
        if self.active is not None:
            x = x.new_zeros(batch, count, c.grid**2, x.shape[-1]).index_copy(2, self.active, x)
        cut = x.view(batch, count, c.grid, c.grid, depth, -1, side, side).permute(0, 1, 4, 5, 2, 6, 3, 7)
        return cut.reshape(batch, count * depth, -1, c.grid * side, c.grid * side)

    def _sector(self, like: Tensor) -> Tensor:
        """Mask (image_size, image_size): 1 on the pixels of active patches, else 0."""
        c = self.config
        places = like.new_zeros(c.grid**2).index_fill(0, torch.as_tensor(self.active), 1.0).view(1, 1, c.grid, c.grid)
        return F.interpolate(places, scale_factor=c.patch, mode="nearest")[0, 0]
