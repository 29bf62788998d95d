"""Finding the sector (the fan) in an echo picture and bringing it into the generator's geometry."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial import ConvexHull, QhullError

from echogen.arrays import ByteArray, Floats, Mask
from echogen.errors import InputError

#: The canonical picture: `CANONICAL_SIZE` rows and columns, apex in this row of the middle column, and this radius.
CANONICAL_SIZE = 128
CANONICAL_APEX_ROW = 6
CANONICAL_RADIUS = 112

_NO_ECHO = (
    "This picture does not look like an echocardiogram: there is no bright sector with its tip at the top on a dark surround."
)
_FITTING_SIZE = 256
_MOST_FRAMES = 64
#: Rows and columns down to which a hull is made smaller before a fan is fitted to it.
_LEAST_FITTED = 48
#: Fans that are tried, from the hull's own shape and near a known fan.
_TRIALS, _TRIALS_NEAR = 300, 40
_LIT_ABOVE_BACKGROUND = 3.0
_MOVING = 0.6
#: Compression rings around what is bright, up to this share of it.
_HALO = 0.05
#: Shares of the usual threshold of what is lit, tried in turn: in a single frame much of a sector may be dim.
_LIT_SHARES = (1.0, 0.5, 0.25)
#: Lines, marks and letters thinner than half of this many pixels are taken off before anything is looked for.
_THIN = 5
#: Least overlap of a fan with what is lit; fans that open wider than this, in radians, are taken only if they fit as exactly as
#: no round picture with dark corners does.
_LEAST_OVERLAP, _WIDE, _LEAST_OVERLAP_WIDE = 0.80, 1.85, 0.93
#: Share of a fan's opening on each side in which its arc is looked for, and least radius of the arc as a share of the fan's.
_INNER, _LEAST_ARC = 0.8, 0.6
#: Lit share of a ring inside the arc at least and just below it at most, and how many pixels lie between the two.
_FILLED, _DARK, _AT_ARC = 0.6, 0.25, 5
#: Widest tip of a fan, as a share of its whole width, in a whole picture and in one that was zoomed into.
_WIDEST_TIP, _WIDEST_TIP_ZOOMED = 0.45, 0.60
#: Links thinner than so many pixels are always cut between the fan and what is beside it.
_THIN_LINK = 5
#: Narrowest and widest opening of a fan, both sides together, in radians.
_NARROWEST, _WIDEST = 0.5, 2.2


@dataclass(frozen=True)
class Sector:
    """A fan in pixels of its picture: apex (row, column), radius, and how far it opens to the left and right in radians."""

    apex_row: float
    apex_column: float
    radius: float
    left: float
    right: float

    def inside(self, height: int, width: int, margin: float = 0.0) -> Mask:
        """(height, width) True within `margin` pixels of the fan."""
        return _signed_depth(self, height, width) > -margin


@dataclass(frozen=True)
class CanonicalView:
    """Place of the canonical picture of a sector in a recorded picture.

    box: Left, top, right and bottom of the canonical picture, in pixels of the recorded one; it may reach outside.
    inside: (size, size) True in the fan.
    """

    box: tuple[float, float, float, float]
    inside: Mask

    @property
    def factor(self) -> float:
        """Pixels of the recorded picture per pixel of the canonical one, by which mm per pixel grow."""
        return (self.box[2] - self.box[0]) / len(self.inside)

    def frames(self, frames: ByteArray) -> ByteArray:
        """Bring pictures (..., height, width) uint8 into the canonical picture (..., size, size), black outside the fan."""
        pictures = np.asarray(frames)
        resized = _resample(pictures.reshape(-1, *pictures.shape[-2:]), self.box, len(self.inside))
        return (resized * self.inside).reshape(*pictures.shape[:-2], *self.inside.shape)

    def masks(self, masks: ByteArray) -> ByteArray:
        """Bring ids (..., height, width) uint8 to (..., size, size), each that of the nearest pixel; 0 outside the fan."""
        ids = np.asarray(masks)
        centres = (np.arange(len(self.inside)) + 0.5) * self.factor
        rows, columns = (np.floor(start + centres).astype(int) for start in (self.box[1], self.box[0]))
        height, width = ids.shape[-2:]
        there = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
        taken = ids[..., np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
        return taken * (there & self.inside)

    def recorded_masks(self, masks: ByteArray, height: int, width: int) -> ByteArray:
        """Bring ids (..., size, size) of the canonical picture back to the recorded one, (..., height, width); 0 outside."""
        size = len(self.inside)
        rows = np.floor((np.arange(height) + 0.5 - self.box[1]) / self.factor).astype(int)
        columns = np.floor((np.arange(width) + 0.5 - self.box[0]) / self.factor).astype(int)
        there = ((rows >= 0) & (rows < size))[:, None] & ((columns >= 0) & (columns < size))[None]
        ids = np.asarray(masks)[..., np.clip(rows, 0, size - 1)[:, None], np.clip(columns, 0, size - 1)]
        return ids * there


def canonical_view(frames: ByteArray, size: int = CANONICAL_SIZE) -> CanonicalView:
    """Find the canonical picture of `size` pixels in an echo picture or cine (..., height, width) uint8, one sector for all.

    The apex comes to row 6/128 of the middle column, the radius is 112/128 of the rows, the scale is equal in both directions.
    A sector wider than the canonical picture loses its sides. A square picture that has the canonical geometry already keeps it.
    Raises `InputError` for a picture that shows no sector.
    """
    pictures = np.asarray(frames)
    if pictures.ndim < 2 or pictures.dtype != np.uint8 or 0 in pictures.shape:
        raise InputError("A sector is looked for in 8-bit grey pictures (uint8, height x width) only.")
    height, width = pictures.shape[-2:]
    stack = pictures.reshape(-1, height, width)
    unit = size / CANONICAL_SIZE
    target = Sector(CANONICAL_APEX_ROW * unit, size / 2, CANONICAL_RADIUS * unit, np.pi / 2, np.pi / 2)
    if height == width and _is_canonical(stack):
        return CanonicalView((0.0, 0.0, float(width), float(width)), target.inside(size, size, margin=2.0 * unit))
    sector = find_sector(stack)
    factor = sector.radius / target.radius
    left = sector.apex_column - target.apex_column * factor
    top = sector.apex_row - target.apex_row * factor
    opened = Sector(target.apex_row, target.apex_column, target.radius, sector.left, sector.right)
    return CanonicalView((left, top, left + size * factor, top + size * factor), opened.inside(size, size, margin=1.0 * unit))


def to_sector(frames: ByteArray, size: int = CANONICAL_SIZE) -> tuple[ByteArray, float]:
    """Crop an echo picture (..., height, width) uint8 to its sector and resize it into the canonical geometry.

    Returns uint8 (..., size, size), and the factor by which mm per pixel grows; see `canonical_view`, which raises `InputError`
    for a picture that shows no sector.
    """
    view = canonical_view(frames, size)
    return view.frames(frames), view.factor


def resize_canonical(frames: ByteArray, size: int = CANONICAL_SIZE) -> ByteArray:
    """Resize frames (T, N, N) that have the canonical geometry already, such as generated ones, to (T, size, size)."""
    side = float(frames.shape[-1])
    return frames if side == size else _resample(frames, (0.0, 0.0, side, side), size)


def find_sector(frames: ByteArray) -> Sector:
    """The sector of an echo picture or cine: the fan that fits its largest connected lit (in a cine: and moving) part best.

    frames: uint8 (..., height, width). Text, menus, rulers and colour bars beside the fan are ignored.
    Raises `InputError` for a picture that shows no fan with its tip at the top.
    """
    stack = np.asarray(frames).reshape(-1, *np.shape(frames)[-2:])
    height, width = stack.shape[-2:]
    step = max(height, width) / _FITTING_SIZE
    small_size = (max(8, round(width / step)), max(8, round(height / step)))
    chosen = stack[np.unique(np.linspace(0, len(stack) - 1, _MOST_FRAMES).astype(int))]
    small = np.stack([np.asarray(Image.fromarray(f).resize(small_size, Image.Resampling.BOX), dtype=np.float32) for f in chosen])
    for share in _LIT_SHARES:
        part = _largest_part(*_lit(small, share))
        hull = _hull(part)
        fitted = _fit(hull) if _may_be_fan(part, hull) else None
        if fitted is not None and _fits(fitted, hull):
            break
    else:
        raise InputError(_NO_ECHO)
    within = _without_panel(part, fitted)
    if within is not None:
        part, hull = within, _hull(within)
        fitted = _fit(hull)
    fitted = _opened_to(_fitted(hull, near=fitted), part)
    along_rows, along_columns = height / small_size[1], width / small_size[0]
    return Sector(
        (fitted.apex_row + 0.5) * along_rows,
        (fitted.apex_column + 0.5) * along_columns,
        fitted.radius * (along_rows + along_columns) / 2,
        fitted.left,
        fitted.right,
    )


def _lit(small: NDArray[np.float32], share: float) -> tuple[Mask, Mask]:
    """The lit (and moving) pixels, smoothed so that speckle hangs together, and sharp; share: of the usual threshold."""
    brightest = ndimage.median_filter(small.max(axis=0), _THIN)
    dark, bright = np.percentile(brightest, (2, 95))
    threshold = dark + share * max(_LIT_ABOVE_BACKGROUND, _HALO * (bright - dark))
    smooth, sharp = ndimage.gaussian_filter(brightest, 1.2) > threshold, brightest > threshold
    if len(small) > 1:
        moving = ndimage.gaussian_filter(ndimage.median_filter(small.std(axis=0), _THIN), 1.5) > _MOVING
        # A still repeated, or a fan of which only a small part moves, is found by its brightness.
        if (smooth & moving).sum() > 0.4 * smooth.sum():
            return smooth & moving, sharp & moving
    return smooth, sharp


def _largest_part(smooth: Mask, sharp: Mask) -> Mask:
    """The largest connected part of the smooth mask, with the edges of the sharp one.

    Links (rulers, traces, text) between the fan and what stands beside it are cut if they are thinner than `_THIN_LINK` pixels.
    """
    labels, count = ndimage.label(ndimage.binary_opening(smooth, structure=np.ones((_THIN_LINK, _THIN_LINK))))
    if count == 0:
        raise InputError(_NO_ECHO)
    largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    part = np.asarray(labels == largest)
    return part & sharp if (part & sharp).sum() > 0.3 * part.sum() else part


def _hull(part: Mask) -> Mask:
    rows, columns = np.nonzero(part)
    try:
        hull = ConvexHull(np.stack([rows, columns], axis=1))
    except QhullError as error:
        raise InputError(_NO_ECHO) from error
    grid_rows, grid_columns = np.indices(part.shape)
    inside = np.ones(part.shape, dtype=bool)
    for along_row, along_column, offset in hull.equations:
        inside &= along_row * grid_rows + along_column * grid_columns + offset <= 1e-6
    return inside


def _signed_depth(sector: Sector, height: int, width: int) -> Floats:
    """Distance in pixels from the nearest edge of the fan, positive inside."""
    down = np.arange(height)[:, None] + 0.5 - sector.apex_row
    across = np.arange(width)[None, :] + 0.5 - sector.apex_column
    from_left = across * np.cos(sector.left) + down * np.sin(sector.left)
    from_right = -across * np.cos(sector.right) + down * np.sin(sector.right)
    from_arc = sector.radius - np.hypot(down, across)
    return np.asarray(np.minimum(np.minimum(from_left, from_right), from_arc))


def _fits(sector: Sector, hull: Mask) -> bool:
    """True for a fan that opens as those of echo machines do and covers a hull well."""
    opening = sector.left + sector.right
    least = _LEAST_OVERLAP if opening < _WIDE else _LEAST_OVERLAP_WIDE
    return _NARROWEST < opening < _WIDEST and _overlap(sector, hull) >= least


def _overlap(sector: Sector, hull: Mask | Floats) -> float:
    """Intersection over union of the fan (with edges that are one pixel soft) and a mask."""
    fan = np.clip(_signed_depth(sector, *hull.shape) + 0.5, 0.0, 1.0)
    both = float((fan * hull).sum())
    return both / (float(fan.sum()) + float(hull.sum()) - both)


def _fit(hull: Mask) -> Sector:
    """The fan that overlaps a hull best, to a pixel or two: a large hull is fitted at half its size, in a quarter of the time."""
    if min(hull.shape) < 2 * _LEAST_FITTED:
        return _fitted(hull)
    height, width = hull.shape[0] // 2, hull.shape[1] // 2
    quarters = hull[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    half = _fitted(quarters.mean(axis=(1, 3)))
    return replace(half, apex_row=2 * half.apex_row, apex_column=2 * half.apex_column, radius=2 * half.radius)


def _fitted(hull: Mask | Floats, near: Sector | None = None) -> Sector:
    """The fan that overlaps a hull (whole or in shares of pixels) best, searched for from the hull's own shape or near a fan."""
    rows, columns = np.nonzero(hull >= 0.5)
    top, bottom = float(rows.min()), float(rows.max()) + 1
    tall = bottom - top
    wide = float(columns.max() - columns.min() + 1)

    def sector(v: Floats) -> Sector:
        row, column, radius, left, right = (float(value) for value in v)
        return Sector(row * tall, column * tall, radius * tall, left, right)

    def loss(v: Floats) -> float:
        # The tip lies in the picture's own fan, a little above its first lit row at most.
        above = max(0.0, top / tall - 0.10 - v[0])
        angles = sum(max(0.0, 0.15 - a) + max(0.0, a - _WIDEST / 2.0) for a in v[3:])
        # Fans are symmetric unless steered; a side that fades out is not a narrow one.
        return -_overlap(sector(v), hull) + 10.0 * (above + angles) + 0.5 * float(v[3] - v[4]) ** 2

    middle = float(columns[rows < top + 0.1 * tall].mean())
    opening = float(np.clip(np.arcsin(np.clip(0.5 * wide / tall, 0, 1)), 0.35, 0.9))
    start = np.array([top / tall, middle / tall, 1.0, opening, opening])
    steps, most = np.array([-0.05, 0.06, 0.05, 0.12, 0.12]), _TRIALS
    if near is not None:
        start = np.array([near.apex_row / tall, near.apex_column / tall, near.radius / tall, near.left, near.right])
        steps, most = steps / 5, _TRIALS_NEAR
    options = {"initial_simplex": np.vstack([start, start + np.diag(steps)]), "maxfev": most, "xatol": 1e-3, "fatol": 1e-4}
    return sector(minimize(loss, start, method="Nelder-Mead", options=options).x)


