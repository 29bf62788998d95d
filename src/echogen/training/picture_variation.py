"""Pictures of varied hearts, made from their maps in torch: any contrast, gain, drop-out, haze, speckle, processing and sector.

A batch holds B hearts and three neighbouring frames of each; all that a machine or a patient decides is drawn once a heart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.phantom.ultrasound import APEX_ROW, IMAGE_SIZE, RADIUS
from echogen.phantom.variety import BRIGHTEST_DB, DARKEST_DB, INNERMOST, MAP_SIZE, MARGIN, OUTERMOST
from echogen.records import STRUCTURES

#: Polar grid of a speckle field, samples along and across the beams, and how many fields of each kind are kept.
_POLAR, _FIELDS = 160, 96
FRAMES = 3


@dataclass(frozen=True)
class Pictures:
    """Pictures to learn from, and what they show.

    pictures: (B, 3, 128, 128) grey values 0..1. labels: (B, 128, 128) int64 structures of the middle frame.
    """

    pictures: Tensor
    labels: Tensor


class Dice:
    """Random numbers for a batch, from one generator: each call gives (B, 1, 1, 1) or the shape asked for.

    side: of the pictures in pixels; smaller ones show the same, coarser. All places stay in pixels of the canonical picture.
    """

    def __init__(self, count: int, generator: torch.Generator, side: int = IMAGE_SIZE) -> None:
        self.count, self.generator, self.side = count, generator, side
        place = ((torch.arange(side, dtype=torch.float32) + 0.5) * (IMAGE_SIZE / side) - 0.5).view(1, 1, -1, 1)
        self.row, self.column = place, place.transpose(2, 3)

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform values."""
        return low + (high - low) * torch.rand(self.count, *(shape or (1, 1, 1)), generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values."""
        return torch.randn(self.count, *(shape or (1, 1, 1)), generator=self.generator)

    def chance(self, share: float) -> Tensor:
        """1.0 with this probability, else 0.0; (B, 1, 1, 1)."""
        return (torch.rand(self.count, 1, 1, 1, generator=self.generator) < share).float()

    def smooth(self, cells: int, channels: int = 1) -> Tensor:
        """(B, channels, side, side) smooth fields of about unit variance."""
        coarse = torch.randn(self.count, channels, cells, cells, generator=self.generator)
        between = _between_cells(cells, self.side)
        return between @ coarse @ between.T


@lru_cache(maxsize=32)
def _between_cells(cells: int, side: int) -> Tensor:
    """(side, cells) weights of a Gaussian interpolation whose rows have unit sum of squares."""
    at = torch.linspace(0.0, cells - 1.0, side)[:, None] - torch.arange(cells)[None]
    weights = torch.exp(-0.5 * (at / 0.55).square())
    return weights / weights.square().sum(1, keepdim=True).sqrt()


def _bell(squared: Tensor) -> Tensor:
    """exp(-squared), 0 where it would be too small to matter (such numbers are slow)."""
    return torch.exp(-squared.clamp_max(16.0)) - 1.125e-7


def speckle_bank(seed: int) -> Tensor:
    """(_FIELDS, _POLAR, _POLAR) fields of fully developed speckle in dB about their mean, from fine to coarse grain."""
    generator = torch.Generator().manual_seed(seed)
    fields = []
    for index in range(_FIELDS):
        share = (index + 0.5) / _FIELDS
        axial, lateral = 0.45 + 1.3 * share, 0.6 + 2.6 * float(torch.rand(1, generator=generator)) * (0.4 + share)
        pair = torch.randn(2, 1, _POLAR, _POLAR, generator=generator)
        power = _blur(pair, axial, lateral).square().sum((0, 1))
        decibel = 10.0 * torch.log10(power / power.mean() + 1e-4) + 2.5
        fields.append(decibel.clamp(-22.0, 9.0))
    return torch.stack(fields)


def _kernel(sigma: float) -> Tensor:
    reach = max(1, math.ceil(2.5 * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / max(sigma, 1e-3)).square())
    return kernel / kernel.sum()


def _blur(pictures: Tensor, down: float, across: float) -> Tensor:
    """Gaussian blur of (n, 1, h, w)."""
    one, other = _kernel(down), _kernel(across)
    pictures = F.conv2d(F.pad(pictures, (0, 0, len(one) // 2, len(one) // 2), mode="replicate"), one.view(1, 1, -1, 1))
    return F.conv2d(F.pad(pictures, (len(other) // 2, len(other) // 2, 0, 0), mode="replicate"), other.view(1, 1, 1, -1))


def _place(dice: Dice) -> Tensor:
    """(B, 128, 128, 2) sampling grid into the maps: turned, scaled, mirrored now and then, moved, bent."""
    row, column = dice.row, dice.column
    middle, held = (IMAGE_SIZE - 1) / 2, 36.0
    # Turned and scaled about the ventricle's upper half, so that its apex stays in the fan.
    y, x = row - held, column - middle
    turn = 0.16 * dice.normal().clamp(-2.2, 2.2)
    scale = torch.exp(0.17 * dice.normal().clamp(-2.0, 2.2) + 0.06)
    wide = torch.exp(0.07 * dice.normal())
    cos, sin = torch.cos(turn) / scale, torch.sin(turn) / scale
    at_x = (x * cos + y * sin) / wide + dice.between(-9.0, 9.0)
    at_y = (y * cos - x * sin) + dice.between(-12.0, 8.0)
    bend = dice.smooth(5, 2) * dice.between(0.0, 1.5) + dice.smooth(9, 2) * dice.between(0.0, 0.3)
    at_x, at_y = at_x + bend[:, :1], at_y + bend[:, 1:]
    at_x = at_x * (1.0 - 2.0 * dice.chance(0.06))
    grid = torch.cat([at_x + middle, at_y + held], 1) + MARGIN
    return (grid * (2.0 / (MAP_SIZE - 1)) - 1.0).permute(0, 2, 3, 1)


def _sector(dice: Dice) -> tuple[Tensor, Tensor, Tensor]:
    """Radius share (B, 1, 128, 128) and angle (rad) about the probe, and the fan that is shown (0 or 1)."""
    row, column = dice.row, dice.column
    tip_row, tip_column = APEX_ROW + dice.normal(), (IMAGE_SIZE - 1) / 2 + 1.0 * dice.normal()
    down, across = row - tip_row, column - tip_column
    radius, angle = torch.sqrt(down.square() + across.square()), torch.atan2(across, down)
    left, right = dice.between(0.50, 0.86), dice.between(-0.08, 0.08)
    right = left + right * dice.chance(0.4)
    reach = RADIUS + dice.between(-3.0, 1.0)
    shown = (radius <= reach) & (radius > dice.between(-4.0, 7.0)) & (angle >= -left) & (angle <= right) & (down > 0)
    # A picture cut or zoomed into loses the fan's sides, its foot or its tip.
    cut = dice.chance(0.3)
    for place, inward in ((column, 1.0), (IMAGE_SIZE - 1 - column, 1.0)):
        edge = dice.between(0.0, 30.0) * cut * dice.chance(0.7)
        shown = shown & (place >= edge * inward)
    shown = shown & (row <= IMAGE_SIZE - dice.between(8.0, 26.0) * dice.chance(0.12))
    shown = shown & (row >= dice.between(6.0, 22.0) * dice.chance(0.08))
    return radius / RADIUS, angle, shown.float()


def _soft(mask: Tensor) -> Tensor:
    """A third of a pixel's neighbours to each side mixed in."""
    wide = F.pad(mask, (1, 1, 1, 1), mode="replicate")
    wide = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    return (wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:]) * (1.0 / 9.0)


