"""C-ViViT of ECHOPulse's code, in which every frame depends on every other; only for running released weights.

Source: the code of ECHOPulse (ICLR 2025). The tokenizer of the paper itself is `video_tokenizer.VideoTokenizer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.published import PositionBias, PublishedStack, Sizes
from echogen.networks.quantizers import Quantized, Quantizer, QuantizerConfig, make_quantizer
from echogen.networks.video_tokenizer import TokenizerOutput


@dataclass(frozen=True)
class PublishedTokenizerConfig:
    """Architecture of a `PublishedTokenizer`; the defaults are the published sizes.

    image_size: Height and width of frames in pixels.
    channels: Channels of the frames.
    patch: Height and width of a patch in pixels.
    time_patch: Frames of every latent frame after the first.
    dim: Width of the tokens.
    heads: Attention heads.
    head_dim: Width of a head.
    feed_forward: Width between the two layers of an MLP.
    spatial_depth: Blocks with attention within latent frames, of the encoder and again of the decoder.
    temporal_depth: Blocks with attention along time, of the encoder and again of the decoder.
    codebook_size: Number of codes.
    codebook_dim: Width of a code.
    """

    image_size: tuple[int, int] = (128, 128)
    channels: int = 3
    patch: tuple[int, int] = (8, 8)
    time_patch: int = 2
    dim: int = 512
    heads: int = 8
    head_dim: int = 64
    feed_forward: int = 1365
    spatial_depth: int = 4
    temporal_depth: int = 4
    codebook_size: int = 8192
    codebook_dim: int = 32

    def __post_init__(self) -> None:
        if self.image_size[0] % self.patch[0] or self.image_size[1] % self.patch[1]:
            raise InputError(f"The image size {self.image_size} is not a multiple of the patch size {self.patch}.")

    @property
    def grid(self) -> tuple[int, int]:
        """Number of patches along height and width."""
        return self.image_size[0] // self.patch[0], self.image_size[1] // self.patch[1]

    @property
    def positions(self) -> int:
        """Number of tokens per latent frame."""
        return self.grid[0] * self.grid[1]

    @property
    def quantizer(self) -> QuantizerConfig:
        """Published cosine codebook: running mean 0.8, commitment weight 0.25, no restarts."""
        return QuantizerConfig(kind="vq", codebook_size=self.codebook_size, codebook_dim=self.codebook_dim, ema_decay=0.8)

    @classmethod
    def published(cls) -> PublishedTokenizerConfig:
        """Sizes of ECHOPulse's code: 128 x 128, patches of 8 x 8 x 2, width 512, 4 + 4 layers twice, 8192 codes of 32."""
        return cls()


class PatchEmbedding(nn.Module):
    """Embedding of the pixels of a patch: norm, linear layer, norm."""

    def __init__(self, pixels: int, dim: int) -> None:
        super().__init__()
        self.pixel_norm = nn.LayerNorm(pixels)
        self.project = nn.Linear(pixels, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, patches: Tensor) -> Tensor:
        """Embeddings (..., dim) of patches (..., pixels)."""
        out: Tensor = self.norm(self.project(self.pixel_norm(patches)))
        return out


