"""Video U-Net of EchoDiffusion, which removes noise from a video, conditioned on a frame and an EF.

Source: Reynaud et al., MICCAI 2023, Figure 3 and Table 3, after Ho et al., Imagen Video, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.ef_embedding import EfEmbedding
from echogen.networks.video_unet_blocks import (
    CrossAttention,
    Grow,
    NoiseEmbedding,
    OverAll,
    OverTime,
    ResnetBlock,
    Shrink,
    SpaceConv,
    Stem,
    Widen,
    channels_last,
    joined,
)

#: Factor of skip connections, as in Imagen.
SKIP_SCALE = 2**-0.5


@dataclass(frozen=True)
class VideoUnetConfig:
    """Shape of a `VideoUnet`.

    channels: Channels of the video, the frame and the smaller video.
    dim: Channels after the first convolutions.
    widths: Channels of each level over dim.
    blocks: Residual blocks of each level.
    cross_attention: For each level, attend from its first block to the tokens of the conditions.
    middle_attention: Attend from every place of every frame to all others at the lowest level.
    memory_saving: Halve the sides before the blocks of a level instead of after.
    lowres: Take the video of the stage before as an input.
    heads: Attention heads.
    head_dim: Width of a head.
    middle_heads: Heads of the middle blocks' attention to the tokens.
    middle_head_dim: Width of a head of the middle blocks' attention to the tokens.
    context: Width of the tokens of the conditions.
    noise_tokens: Tokens of each noise level.
    frequencies: Learned frequencies by which a noise level is encoded.
    ef_latents: Latents of the EF's resampler.
    ef_averages: Tokens of the EF's resampler that are made of the mean.
    ef_depth: Layers of the EF's resampler.
    stem: Sizes in pixels of the first convolutions, side by side.
    groups: Groups of the group normalisation.
    unit_queries: Use cosine attention.
    zero_is_none: Treat an EF of exactly 0 as unknown, as the published code does.
    over_time: Convolve and attend over time; else every frame stands alone.
    """

    channels: int = 3
    dim: int = 64
    widths: tuple[int, ...] = (1, 2, 4)
    blocks: tuple[int, ...] = (2, 2, 2)
    cross_attention: tuple[bool, ...] = (False, False, True)
    middle_attention: bool = True
    memory_saving: bool = False
    lowres: bool = False
    heads: int = 8
    head_dim: int = 64
    middle_heads: int = 8
    middle_head_dim: int = 64
    context: int = 64
    noise_tokens: int = 2
    frequencies: int = 8
    ef_latents: int = 32
    ef_averages: int = 4
    ef_depth: int = 2
    stem: tuple[int, ...] = (3, 7, 15)
    groups: int = 8
    unit_queries: bool = False
    zero_is_none: bool = False
    over_time: bool = True

    def __post_init__(self) -> None:
        levels = len(self.widths)
        if not levels or not len(self.blocks) == len(self.cross_attention) == levels:
            raise InputError("A video U-Net needs one width, number of blocks and choice of cross-attention for each level.")
        if any((self.dim * width) % self.groups for width in (1, *self.widths)):
            raise InputError(f"The channels of every level must be a multiple of the {self.groups} groups of the norms.")

    @classmethod
    def paper(cls) -> VideoUnetConfig:
        """Config of the base stage of 2SCM and 4SCM in the paper's Table 3."""
        return cls()

    @classmethod
    def published(cls) -> VideoUnetConfig:
        """Config of the paper as the released weights need it."""
        return replace(cls.paper(), zero_is_none=True)

    @property
    def conditions(self) -> int:
        """Width of the vector of conditions that all blocks take; twice as much with a second noise level."""
        return 4 * self.dim * (2 if self.lowres else 1)

    @property
    def shrinks(self) -> int:
        """Factor by which the sides shrink at the lowest level; the sides of a video must be a multiple of it."""
        return int(2 ** (len(self.widths) - (0 if self.memory_saving else 1)))