def _of_classes(labels: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """A map (B, T, 128, 128) with the value (B, 1, 1, 1) of the structure at each pixel, its borders softened by a pixel."""
    columns = [values[name].reshape(-1, 1) for name in STRUCTURES]
    values_of = torch.cat(columns, 1)
    return _soft(values_of.gather(1, labels.reshape(len(labels), -1)).reshape(labels.shape))


def _tissue(labels: Tensor, levels: Tensor, depths: Tensor, moments: Tensor, dice: Dice) -> Tensor:
    """Mean grey (B, T, 128, 128) of the structures: the phantom's echogenicities, and each class with a brightness of its own."""
    span = (BRIGHTEST_DB - DARKEST_DB) / 60.0
    grey = levels * span + (DARKEST_DB / 60.0 + dice.between(0.73, 1.1) + dice.between(-0.07, 0.13))
    grey = grey.clamp(0.0, 1.0).pow(dice.between(0.8, 1.3))
    # Every class has a brightness factor of its own.
    own, cavity = dice.chance(0.75), dice.between(0.4, 1.8)
    factors = {
        "background": dice.between(0.4, 1.3),
        "lv": cavity,
        "myocardium": dice.between(0.15, 1.25),
        "la": cavity * dice.between(0.7, 1.4),
        "rv": cavity * dice.between(0.6, 1.6),
        "ra": cavity * dice.between(0.6, 1.6),
    }
    grey = grey * _of_classes(labels, {name: 1.0 + own * (factor - 1.0) for name, factor in factors.items()})
    # Or levels that have nothing to do with the phantom's.
    dark = dice.between(0.0, 1.0).square() * 0.35 + 0.01
    flat = {
        "background": dark + dice.between(-0.05, 0.5),
        "lv": dark,
        "myocardium": dark + dice.between(-0.03, 0.55),
        "la": dark * dice.between(0.7, 1.4),
        "rv": dark * dice.between(0.6, 1.7),
        "ra": dark * dice.between(0.6, 1.7),
    }
    grey = torch.lerp(grey, _of_classes(labels, flat) * (1.0 + 0.18 * dice.smooth(10)), dice.chance(0.6) * dice.between(0.2, 0.9))
    # Tissue around the heart is patchy, and close to the probe often as dark as a cavity.
    patchy = 1.0 + dice.chance(0.6) * dice.between(0.2, 0.8) * dice.smooth(8).clamp(-1.2, 2.0)
    behind = (labels == STRUCTURES["background"]).float()
    grey = grey * torch.lerp(torch.ones(1), patchy, behind)
    return _layers(grey, labels, depths, moments, dice)


def _mean_within(grey: Tensor, where: Tensor) -> Tensor:
    """Mean (B, 1, 1, 1) of the middle frame's grey where a mask is 1."""
    at = grey.shape[1] // 2
    grey, where = grey[:, at : at + 1], where[:, at : at + 1]
    return (grey * where).sum((2, 3), keepdim=True) / where.sum((2, 3), keepdim=True).clamp_min(1.0)


def _layers(grey: Tensor, labels: Tensor, depths: Tensor, moments: Tensor, dice: Dice) -> Tensor:
    """The layers of the ventricle's wall: what of it is as dim as the cavity, and what is bright beside it.

    Trabeculae hang into the cavity at end-diastole, where readers count them as cavity; closed up at end-systole they are
    a grey layer that readers count as wall.
    """
    depth = INNERMOST + (OUTERMOST - INNERMOST) * depths
    lv, wall = (labels == STRUCTURES["lv"]).float(), (labels == STRUCTURES["myocardium"]).float()
    of_cavity, of_wall = _mean_within(grey, lv), _mean_within(grey, wall)
    # A wall is hardly ever darker than blood.
    lift = dice.chance(0.9) * (of_cavity * dice.between(0.95, 1.5) + dice.between(0.0, 0.05) - of_wall).clamp_min(0.0)
    grey, of_wall = grey + lift * _soft(wall), of_wall + lift
    diastolic, systolic = dice.between(-0.35, 0.35), dice.between(-0.1, 0.7)
    start = diastolic + (systolic - diastolic) * moments.clamp(0, 1) + 0.18 * dice.smooth(5)
    tissue = torch.sigmoid((depth - start) / dice.between(0.03, 0.22))
    # A grey layer beside a black cavity is not black itself.
    dimmed = dice.chance(0.8) * dice.between(0.05, 0.95) * (0.55 + 0.45 * (of_cavity / 0.15).clamp(0.0, 1.0))
    layer = torch.lerp(grey, of_cavity, dimmed * (1.0 - tissue) * wall)
    # Trabeculae: ridges of tissue inside the outline, fewer and thinner when the ventricle is empty.
    ridge = dice.chance(0.6) * dice.between(0.2, 1.0) * (dice.smooth(24) > dice.between(-0.8, 1.2))
    layer = torch.lerp(layer, of_wall * dice.between(0.6, 1.3), ridge * tissue * lv)
    # A bright epicardium along part of the wall, and a faint endocardium.
    along = dice.chance(0.7) * dice.between(0.0, 0.65) * torch.sigmoid(3.0 * (dice.smooth(4) + dice.between(-0.6, 0.8)))
    layer = layer + along * _bell(((depth - dice.between(0.85, 1.35)) / dice.between(0.08, 0.3)).square())
    faint = dice.chance(0.3) * dice.between(0.0, 0.25) * torch.sigmoid(3.0 * dice.smooth(5))
    return layer + faint * _bell(((depth - dice.between(-0.05, 0.12)) * 10.0).square())


def _beams(grey: Tensor, radius: Tensor, angle: Tensor, dice: Dice) -> Tensor:
    """Vary the tissue between probe and heart: gain along the depth and across, lost sides, shadows, haze, reverberations."""
    slope = dice.smooth(3)[:, :, :, :1] * 0.35 * dice.between(0.0, 1.0)
    gain = torch.exp(slope + dice.between(-0.5, 0.5) * (radius - 0.5))
    gain = gain * torch.exp(0.35 * dice.between(0.0, 1.0) * dice.smooth(4))
    for share in (0.65, 0.4, 0.25):
        # The lateral wall runs along the beam and is lost first.
        at = torch.where(dice.chance(0.65) > 0, dice.between(0.05, 0.7), dice.between(-0.7, 0.1))
        lost = dice.chance(share) * dice.between(0.2, 1.0) * _bell(((angle - at) / dice.between(0.06, 0.3)).square())
        gain = gain * (1.0 - lost * torch.sigmoid((radius - dice.between(0.0, 0.5)) * 20.0))
    gain = gain * (1.0 - dice.between(0.0, 0.7) * dice.chance(0.5) * (angle / 0.75).square().clamp(0, 1).square())
    near = dice.chance(0.35) * dice.between(0.3, 0.95) * _bell((radius / dice.between(0.08, 0.3)).square())
    grey = grey * gain * (1.0 - near)
    haze = dice.chance(0.6) * dice.between(0.0, 0.6) * _bell(radius / dice.between(0.05, 0.22))
    veil = dice.chance(0.5) * dice.between(0.0, 0.28) * torch.sigmoid(1.5 * dice.smooth(4))
    arc = dice.chance(0.2) * dice.between(0.1, 0.5) * _bell(((radius - dice.between(0.08, 0.5)) / 0.012).square())
    arc = arc * _bell(((angle - dice.between(-0.5, 0.5)) / dice.between(0.08, 0.4)).square())
    floor = dice.chance(0.25) * dice.between(0.1, 0.7) * _bell(((radius - dice.between(0.85, 1.0)) / 0.05).square())
    return grey + haze + veil + arc + floor


def _strokes(dice: Dice, frames: int) -> Tensor:
    """(B, T, 128, 128) bright strokes that are no wall: chords, leads, calcium; they move a little from frame to frame."""
    row, column = dice.row, dice.column
    total = torch.zeros(dice.count, frames, dice.side, dice.side)
    for share, longest, widest in ((0.45, 10.0, 1.6), (0.3, 26.0, 1.2), (0.3, 5.0, 3.0)):
        y, x, turn = dice.between(20.0, 110.0), dice.between(28.0, 100.0), dice.between(0.0, math.pi)
        move = 0.8 * dice.normal(frames, 1, 1)
        dy, dx = row - y - move, column - x - move
        along, beside = dy * torch.sin(turn) + dx * torch.cos(turn), dy * torch.cos(turn) - dx * torch.sin(turn)
        beside = beside + 0.015 * dice.normal() * along.square()
        length, width = dice.between(1.0, longest), dice.between(0.6, widest)
        ink = _bell((beside / width).square() + (along / length).square().square())
        total = torch.maximum(total, ink * dice.chance(share) * dice.between(0.15, 0.8))
    return total


def _grain(grey: Tensor, blood: Tensor, radius: Tensor, angle: Tensor, bank: Tensor, dice: Dice) -> Tensor:
    """The pictures with speckle: one field that stays with the tissue, one of each frame in the blood."""
    pick = torch.randint(0, _FIELDS, (dice.count,), generator=dice.generator)
    other = torch.randint(0, _FIELDS, (dice.count, grey.shape[1]), generator=dice.generator) // 4 * 4
    near = (pick[:, None] + other % 7 - 3).clamp(0, _FIELDS - 1)
    fields = torch.cat([bank[pick][:, None], bank[near]], 1)
    fields = torch.roll(fields, [int(v) for v in torch.randint(0, _POLAR, (2,), generator=dice.generator)], (2, 3))
    zoom = dice.between(0.75, 1.25)
    grid = torch.cat([(angle / 0.9 * zoom).clamp(-1, 1), (2.0 * radius * zoom - 1.0).clamp(-1, 1)], 1).permute(0, 2, 3, 1)
    grain = F.grid_sample(fields, grid, mode="bilinear", align_corners=True)
    still, fresh = grain[:, :1], grain[:, 1:]
    stays = dice.between(0.3, 1.0)
    mixed = fresh + (1.0 - blood) * stays * (still - fresh)
    amount = dice.between(0.0, 1.0) * dice.chance(0.88) / dice.between(38.0, 62.0)
    # Dark places have less of it: their grey is near the floor.
    return grey + amount * mixed * (0.25 + 0.75 * (grey / 0.15).clamp(0.0, 1.0))


def _exposed(grey: Tensor, shown: Tensor, dice: Dice) -> Tensor:
    """The pictures with a mean grey that an examiner would accept."""
    mean = _mean_within(grey.clamp(0.0, 1.0), shown.expand_as(grey)).clamp_min(0.01)
    wanted = dice.between(0.08, 0.42)
    return (grey * (wanted / mean).clamp(0.35, 3.0).pow(0.8)).clamp(0.0, 1.0)


def _processed(pictures: Tensor, dice: Dice) -> Tensor:
    """Smoothing, sharpening, coarser pixels and grey curves, a kind for each heart."""
    kind = torch.randint(0, 8, (dice.count,), generator=dice.generator)
    out = pictures.clone()
    for index in range(dice.count):
        one, chosen = pictures[index][:, None], int(kind[index])
        amount = float(torch.rand(1, generator=dice.generator))
        if chosen in (0, 1):
            one = _blur(one, 0.35 + 0.9 * amount, 0.35 + 0.9 * amount)
        elif chosen == 2:
            smooth = _blur(one, 0.9, 0.9)
            one = one + (0.3 + 1.0 * amount) * (one - smooth)
        elif chosen in (3, 4):
            small_side = int((0.5 + 0.4 * amount) * dice.side)
            small = F.interpolate(one, size=(small_side, small_side), mode="area" if chosen == 3 else "bilinear")
            one = F.interpolate(small, size=(dice.side, dice.side), mode="bilinear", align_corners=False)
        elif chosen == 5:
            one = _blur(one, 0.3 + 0.5 * amount, 0.5 + 1.3 * amount)
        out[index] = one[:, 0]
    out = out.clamp(0.0, 1.0).pow(torch.exp(0.25 * dice.normal())) * dice.between(0.65, 1.3) + dice.between(-0.06, 0.05)
    levels = torch.where(dice.chance(0.15) > 0, dice.between(12.0, 40.0).round(), torch.full((1,), 255.0))
    out = (out.clamp(0.0, 1.0) * levels).round() / levels
    return _blocks(out, dice)


def _blocks(pictures: Tensor, dice: Dice) -> Tensor:
    """Now and then 8 x 8 blocks from which compression took the fine cosines."""
    if float(torch.rand(1, generator=dice.generator)) > 0.3:
        return pictures
    index = torch.arange(8, dtype=torch.float32)
    cosines = torch.cos(math.pi * (2 * index[None] + 1) * index[:, None] / 16) * 0.5
    cosines[0] *= 2**-0.5
    parts = pictures.reshape(dice.count, -1, dice.side // 8, 8, dice.side // 8, 8).permute(0, 1, 2, 4, 3, 5)
    step = dice.between(0.02, 0.14).reshape(-1, 1, 1, 1, 1, 1) * (1.0 + 0.25 * (index[:, None] + index[None]))
    coded = cosines @ parts @ cosines.T
    coded = torch.where(step > 0, (coded / step).round() * step, coded)
    blocks = (cosines.T @ coded @ cosines).permute(0, 1, 2, 4, 3, 5).reshape(pictures.shape)
    return torch.lerp(pictures, blocks, dice.chance(0.4)).clamp(0.0, 1.0)


def _marks(pictures: Tensor, shown: Tensor, dice: Dice) -> Tensor:
    """Scales, text and lines beside the fan, rarely over its edge."""
    row, column = dice.row, dice.column
    pitch = dice.between(5.0, 14.0)
    ticks = ((row % pitch) < 1.0) & ((column - dice.between(2.0, 126.0)).abs() < dice.between(0.6, 2.5))
    coarse = torch.rand(dice.count, 1, 26, 40, generator=dice.generator)
    letters = F.interpolate((coarse > 0.55).float(), size=(dice.side, dice.side), mode="nearest")
    at_row, at_column = dice.between(0.0, 124.0), dice.between(-10.0, 100.0)
    box = ((row - at_row) > 0) & ((row - at_row) < dice.between(4.0, 14.0))
    box = box & ((column - at_column) > 0) & ((column - at_column) < dice.between(12.0, 40.0))
    ink = torch.maximum(ticks.float() * dice.chance(0.12), letters * box * dice.chance(0.12)) * dice.between(0.3, 1.0)
    return torch.maximum(pictures, ink * (1.0 - shown * dice.chance(0.7)))


def vary_maps(maps: Tensor, moments: Tensor, bank: Tensor, generator: torch.Generator, side: int = IMAGE_SIZE) -> Pictures:
    """Pictures of hearts.

    maps: (B, 3 maps, T, MAP_SIZE, MAP_SIZE) uint8 labels, levels, depths; moments: (B, T) contraction; T 3, or 1 for hearts that
    stand still, as in a photograph; bank: of speckle; side: of the pictures in pixels, a multiple of 8.
    """
    dice = Dice(len(maps), generator, side)
    frames, moments = maps.shape[2], moments[:, :, None, None]
    grid = _place(dice)
    labels = F.grid_sample(maps[:, 0].float(), grid, mode="nearest", align_corners=True).long()
    rest = maps[:, 1:].reshape(-1, 2 * frames, MAP_SIZE, MAP_SIZE).float() * (1.0 / 255.0)
    rest = F.grid_sample(rest, grid, padding_mode="border", align_corners=True)
    radius, angle, shown = _sector(dice)
    shown = shown * (grid.abs() <= 1.0).all(-1)[:, None].float()
    grey = _tissue(labels, rest[:, :frames], rest[:, frames:], moments, dice)
    grey = _beams(grey, radius, angle, dice)
    grey = torch.maximum(grey, _strokes(dice, frames))
    blood = ((labels != STRUCTURES["background"]) & (labels != STRUCTURES["myocardium"])).float()
    grey = _grain(grey, blood, radius, angle, bank, dice)
    grey = _exposed(grey, shown, dice)
    pictures = _marks(_processed(grey, dice) * shown, shown, dice).clamp(0.0, 1.0)
    return Pictures(pictures.expand(-1, FRAMES, -1, -1), labels[:, frames // 2] * shown[:, 0].long())


def vary_pictures(
    frames: Tensor, structure: Tensor, labels: Tensor, generator: torch.Generator, side: int = IMAGE_SIZE
) -> Pictures:
    """The phantom's own pictures with another amount of speckle, gain and place.

    frames, structure: (B, 3, 128, 128) uint8 with speckle and without; labels: (B, 128, 128) uint8. side: of the result.
    """
    dice = Dice(len(frames), generator, side)
    speckled, plain = frames.float() / 255.0, structure.float() / 255.0
    pictures = plain + dice.between(0.0, 1.3) * (speckled - plain)
    pictures = pictures.clamp(0.0, 1.0).pow(dice.between(0.75, 1.35)) * dice.between(0.8, 1.2)
    pictures = torch.where(dice.chance(0.25) > 0, _soft(pictures), pictures)
    shift = [int(v) for v in torch.randint(-4, 5, (2,), generator=generator)]
    pictures, labels = torch.roll(pictures, shift, (2, 3)), torch.roll(labels, shift, (1, 2))
    if side != IMAGE_SIZE:
        pictures = F.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
        labels = F.interpolate(labels[:, None].float(), size=(side, side), mode="nearest-exact")[:, 0]
    return Pictures(pictures.clamp(0.0, 1.0), labels.long())
