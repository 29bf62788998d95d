"""Manners in which echo machines draw an ECG into their pictures, and pictures without one."""

from __future__ import annotations

from dataclasses import dataclass, field

Colour = tuple[int, int, int]

GREEN, YELLOW, CYAN, WHITE, ORANGE = (60, 230, 90), (240, 220, 50), (40, 210, 230), (235, 235, 235), (250, 140, 30)


@dataclass(frozen=True)
class Style:
    """Manner in which a machine draws an ECG into its pictures.

    name: in tables.
    mode: scroll, sweep (the old trace is erased by a bar) or static (with a marker).
    colour: of the trace, RGB.
    shows: ecg, respiration, pulse, flat, noise, volume, velocity (of a wall), scale (with ticks), menu, bars, doppler or nothing.
    marker: of a static trace: line, dot, triangle or none.
    marker_colour: RGB.
    width, height: of the picture in pixels.
    columns, rows: that the trace takes up, as shares of the picture.
    sweep_s: time in s that the width of the trace stands for.
    thick: width of the line in pixels.
    smooth: whether the line is antialiased.
    gap: width of the erase bar of a sweep in pixels.
    bar: whether the erase bar is drawn.
    grid, ticks, text: whether there is a grid behind the trace, a tick at each R peak, text beside the trace.
    upside_down: whether R peaks point down.
    jpeg: quality with which each picture is packed, or None.
    grey: whether the picture is stored without colour.
    every: number of frames of which one is stored.
    stored: size (width, height) to which the finished picture is reduced, or None.
    also: respiration (a second curve), doppler, tint (of the sector), repeats (of frames).
    """

    name: str
    mode: str = "static"
    colour: Colour = GREEN
    shows: str = "ecg"
    marker: str = "line"
    marker_colour: Colour = WHITE
    width: int = 400
    height: int = 300
    columns: tuple[float, float] = (0.05, 0.95)
    rows: tuple[float, float] = (0.86, 0.98)
    sweep_s: float = 4.0
    thick: float = 1.5
    smooth: bool = True
    gap: int = 12
    bar: bool = False
    grid: bool = False
    ticks: bool = False
    text: bool = False
    upside_down: bool = False
    jpeg: int | None = None
    grey: bool = False
    every: int = 1
    stored: tuple[int, int] | None = None
    also: tuple[str, ...] = field(default=())


#: Manners of drawing an ECG.
STYLES = (
    Style("scrolling, green", "scroll"),
    Style("scrolling, thin yellow, low resolution", "scroll", YELLOW, width=320, height=240, thick=1.0, smooth=False),
    Style("scrolling, over a grid, 640 x 480", "scroll", CYAN, grid=True, width=640, height=480, sweep_s=5.0),
    Style("sweep with a gap, green, text beside", "sweep", text=True, columns=(0.05, 0.80), sweep_s=3.0),
    Style("sweep behind a bar, cyan", "sweep", CYAN, gap=3, bar=True, sweep_s=3.5),
    Style("sweep, thick, strong JPEG", "sweep", YELLOW, thick=3.0, jpeg=70, sweep_s=2.5),
    Style("static with a line, yellow, R ticks", "static", YELLOW, ticks=True),
    Style("static with a dot, green", "static", marker="dot", marker_colour=ORANGE),
    Style("static with a line of its own colour", "static", CYAN, marker_colour=CYAN),
    Style("static with a triangle, thin, grid and text", marker="triangle", grid=True, text=True, thick=1.0, columns=(0.05, 0.8)),
    Style("static, JPEG, low resolution", colour=GREEN, width=320, height=240, jpeg=80, thick=1.0),
    Style("static, over the sector's edge", colour=YELLOW, rows=(0.66, 0.80)),
    Style("sweep, over the sector's edge", "sweep", GREEN, rows=(0.66, 0.80), sweep_s=3.0),
    Style("scrolling, over the sector's edge, JPEG", "scroll", CYAN, rows=(0.66, 0.80), jpeg=85),
    Style("static, white on grey", colour=WHITE, marker_colour=(150, 150, 150), grey=True, rows=(0.88, 0.99)),
    Style("sweep, with a respiration curve above", "sweep", GREEN, rows=(0.88, 0.99), sweep_s=3.0, also=("respiration",)),
    Style("static, 16 fps", colour=GREEN, every=2),
    Style("sweep, drawn at 640 x 480, stored at 320 x 240, JPEG", "sweep", width=640, height=480, stored=(320, 240), jpeg=75),
    Style("static, yellow over a tinted sector", colour=YELLOW, rows=(0.66, 0.80), also=("tint",)),
    Style("scrolling, with colour Doppler", "scroll", YELLOW, also=("doppler",)),
    Style("sweep, every eighth frame repeated", "sweep", CYAN, sweep_s=3.0, also=("repeats",)),
    Style("static, upside down", colour=GREEN, upside_down=True),
)
#: Pictures in which no ECG is drawn.
NOT_AN_ECG = (
    Style("no trace", shows="nothing"),
    Style("no trace, text and menu", shows="menu"),
    Style("static trace without a marker", marker="none"),
    Style("static trace over the sector without a marker", marker="none", rows=(0.66, 0.80)),
    Style("respiration, scrolling", "scroll", shows="respiration"),
    Style("respiration, static with a line", "static", YELLOW, shows="respiration"),
    Style("arterial pulse, sweep", "sweep", ORANGE, shows="pulse"),
    Style("colour bars", shows="bars"),
    Style("colour Doppler", shows="doppler"),
    Style("flat line, sweep", "sweep", shows="flat"),
    Style("noise, scrolling", "scroll", shows="noise"),
    Style("volume curve, static with a line", "static", YELLOW, shows="volume"),
    Style("wall velocity, static with a line", "static", GREEN, shows="velocity"),
    Style("scale with ticks, static with a line", "static", CYAN, shows="scale"),
    Style("volume curve, sweep", "sweep", GREEN, shows="volume", rows=(0.75, 0.98)),
)
