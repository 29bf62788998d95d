"""The protocols and the figures of the papers' tables on public data sets, as data.

Figures have the names that `metrics.evaluation.METRICS` gives them. What a paper does not state, and what is taken instead, is
in `unstated`. ECHOPulse: ICLR 2025, tables 1, 2, 3, 6 and 7, and its public evaluation scripts; EchoDiffusion: MICCAI 2023,
tables 1 and 2, and its public code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ECHONET, CAMUS, PRIVATE = "echonet-dynamic", "camus", "private data"


@dataclass(frozen=True)
class Cut:
    """Part of a clip that is judged: its first `frames` at `fps` (None: its own rate), made `size` x `size` pixels.

    border: black is added around to this many pixels a side. fill: a shorter clip goes on in black frames.
    """

    frames: int
    fps: float | None
    size: int
    border: int | None = None
    fill: bool = False


@dataclass(frozen=True)
class Protocol:
    """Protocol by which the rows of a table are made.

    split, view: of the data set. task: "reconstruction", "generation" (the EF of the real clip is asked for) or "counterfactual"
    (a random EF of 15..85 %). clips: how many the paper judges, None where it does not say. metrics: see METRICS. cut,
    published_cut: as the paper has it, and as its script has it. published: metrics that the script replaces, by name.
    samples: videos for each real clip; the paper keeps the best. round_trips: what pictures go through in the script.
    """

    name: str
    table: str
    dataset: str
    split: str
    view: str
    task: str
    cut: Cut
    metrics: tuple[str, ...]
    published_cut: Cut | None = None
    published: Mapping[str, str] = field(default_factory=dict)
    round_trips: tuple[str, ...] = ()
    samples: int = 1
    clips: int | None = None
    unstated: str = ""


@dataclass(frozen=True)
class PublishedRow:
    """A row of a published table: of which protocol, the system, what it was conditioned on, its figures, and the data they
    were measured on."""

    protocol: str
    method: str
    condition: str
    values: Mapping[str, float]
    data: str


_SECONDS_2 = Cut(64, 32.0, 112)
_ELEVEN_112, _ELEVEN_128 = Cut(11, None, 112), Cut(11, None, 128)
_ECHODIFFUSION = Cut(64, 32.0, 112, border=128, fill=True)
_ECHOPULSE_SCRIPT = {"fid": "fid_per_clip", "fvd": "fvd_per_clip"}
_AREA = {"ef": "ef_area", "rlvef": "ef_area"}
_NO_LENGTH = (
    "The paper states neither the split nor how many clips and frames FID, FVD and SSIM were taken over; here the whole test "
    "split, FVD of 16 frames as in EchoNet-Synthetic, whose approach it names."
)
_PRIVATE_TABLE = "The paper measured this on its private data; here the same protocol on public clips. "

PROTOCOLS: tuple[Protocol, ...] = (
    Protocol(
        "echopulse-1",
        "ECHOPulse, Table 1 (reconstruction)",
        ECHONET,
        "TEST",
        "A4C",
        "reconstruction",
        _ELEVEN_128,
        ("mse", "mae"),
        unstated="The paper states neither the split nor the scale of grey values; here the test split, 0..1, the first 11.",
    ),
    Protocol(
        "echopulse-2-echonet",
        "ECHOPulse, Table 2, Echo-Dynamic",
        ECHONET,
        "TEST",
        "A4C",
        "generation",
        _SECONDS_2,
        ("fid", "fvd", "ssim"),
        _ELEVEN_112,
        _ECHOPULSE_SCRIPT,
        ("gif",),
        unstated=_NO_LENGTH,
    ),
    Protocol(
        "echopulse-3",
        "ECHOPulse, Table 3 (EF)",
        ECHONET,
        "TEST",
        "A4C",
        "generation",
        _SECONDS_2,
        ("ef", "rlvef"),
        _ELEVEN_112,
        _AREA,
        unstated=_PRIVATE_TABLE + "It compares area EFs by SAM 2 of generated and real clips; the EF by volume is given first.",
    ),
    Protocol(
        "echopulse-6",
        "ECHOPulse, Table 6 (reconstruction)",
        ECHONET,
        "TEST",
        "A4C",
        "reconstruction",
        _SECONDS_2,
        ("fid", "rlvef"),
        None,
        {"fid": "fid_per_clip"},
        ("gif",),
        unstated="The paper states neither data set nor formula nor unit: 1 +- 0.26 may be a ratio or points; both are given.",
    ),
    Protocol(
        "echopulse-7",
        "ECHOPulse, Table 7 (ED and ES)",
        ECHONET,
        "TEST",
        "A4C",
        "generation",
        _SECONDS_2,
        ("ed", "es"),
        unstated=_PRIVATE_TABLE + "It states no unit; frames are taken. It takes the frames of the largest and the smallest "
        "segmentation, here both events are found by one rule.",
    ),
    Protocol(
        "echodiffusion-generation",
        "EchoDiffusion, Tables 1 and 2, Gen.",
        ECHONET,
        "VAL",
        "A4C",
        "counterfactual",
        _ECHODIFFUSION,
        ("ef", "ef_regressor", "ssim", "lpips", "fid", "fvd"),
        None,
        {"ssim": "ssim_best", "lpips": "lpips_best"},
        ("gif", "jpeg"),
        samples=3,
        clips=1288,
        unstated="Its regressor of EF is not at hand; here EF by segmentation, and by our own regressor. It starts at a random "
        "frame of a clip, here the first.",
    ),
    Protocol(
        "echodiffusion-reconstruction",
        "EchoDiffusion, Tables 1 and 2, Rec.",
        ECHONET,
        "VAL",
        "A4C",
        "generation",
        _ECHODIFFUSION,
        ("ef", "ef_regressor", "ssim", "lpips", "fid", "fvd"),
        None,
        {"ssim": "ssim_best", "lpips": "lpips_best"},
        ("gif", "jpeg"),
        samples=3,
        clips=1288,
        unstated="As for Gen.; the EF of the real clip is asked for.",
    ),
    *(
        Protocol(
            f"echopulse-2-camus-{view.lower()}",
            f"ECHOPulse, Table 2, CAMUS, {view}",
            CAMUS,
            "testing",
            view,
            "generation",
            Cut(16, None, 256),
            ("fid", "fvd", "ssim"),
            _ELEVEN_128,
            _ECHOPULSE_SCRIPT,
            ("gif",),
            unstated="HeartBeat, whose setting is taken over, makes 16 frames of 256 x 256 and judges 91 videos, which it "
            "does not name; here the testing split of CAMUS, half cycles from end-diastole. " + _NO_LENGTH,
        )
        for view in ("A2C", "A4C")
    ),
    Protocol(
        "echopulse-3-camus",
        "ECHOPulse, Table 3 (EF)",
        CAMUS,
        "testing",
        "A4C",
        "generation",
        Cut(64, 32.0, 112),
        ("ef_area",),
        unstated=_PRIVATE_TABLE + "Half cycles hold no whole beat, so EF is by area only.",
    ),
)


def _rows(
    protocol: str, data: str, names: tuple[str, ...], *rows: tuple[str, str, tuple[float | None, ...]]
) -> list[PublishedRow]:
    return [
        PublishedRow(protocol, method, condition, {n: v for n, v in zip(names, values, strict=True) if v is not None}, data)
        for method, condition, values in rows
    ]


_SYNTHETIC, _DIFFUSION = "EchoNet-Synthetic", "EchoDiffusion"
_NATURAL, _TRANSFER = "ECHOPulse (only natural videos)", "ECHOPulse (domain transfer)"
_EF_FIGURES = ("ef_r2", "ef", "ef_rmse")
_CASCADE = (*_EF_FIGURES, "ssim", "lpips", "fid", "fvd")

ROWS: tuple[PublishedRow, ...] = (
    *_rows(
        "echopulse-1",
        ECHONET,
        ("mse", "mae"),
        (_SYNTHETIC, "", (3.00e-3, 3.00e-2)),
        (_NATURAL, "", (5.02e-3, 4.08e-2)),
        (_TRANSFER, "", (2.89e-3, 2.92e-2)),
        (f"{_SYNTHETIC} (printed among the private rows)", "", (3.12e-3, 3.37e-2)),
    ),
    *_rows("echopulse-1", PRIVATE, ("mse", "mae"), (_NATURAL, "", (6.09e-3, 4.41e-2)), (_TRANSFER, "", (2.91e-3, 2.97e-2))),
    *_rows(
        "echopulse-2-echonet",
        ECHONET,
        ("fid", "fvd", "ssim"),
        (_DIFFUSION, "EF", (24.00, 228.00, 0.48)),
        (_SYNTHETIC, "EF", (16.90, 87.40, None)),
        (_NATURAL, "text (EF)", (40.18, 317.03, 0.37)),
        (_TRANSFER, "text (EF)", (28.25, 296.60, 0.43)),
    ),
    *_rows(
        "echopulse-2-camus-a2c",
        CAMUS,
        ("fid", "fvd", "ssim"),
        ("MoonShot", "text", (48.44, 202.41, 0.63)),
        ("VideoComposer", "text", (37.68, 164.96, 0.60)),
        ("HeartBeat", "text", (107.66, 305.12, 0.53)),
        ("HeartBeat", "text, sketch, mask and more", (25.23, 97.28, 0.66)),
        (_NATURAL, "text (EF)", (12.71, 273.15, 0.61)),
        (_TRANSFER, "text (EF)", (5.65, 211.85, 0.79)),
    ),
    *_rows(
        "echopulse-2-camus-a4c",
        CAMUS,
        ("fid", "fvd", "ssim"),
        ("MoonShot", "text", (61.57, 290.08, 0.62)),
        ("VideoComposer", "text", (35.04, 180.32, 0.61)),
        ("HeartBeat", "text", (76.46, 381.28, 0.53)),
        ("HeartBeat", "text, sketch, mask and more", (31.99, 159.36, 0.65)),
        (_NATURAL, "text (EF)", (15.38, 336.04, 0.58)),
        (_TRANSFER, "text (EF)", (8.17, 283.32, 0.75)),
    ),
    *(
        row
        for protocol in ("echopulse-3", "echopulse-3-camus")
        for row in _rows(
            protocol,
            PRIVATE,
            (
                *(_EF_FIGURES if protocol == "echopulse-3" else ("ef_area_r2", "ef_area", "ef_area_rmse")),
                "sampling_s",
                "parameters",
            ),
            (_DIFFUSION, "image, EF", (0.83, 5.14, 7.21, 147.0, 402.0)),
            (_SYNTHETIC, "image, EF", (0.85, 2.71, 3.13, 20.2, 283.0)),
            ("ECHOPulse", "image, ECG", (0.85, 2.51, 2.86, 6.4, 279.0)),
        )
    ),
    *_rows(
        "echopulse-6",
        PRIVATE,
        ("fid", "rlvef", "rlvef_sd"),
        (_SYNTHETIC, "", (10.93, 1.0, 0.33)),
        ("ECHOPulse", "", (9.16, 1.0, 0.26)),
    ),
    *_rows(
        "echopulse-7",
        PRIVATE,
        ("ed_frames", "es_frames"),
        (_DIFFUSION, "image, EF", (1.55, 1.25)),
        (_SYNTHETIC, "image, EF", (1.06, 0.97)),
        ("ECHOPulse", "image, ECG", (0.18, 0.21)),
    ),
    *_rows(
        "echodiffusion-generation",
        ECHONET,
        (*_CASCADE, "sampling_s"),
        ("1SCM (16 frames at 8 fps)", "image, EF", (0.64, 9.65, 12.2, 0.53, 0.21, 12.3, 60.5, 62.0)),
        ("2SCM", "image, EF", (0.89, 4.81, 6.69, 0.53, 0.24, 31.7, 141.0, 146.0)),
        ("4SCM", "image, EF", (0.93, 3.77, 5.26, 0.48, 0.25, 24.6, 230.0, 279.0)),
        ("D'ARTAGNAN", "video, EF", (0.51, 15.7, 18.4, 0.79, None, None, None, 1.0)),
    ),
    *_rows(
        "echodiffusion-reconstruction",
        ECHONET,
        (*_CASCADE, "sampling_s"),
        ("1SCM (16 frames at 8 fps)", "image, EF", (0.76, 4.51, 6.07, 0.53, 0.21, 13.6, 89.7, 62.0)),
        ("2SCM", "image, EF", (0.93, 2.22, 3.35, 0.54, 0.24, 31.4, 147.0, 146.0)),
        ("4SCM", "image, EF", (0.90, 2.42, 3.87, 0.48, 0.25, 24.0, 228.0, 279.0)),
        ("D'ARTAGNAN", "video, EF", (0.87, 2.79, 4.45, 0.82, None, None, None, 1.0)),
    ),
)


def protocols_of(dataset: str) -> list[Protocol]:
    """The protocols on a data set, in the order of the papers."""
    return [protocol for protocol in PROTOCOLS if protocol.dataset == dataset]


def rows_of(protocol: Protocol) -> list[PublishedRow]:
    """The published rows that a protocol is to reproduce."""
    return [row for row in ROWS if row.protocol == protocol.name]