def _opened_to(fan: Sector, part: Mask) -> Sector:
    """The fan opened to the angles that its lit part reaches, so that nothing seen is cut off."""
    rows, columns = np.nonzero(part)
    down, across = rows + 0.5 - fan.apex_row, columns + 0.5 - fan.apex_column
    angle = np.arctan2(across, down)[np.hypot(down, across) > 0.3 * fan.radius]
    widest_left, widest_right = np.clip(np.quantile(angle, (0.001, 0.999)), -1.0, 1.0)
    return replace(fan, left=max(fan.left, -float(widest_left)), right=max(fan.right, float(widest_right)))


def _without_panel(part: Mask, fan: Sector) -> Mask | None:
    """The lit part without a panel, such as that of an ECG, below the fan's arc; None where there is none.

    Rings around the tip are lit for the most part inside the true arc, dark just below it, and lit again where the panel is.
    """
    rows, columns = np.indices(part.shape)
    down, across = rows + 0.5 - fan.apex_row, columns + 0.5 - fan.apex_column
    angle, distance = np.arctan2(across, down), np.hypot(down, across)
    inner = (angle > -_INNER * fan.left) & (angle < _INNER * fan.right) & (distance < fan.radius + 1)
    ring = distance[inner].astype(int)
    lit = np.bincount(ring, weights=part[inner]) / np.maximum(np.bincount(ring), 1)
    for radius in range(int(_LEAST_ARC * fan.radius), len(lit) - 1):
        if lit[radius] < _DARK and lit[radius - _AT_ARC] > _FILLED and lit[radius + 1 :].max() > lit[radius] + 0.1:
            return part & (distance < radius)
    return None


