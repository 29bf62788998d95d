"""Parts of the video U-Net of EchoDiffusion: factored convolutions, attention over time, places and conditions.

Maps are (B, C, frames, H, W) in channels-last memory, so that the two-dimensional convolutions over places and over time, and
the linear layers over channels, see views and copy nothing. Source: Ho et al., Imagen Video, 2022; Reynaud et al., 2023.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Pixels that attention over time takes at once, which bounds its memory.
PIXELS_AT_ONCE = 2048
#: Factor of the cosine of a query and a key before the softmax, where they are unit vectors; as in the published library.
UNIT_SCALE = 8.0


def channels_last(x: Tensor) -> Tensor:
    """Copy of a map (B, C, frames, H, W) in channels-last memory."""
    return x.contiguous(memory_format=torch.channels_last_3d)


def joined(*maps: Tensor) -> Tensor:
    """Join maps along their channels, in channels-last memory whatever theirs is."""
    return torch.cat([each.movedim(1, -1) for each in maps], dim=-1).movedim(-1, 1)


class SpaceConv(nn.Conv2d):
    """Convolution over places, frame by frame."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, frames, H, W) of a map (B, inputs, frames, H, W)."""
        return super().forward(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)


class TimeConv(nn.Conv2d):
    """Convolution over a frame and the two before it; an untrained one passes each frame as it is."""

    def __init__(self, dim: int, groups: int = 1) -> None:
        super().__init__(dim, dim, (3, 1), padding=(2, 0), groups=groups)
        if groups == 1:
            nn.init.zeros_(self.weight)
            nn.init.eye_(self.weight.data[:, :, -1, 0])
            nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map of the shape of a map (B, dim, frames, H, W)."""
        return super().forward(x.flatten(3))[:, :, : x.shape[2]].unflatten(3, x.shape[3:])


class PointConv(nn.Linear):
    """Convolution of size one."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, frames, H, W) of a map (B, inputs, frames, H, W)."""
        # As one matrix: of more axes that are not contiguous the weights would be copied for each.
        places = x.movedim(1, -1)
        return super().forward(places.flatten(0, 3)).unflatten(0, places.shape[:4]).movedim(-1, 1)


class FactoredConv(nn.Module):
    """Convolution of 3 x 3 places, then one of three frames, unless the frames stand alone."""

    def __init__(self, inputs: int, outputs: int, over_time: bool = True) -> None:
        super().__init__()
        self.space = SpaceConv(inputs, outputs, 3)
        self.time = TimeConv(outputs) if over_time else None

    def forward(self, x: Tensor, still: bool) -> Tensor:
        """Map (B, outputs, frames, H, W) of a map (B, inputs, frames, H, W); still: without the convolution over time."""
        x = self.space(x)
        return x if still or self.time is None else self.time(x)


class Block(nn.Module):
    """Group normalisation over all frames, scale and shift where given, SiLU, convolution."""

    def __init__(self, inputs: int, outputs: int, groups: int, over_time: bool = True) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, inputs)
        self.conv = FactoredConv(inputs, outputs, over_time)

    def forward(self, x: Tensor, still: bool, scale_shift: Tensor | None = None) -> Tensor:
        """Map (B, outputs, frames, H, W) of a map (B, inputs, frames, H, W); scale_shift: (B, 2 inputs), scale first."""
        y = self.norm(x.flatten(3)).unflatten(3, x.shape[3:])
        if scale_shift is not None:
            scale, shift = scale_shift[:, :, None, None, None].chunk(2, dim=1)
            y = torch.addcmul(shift, y, scale + 1)
        return self.conv(F.silu(y), still)


class GlobalGate(nn.Module):
    """Gate of each channel that depends on the whole video. Source: Cao et al., GCNet, 2019."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = max(3, dim // 2)
        self.where = nn.Linear(dim, 1)
        self.shrink = nn.Linear(dim, hidden)
        self.grow = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, frames, H, W) with its channels weighed."""
        places = x.movedim(1, -1).flatten(1, 3)
        share = self.where(places).float().softmax(1).to(places.dtype)
        summary = (share.transpose(1, 2) @ places)[:, 0]
        gate = self.grow(F.silu(self.shrink(summary))).sigmoid()
        return x * gate[:, :, None, None, None].to(x.dtype)


class UnitScales(nn.Module):
    """Scaling of queries and keys to unit vectors with learned scales, as in later versions of the published library."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.ones(head_dim))
        self.key = nn.Parameter(torch.ones(head_dim))

    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys (..., head_dim), scaled."""
        return F.normalize(query, dim=-1) * self.query, F.normalize(key, dim=-1) * self.key