class Level(nn.Module):
    """Level of the way down or up: a first block, more of them, attention over time, and a change of size or width."""

    def __init__(
        self,
        first: ResnetBlock,
        blocks: list[ResnetBlock],
        over_time: OverTime | None,
        before: nn.Module | None,
        after: nn.Module | None,
    ) -> None:
        super().__init__()
        self.before = before
        self.first = first
        self.blocks = nn.ModuleList(blocks)
        self.over_time = over_time
        self.after = after

    def down(self, x: Tensor, vector: Tensor, tokens: Tensor, still: bool, skips: list[Tensor]) -> Tensor:
        """Map on the way down; maps that the way up joins are put on `skips`."""
        x = x if self.before is None else channels_last(self.before(x))
        x = self.first(x, vector, still, tokens)
        for block in self.blocks:
            x = block(x, vector, still)
            skips.append(x)
        x = x if still or self.over_time is None else self.over_time(x)
        skips.append(x)
        return x if self.after is None else channels_last(self.after(x))

    def up(self, x: Tensor, vector: Tensor, tokens: Tensor, still: bool, skips: list[Tensor]) -> Tensor:
        """Map on the way up, joined with maps taken off `skips`."""
        x = self.first(joined(x, skips.pop() * SKIP_SCALE), vector, still, tokens)
        for block in self.blocks:
            x = block(joined(x, skips.pop() * SKIP_SCALE), vector, still)
        x = x if still or self.over_time is None else self.over_time(x)
        return x if self.after is None else channels_last(self.after(x))