def _may_be_fan(part: Mask, hull: Mask) -> bool:
    """True for a part that is large and filled, and narrow at its top."""
    rows, columns = np.nonzero(hull)
    tall = int(rows.max() - rows.min()) + 1
    wide = int(columns.max() - columns.min()) + 1
    tip = int(np.ptp(columns[rows < rows.min() + max(1, round(0.04 * tall))])) + 1
    # A picture that was zoomed into shows the fan without its tip, cut by the upper edge, and fills the other three sides.
    height, width = hull.shape
    zoomed = tall > 0.95 * height and wide > 0.98 * width
    widest_tip = _WIDEST_TIP_ZOOMED if zoomed else _WIDEST_TIP
    return bool(hull.mean() > 0.06 and part.sum() > 0.4 * hull.sum() and tip < widest_tip * wide)


def _is_canonical(stack: ByteArray) -> bool:
    """True where a square picture's lit part is the canonical fan: nothing beside it, filled, and reaching its radius."""
    chosen = stack[np.unique(np.linspace(0, len(stack) - 1, _MOST_FRAMES).astype(int))]
    brightest = chosen.max(axis=0).astype(np.float64)
    lit = ndimage.gaussian_filter(brightest, 0.6) > np.percentile(brightest, 2) + _LIT_ABOVE_BACKGROUND
    side = lit.shape[0]
    unit = side / CANONICAL_SIZE
    down = (np.arange(side)[:, None] + 0.5) / unit - CANONICAL_APEX_ROW
    across = (np.arange(side)[None, :] + 0.5) / unit - CANONICAL_SIZE / 2
    radius, angle = np.hypot(down, across), np.abs(np.arctan2(across, down))
    fan = (radius < CANONICAL_RADIUS) & (angle < 0.45)
    beside = (angle > 1.0) & (radius > 8)
    if not lit.any() or lit[fan].mean() < 0.25 or lit[beside].mean() > 0.01 or lit[radius > CANONICAL_RADIUS + 2].mean() > 0.01:
        return False
    reach = float(np.percentile(radius[lit], 99))
    return CANONICAL_RADIUS - 7 < reach < CANONICAL_RADIUS + 2 and bool(lit[(radius < 16) & (angle < 0.5)].mean() > 0.1)


def _resample(stack: ByteArray, box: tuple[float, float, float, float], size: int) -> ByteArray:
    """Cut box (left, top, right, bottom, in pixels; may reach outside) from every picture and resize it, antialiased."""
    height, width = stack.shape[-2:]
    before_columns, before_rows = max(0, int(np.ceil(-box[0]))), max(0, int(np.ceil(-box[1])))
    after_columns, after_rows = max(0, int(np.ceil(box[2] - width))), max(0, int(np.ceil(box[3] - height)))
    shifted = (box[0] + before_columns, box[1] + before_rows, box[2] + before_columns, box[3] + before_rows)
    out = np.empty((len(stack), size, size), dtype=np.uint8)
    for index, picture in enumerate(stack):
        padded = np.pad(picture, ((before_rows, after_rows), (before_columns, after_columns)))
        out[index] = np.asarray(Image.fromarray(padded).resize((size, size), Image.Resampling.BICUBIC, box=shifted))
    return out