class Attention(nn.Module):
    """Attention of tokens to one another and to a learned null token; all heads share one set of keys and values."""

    def __init__(self, dim: int, heads: int, head_dim: int, unit: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, bias=False)
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * head_dim, bias=False)
        self.nothing = nn.Parameter(torch.randn(2, head_dim))
        self.out = nn.Linear(heads * head_dim, dim, bias=False)
        self.out_norm = nn.LayerNorm(dim, bias=False)
        self.unit = UnitScales(head_dim) if unit else None

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Update of tokens (S, N, dim); bias (heads, N, N + 1) is added to the scores, the first key being the null token."""
        x = self.norm(tokens)
        # The heads stand beside each other as more queries, so that keys and values are read once.
        query = self.query(x).unflatten(-1, (self.heads, -1)).flatten(1, 2)
        keys = self.key_value(x)
        keys = torch.cat((self.nothing.to(keys.dtype).view(1, 1, -1).expand(len(keys), -1, -1), keys), dim=1)
        key, value = keys.chunk(2, dim=-1)
        if self.unit is not None:
            query, key = (each.to(value.dtype) for each in self.unit(query, key))
        if bias is not None:
            bias = bias.transpose(0, 1).flatten(0, 1).to(query.dtype)
        scale = None if self.unit is None else UNIT_SCALE
        mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], attn_mask=bias, scale=scale)
        out: Tensor = self.out_norm(self.out(mixed[:, 0].unflatten(1, (-1, self.heads)).flatten(2)))
        return out


class TimeBias(nn.Module):
    """Bias of attention over time by the number of frames between two frames, causal."""

    def __init__(self, dim: int, heads: int, depth: int = 2) -> None:
        super().__init__()
        widths = [1] + [dim] * depth
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, dim), nn.LayerNorm(dim, bias=False), nn.SiLU()) for inputs in widths[:-1]
        )
        self.out = nn.Linear(dim, heads)
        self.nothing = nn.Parameter(torch.zeros(heads))

    def forward(self, frames: int) -> Tensor:
        """Bias (heads, frames, frames + 1); its first column is that of the null token, which all frames attend to."""
        x = torch.arange(1 - frames, frames, device=self.nothing.device, dtype=torch.float32)[:, None]
        for layer in self.layers:
            x = layer(x)
        index = torch.arange(frames, device=x.device)
        apart = index[:, None] - index[None]
        bias = self.out(x)[apart + frames - 1].movedim(-1, 0)
        bias = bias.masked_fill(apart < 0, -torch.inf)
        return torch.cat((self.nothing.to(bias.dtype).view(-1, 1, 1).expand(-1, frames, 1), bias), dim=2)


class OverTime(nn.Module):
    """Position encoding by a convolution of each channel over time, then attention of each pixel to its own past."""

    def __init__(self, dim: int, heads: int, head_dim: int, unit: bool) -> None:
        super().__init__()
        self.position = TimeConv(dim, groups=dim)
        self.attention = Attention(dim, heads, head_dim, unit)
        self.bias = TimeBias(dim, heads)
        nn.init.zeros_(self.attention.out_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map of the shape of a map (B, dim, frames, H, W)."""
        x = x + self.position(x)
        bias = self.bias(x.shape[2])
        pixels = x.movedim(1, -1).flatten(2, 3).transpose(1, 2)  # (B, H W, frames, C)
        parts = [
            self.attention(part.flatten(0, 1), bias).unflatten(0, part.shape[:2]) for part in pixels.split(PIXELS_AT_ONCE, dim=1)
        ]
        return channels_last(x + torch.cat(parts, 1).unflatten(1, x.shape[3:]).permute(0, 4, 3, 1, 2))


class OverAll(nn.Module):
    """Attention of every place of every frame to all others."""

    def __init__(self, dim: int, heads: int, head_dim: int, unit: bool) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, head_dim, unit)

    def forward(self, x: Tensor) -> Tensor:
        """Map of the shape of a map (B, dim, frames, H, W)."""
        places = x.movedim(1, -1).flatten(1, 3)
        return x + self.attention(places).unflatten(1, x.shape[2:]).movedim(-1, 1)