class PublishedTokenizer(nn.Module):
    """Video tokenizer: patches, spatial, then temporal attention, codes, temporal, then spatial attention, pixels.

    Nothing is causal: the ids of every frame depend on all frames, also the first one's. Spatial attention has one bias,
    shared by encoder and decoder; time is known only through the position convolution.
    """

    config_class: ClassVar = PublishedTokenizerConfig
    quantizer: Quantizer

    def __init__(self, config: PublishedTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        pixels = config.channels * config.patch[0] * config.patch[1]
        sizes = Sizes(config.dim, config.heads, config.head_dim, config.feed_forward)
        self.embed_first = PatchEmbedding(pixels, config.dim)
        self.embed_group = PatchEmbedding(pixels * config.time_patch, config.dim)
        self.position_bias = PositionBias(config.dim, config.heads, axes=2)
        self.spatial_encoder = PublishedStack(sizes, config.spatial_depth, early=True)
        self.temporal_encoder = PublishedStack(sizes, config.temporal_depth, early=True)
        self.quantizer = make_quantizer(config.quantizer, config.dim)
        self.temporal_decoder = PublishedStack(sizes, config.temporal_depth, early=True)
        self.spatial_decoder = PublishedStack(sizes, config.spatial_depth, early=True)
        self.head_first = nn.Linear(config.dim, pixels)
        self.head_group = nn.Linear(config.dim, pixels * config.time_patch)

    def latent_shape(self, frames: int) -> tuple[int, int, int]:
        """Numbers of latent frames, rows and columns of the tokens of a video with this many frames.

        Raises `InputError` unless there is one frame plus a multiple of time_patch.
        """
        if frames < 1 or (frames - 1) % self.config.time_patch:
            raise InputError(f"The tokenizer takes 1 frame plus a multiple of {self.config.time_patch}, not {frames} frames.")
        return 1 + (frames - 1) // self.config.time_patch, *self.config.grid

    def embed(self, video: Tensor) -> Tensor:
        """Patch embeddings (B, T', S, dim) of a video; see `encode`."""
        c = self.config
        if video.dim() != 5 or video.shape[1] != c.channels or tuple(video.shape[3:]) != c.image_size:
            raise InputError(
                f"The tokenizer takes video of shape (batch, {c.channels}, frames, {c.image_size[0]}, {c.image_size[1]}), "
                f"not {tuple(video.shape)}."
            )
        self.latent_shape(video.shape[2])
        x = self.embed_first(self._patches(video[:, :, :1], 1))
        if video.shape[2] > 1:
            x = torch.cat((x, self.embed_group(self._patches(video[:, :, 1:], c.time_patch))), dim=1)
        return x

    def encode(self, video: Tensor) -> Tensor:
        """Encode a video (B, channels, 1 + k time_patch, height, width) in [0, 1] as latents (B, 1 + k, S, dim).

        Raises `InputError` when the frames or the size do not fit the config.
        """
        return self._along_time(self._within_frames(self.embed(video), self.spatial_encoder), self.temporal_encoder)

    def quantize(self, latents: Tensor) -> Quantized:
        """Quantise latents (B, T', S, dim): values of the same shape, ids (B, T', S, 1) and loss; training moves the codebook."""
        quantized: Quantized = self.quantizer(latents)
        return quantized

    def tokenize(self, video: Tensor) -> Tensor:
        """Ids (B, 1 + k, S, 1) of a video; see `encode`."""
        return self.quantize(self.encode(video)).ids

    def decode(self, values: Tensor) -> Tensor:
        """Draw quantised values (B, T', S, dim) as pixels (B, 1 + (T' - 1) time_patch, channels, H, W), about [0, 1]."""
        x = self._within_frames(self._along_time(values, self.temporal_decoder), self.spatial_decoder)
        # Pixels have more levels than bfloat16 tells apart.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.head_first.weight.dtype)
            pictures = self._pictures(self.head_first(x[:, :1]), 1)
            if x.shape[1] == 1:
                return pictures
            return torch.cat((pictures, self._pictures(self.head_group(x[:, 1:]), self.config.time_patch)), dim=1)

    def decode_ids(self, ids: Tensor) -> Tensor:
        """Draw ids (B, T', S, 1) as pixels; see `decode`."""
        return self.decode(self.quantizer.decode_ids(ids))

    def forward(self, video: Tensor) -> TokenizerOutput:
        """Encode, quantise and decode a video."""
        quantized = self.quantize(self.encode(video))
        return TokenizerOutput(self.decode(quantized.values), quantized.ids, quantized.loss)

    def _patches(self, video: Tensor, depth: int) -> Tensor:
        """Patches (B, k, S, C depth patch patch) of frames (B, C, k depth, H, W)."""
        c = self.config
        batch, channels, frames = video.shape[:3]
        cut = video.reshape(batch, channels, frames // depth, depth, c.grid[0], c.patch[0], c.grid[1], c.patch[1])
        return cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(2, 3)

    def _pictures(self, x: Tensor, depth: int) -> Tensor:
        """Frames (B, k depth, channels, H, W) of head outputs (B, k, S, channels depth patch patch)."""
        c = self.config
        batch, count = x.shape[:2]
        cut = x.view(batch, count, *c.grid, c.channels, depth, *c.patch).permute(0, 1, 5, 4, 2, 6, 3, 7)
        return cut.reshape(batch, count * depth, c.channels, *c.image_size)

    def _within_frames(self, x: Tensor, stack: nn.Module) -> Tensor:
        """Spatial attention in (B, T', S, dim), every latent frame by itself."""
        shape = (x.shape[0], x.shape[1], *self.config.grid)
        mixed: Tensor = stack(x.flatten(0, 1), shape, bias=self.position_bias(*self.config.grid))
        return mixed.view(x.shape)

    def _along_time(self, x: Tensor, stack: nn.Module) -> Tensor:
        """Temporal attention in (B, T', S, dim), every position by itself."""
        shape = (x.shape[0], x.shape[1], *self.config.grid)
        # A linear layer multiplies what is not contiguous by a copy of its weights for each position.
        columns = x.transpose(1, 2).contiguous()
        mixed: Tensor = stack(columns.flatten(0, 1), shape)
        return mixed.view(columns.shape).transpose(1, 2).contiguous()