class VideoUnet(nn.Module):
    """Network from a noisy video and its conditions to a prediction of the clean video."""

    config_class: ClassVar = VideoUnetConfig

    def __init__(self, config: VideoUnetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VideoUnetConfig()
        dims = [config.dim, *(config.dim * width for width in config.widths)]
        levels = list(pairwise(dims))
        self.stem = Stem(config.channels * (3 if config.lowres else 2), config.dim, config.stem)
        self.first_over_time = self._over_time(config.dim)
        self.noise = self._noise()
        self.lowres_noise = self._noise() if config.lowres else None
        self.ef = EfEmbedding(
            config.context, config.conditions, config.heads, config.head_dim, latents=config.ef_latents,
            averages=config.ef_averages, depth=config.ef_depth, unit=config.unit_queries, zero_is_none=config.zero_is_none,
        )  # fmt: skip
        self.token_norm = nn.LayerNorm(config.context)
        self.first = self._block(config.dim, config.dim, gate=True) if config.memory_saving else None
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        kept = []
        for index, (outer, inner) in enumerate(levels):
            last = index == len(levels) - 1
            width = inner if config.memory_saving else outer
            kept.append(width)
            before = Shrink(outer, inner) if config.memory_saving else None
            after = None if config.memory_saving else (Widen(outer, inner) if last else Shrink(outer, inner))
            self.downs.append(self._level(index, width, width, before, after))
        bottom = dims[-1]
        middle = (config.middle_heads, config.middle_head_dim)
        self.middle1 = self._block(bottom, bottom, cross=middle)
        self.middle_over_all = OverAll(bottom, *self._attention) if config.middle_attention else None
        self.middle_over_time = self._over_time(bottom)
        self.middle2 = self._block(bottom, bottom, cross=middle)
        for index, (outer, inner) in reversed(list(enumerate(levels))):
            grows = index > 0 or config.memory_saving
            self.ups.append(self._level(index, inner + kept[index], inner, None, Grow(inner, outer) if grows else None))
        self.last = self._block(config.dim if config.memory_saving else dims[1], config.dim, gate=True)
        self.out = SpaceConv(config.dim + (config.channels if config.lowres else 0), config.channels, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]
        for weight in self.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    @property
    def _attention(self) -> tuple[int, int, bool]:
        return self.config.heads, self.config.head_dim, self.config.unit_queries

    def _over_time(self, dim: int) -> OverTime | None:
        return OverTime(dim, *self._attention) if self.config.over_time else None

    def _noise(self) -> NoiseEmbedding:
        config = self.config
        return NoiseEmbedding(config.conditions, config.context, config.noise_tokens, config.frequencies)

    def _block(self, inputs: int, outputs: int, *, cross: tuple[int, int] | None = None, gate: bool = False) -> ResnetBlock:
        config = self.config
        attention = None if cross is None else CrossAttention(outputs, config.context, *cross, config.unit_queries)
        return ResnetBlock(
            inputs, outputs, config.conditions, config.groups, cross=attention, gate=gate, over_time=config.over_time
        )

    def _level(self, index: int, inputs: int, outputs: int, before: nn.Module | None, after: nn.Module | None) -> Level:
        config = self.config
        cross = (config.heads, config.head_dim) if config.cross_attention[index] else None
        first = self._block(inputs, outputs, cross=cross)
        blocks = [self._block(inputs, outputs, gate=True) for _ in range(config.blocks[index])]
        return Level(first, blocks, self._over_time(outputs), before, after)

    def forward(
        self,
        video: Tensor,
        noise_level: Tensor,
        frame: Tensor,
        ef: Tensor | None = None,
        *,
        keep: Tensor | None = None,
        lowres: Tensor | None = None,
        lowres_level: Tensor | None = None,
        still: bool = False,
    ) -> Tensor:
        """Prediction (B, channels, frames, H, W), of the shape of the noisy video; a solver makes the clean video of it.

        video: Noisy video (B, channels, frames, H, W).
        noise_level: Noise level (B,) as ln(sigma) / 4.
        frame: Frames (B, channels, h, w) in 0..1, of any size.
        ef: EF (B,) as a fraction; None for unknown.
        keep: Mask (B,); False for rows whose EF is unknown.
        lowres: Noisy video (B, channels, frames, H, W) of the stage before in -1..1.
        lowres_level: Noise level (B,) of that video.
        still: Treat every frame alone, without anything over time.
        Raises `InputError` for a size that cannot be halved often enough, or a missing smaller video.
        """
        config = self.config
        size = video.shape[-2:]
        if any(side % config.shrinks for side in size):
            raise InputError(
                f"Frames of {size[0]} x {size[1]} pixels cannot be used; their sides must divide by {config.shrinks}."
            )
        if (lowres is not None) != config.lowres or (lowres_level is not None) != config.lowres:
            raise InputError("Only a stage after the first takes the video of the stage before, and none does without it.")
        repeated = F.interpolate(frame, size, mode="nearest")[:, :, None].expand(-1, -1, video.shape[2], -1, -1)
        inputs = [repeated, video] if lowres is None else [repeated, video, lowres]
        x = self.stem(joined(*(each.to(video.dtype) for each in inputs)))
        x = x if still or self.first_over_time is None else self.first_over_time(x)
        vector, tokens = self._conditions(noise_level, ef, keep, lowres_level)
        if self.first is not None:
            x = self.first(x, vector, still)
        skips: list[Tensor] = []
        for level in self.downs:
            x = cast(Level, level).down(x, vector, tokens, still, skips)
        x = self.middle1(x, vector, still, tokens)
        x = x if self.middle_over_all is None else channels_last(self.middle_over_all(x))
        x = x if still or self.middle_over_time is None else self.middle_over_time(x)
        x = self.middle2(x, vector, still, tokens)
        for level in self.ups:
            x = cast(Level, level).up(x, vector, tokens, still, skips)
        x = self.last(x, vector, still)
        if lowres is not None:
            x = joined(x, lowres.to(x.dtype))
        predicted: Tensor = self.out(x)
        return predicted

    def _conditions(
        self, noise_level: Tensor, ef: Tensor | None, keep: Tensor | None, lowres_level: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Vector (B, conditions) and tokens (B, M, context) of the conditions, which all blocks take."""
        vector, tokens = self.noise(noise_level)
        if self.lowres_noise is not None and lowres_level is not None:
            more, others = self.lowres_noise(lowres_level)
            vector, tokens = vector + more, torch.cat((tokens, others), dim=1)
        if keep is None:
            keep = torch.full_like(noise_level, ef is not None, dtype=torch.bool)
        if ef is None:
            ef = torch.zeros_like(noise_level)
        ef_tokens, ef_vector = self.ef(ef, keep)
        return vector + ef_vector, self.token_norm(torch.cat((tokens, ef_tokens), dim=1))