class CrossAttention(nn.Module):
    """Attention of every place to the tokens of the conditions and to a learned null token."""

    def __init__(self, dim: int, context: int, heads: int, head_dim: int, unit: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, bias=False)
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key_value = nn.Linear(context, 2 * heads * head_dim, bias=False)
        self.nothing = nn.Parameter(torch.randn(2, head_dim))
        self.out = nn.Linear(heads * head_dim, dim, bias=False)
        self.out_norm = nn.LayerNorm(dim, bias=False)
        self.unit = UnitScales(head_dim) if unit else None

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Update of a map (B, dim, frames, H, W) that attends to tokens (B, M, context)."""
        places = self.norm(x.movedim(1, -1).flatten(1, 3))
        query = self.query(places).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        both = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        nothing = self.nothing.to(both.dtype)[:, None, None, None].expand(-1, *both.shape[1:3], 1, -1)
        key, value = torch.cat((nothing, both), dim=3).unbind(0)
        if self.unit is not None:
            query, key = (each.to(value.dtype) for each in self.unit(query, key))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=None if self.unit is None else UNIT_SCALE)
        out: Tensor = self.out_norm(self.out(mixed.transpose(1, 2).flatten(2)))
        return out.unflatten(1, x.shape[2:]).movedim(-1, 1)


class ResnetBlock(nn.Module):
    """Residual block of two convolutions: conditions scale and shift the second; cross-attention, if any, comes between."""

    def __init__(
        self, inputs: int, outputs: int, conditions: int, groups: int, *, cross: CrossAttention | None = None,
        gate: bool = False, over_time: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conditions = nn.Linear(conditions, 2 * outputs)
        self.block1 = Block(inputs, outputs, groups, over_time)
        self.block2 = Block(outputs, outputs, groups, over_time)
        self.cross = cross
        self.gate = GlobalGate(outputs) if gate else None
        self.shortcut = PointConv(inputs, outputs) if inputs != outputs else None

    def forward(self, x: Tensor, conditions: Tensor, still: bool, tokens: Tensor | None = None) -> Tensor:
        """Map (B, outputs, frames, H, W) of a map (B, inputs, frames, H, W).

        conditions: Vector (B, conditions).
        still: Leave out the convolutions over time.
        tokens: Tokens (B, M, context) for a block with cross-attention.
        """
        y = self.block1(x, still)
        if self.cross is not None and tokens is not None:
            y = y + self.cross(y, tokens)
        y = self.block2(y, still, self.conditions(F.silu(conditions)))
        if self.gate is not None:
            y = self.gate(y)
        return channels_last(y + (x if self.shortcut is None else self.shortcut(x)))


class Shrink(PointConv):
    """Halving of the sides: 2 x 2 places become channels, then a linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(4 * inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, frames, H / 2, W / 2) of a map (B, inputs, frames, H, W)."""
        small = F.pixel_unshuffle(x.transpose(1, 2).flatten(0, 1), 2).unflatten(0, (len(x), -1)).transpose(1, 2)
        return super().forward(small)


class Grow(PointConv):
    """Doubling of the sides: a linear layer and SiLU, then channels become 2 x 2 places."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, 4 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, frames, 2 H, 2 W) of a map (B, inputs, frames, H, W)."""
        y = F.silu(super().forward(x))
        y = F.pixel_shuffle(y.transpose(1, 2).flatten(0, 1), 2).unflatten(0, (len(x), -1)).transpose(1, 2)
        return channels_last(y)


class Widen(nn.Module):
    """Change of width without a change of size: convolutions of 3 x 3 and 1 x 1 places, added."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.around = SpaceConv(inputs, outputs, 3)
        self.point = PointConv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, frames, H, W) of a map (B, inputs, frames, H, W)."""
        return self.around(x) + self.point(x)


class Stem(nn.Module):
    """First convolutions, of several sizes side by side, the smallest with the most channels."""

    def __init__(self, inputs: int, dim: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        widths = [dim >> (index + 1) for index in range(len(sizes) - 1)]
        widths.append(dim - sum(widths))
        self.convs = nn.ModuleList(SpaceConv(inputs, width, size) for width, size in zip(widths, sizes, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, frames, H, W) of a map (B, inputs, frames, H, W)."""
        return joined(*(conv(x) for conv in self.convs))


class NoiseEmbedding(nn.Module):
    """Encoder of a noise level as a vector and a few tokens, by learned frequencies."""

    def __init__(self, dim: int, context: int, tokens: int, frequencies: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(frequencies))
        self.hidden = nn.Linear(2 * frequencies + 1, dim)
        self.vector = nn.Linear(dim, dim)
        self.tokens = nn.Linear(dim, tokens * context)
        self.context = context

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, dim) and tokens (B, tokens, context) of noise levels (B,)."""
        turns = 2 * math.pi * level[:, None] * self.frequencies
        hidden = F.silu(self.hidden(torch.cat((level[:, None], turns.sin(), turns.cos()), dim=1)))
        return self.vector(hidden), self.tokens(hidden).unflatten(1, (-1, self.context))
