"""The electrocardiogram of a rhythm: one moving dipole, seen by twelve leads.

Axes of the heart vector (Frank): x to the patient's left, y to the feet, z to the back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import lfilter

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.phantom.rhythm import Rhythm
from echogen.physiology import preceding_rr
from echogen.records import Ecg

LEAD_NAMES = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
#: Dower's lead field: rows I, II, V1..V6; mV at the electrodes per mV of the heart vector (Dower, Circ Res 1980).
DOWER = np.array(
    [
        (0.632, -0.235, 0.059),
        (0.235, 1.066, -0.132),
        (-0.515, 0.157, -0.917),
        (0.044, 0.164, -1.387),
        (0.882, 0.098, -1.277),
        (1.213, 0.127, -0.601),
        (1.125, 0.127, -0.086),
        (0.831, 0.076, 0.230),
    ]
)
_TEMPLATE_STEP_S = 0.00025
_TEMPLATE_TIMES_S = np.arange(-0.16, 0.26, _TEMPLATE_STEP_S)
#: Share of the peak of the heart vector at which a QRS complex counts as begun.
_ONSET_SHARE = 0.04
_WIDE_QT_LONGER_S = 0.05
#: The QT interval depends on the beats of this time at most.
_MEMORY_S = 20.0


@dataclass(frozen=True, eq=False)
class Waves:
    """A QRS complex as a sum of Gaussian waves. offset_s and width_s (SD): (waves,) around its peak; vector_mv: (waves, 3)."""

    offset_s: Floats
    width_s: Floats
    vector_mv: Floats

    @classmethod
    def of(cls, *rows: ArrayLike) -> Waves:
        """Waves from rows of (offset in s, width in s, x, y, z in mV)."""
        table = np.array(rows, dtype=np.float64)
        return cls(table[:, 0], table[:, 1], table[:, 2:])

    def at(self, times_s: Floats) -> Floats:
        """(times, 3) the heart vector in mV."""
        shape = np.exp(-0.5 * ((times_s[:, None] - self.offset_s) / self.width_s) ** 2)
        return np.asarray(shape @ self.vector_mv)


def _vector(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class EcgStyle:
    """Style of one subject's ECG and of its recording; the default is a textbook ECG without noise.

    qrs, pvc, paced: complexes by origin. p_vectors_mv: (2, 3), right and left atrium. t_vector_mv, st_vector_mv: (3,), after a
    normal QRS; after a wide one T opposes the QRS, by `discordance` of its area-weighted vector. qt_s: QT interval at RR = 1 s,
    which scales with the square root of RR, as do t_rise_s and t_fall_s, the SDs of T before and after its top.
    f_wave_mv, f_wave_hz: size in V1 (peak) and rate of the fibrillatory waves. spike_mv: (3,) the pacing spike.
    respiration: relative change of the complexes with breathing, at respiration_hz. lead_field: (8, 3).
    gain: on all leads. wander_mv, mains_mv, muscle_mv, white_mv: SD of baseline wander (below 0.5 Hz), mains (mains_hz),
    muscle noise (above 20 Hz, in bursts) and white noise.
    """

    qrs: Waves = field(
        default_factory=lambda: Waves.of(
            (-0.023, 0.0075, -0.12, 0.02, -0.32), (0.0, 0.0120, 1.05, 0.85, 0.25), (0.022, 0.011, -0.10, -0.10, 0.60)
        )
    )
    pvc: Waves = field(
        default_factory=lambda: Waves.of(
            (-0.030, 0.016, 0.30, 0.45, 0.10), (0.0, 0.026, 0.90, 1.10, 0.60), (0.045, 0.024, 0.10, 0.15, 0.60)
        )
    )
    paced: Waves = field(
        default_factory=lambda: Waves.of(
            (-0.030, 0.016, 0.30, -0.30, 0.10), (0.0, 0.026, 0.75, -0.95, 0.50), (0.045, 0.024, 0.35, -0.35, 0.50)
        )
    )
    p_vectors_mv: Floats = field(default_factory=lambda: np.array([(0.04, 0.10, -0.05), (0.08, 0.06, 0.05)]))
    p_duration_s: float = 0.105
    t_vector_mv: Floats = field(default_factory=lambda: _vector(0.28, 0.22, -0.16))
    st_vector_mv: Floats = field(default_factory=lambda: _vector(0.0, 0.0, -0.02))
    qt_s: float = 0.400
    t_rise_s: float = 0.062
    t_fall_s: float = 0.040
    discordance: float = 0.32
    f_wave_mv: float = 0.06
    f_wave_hz: float = 6.0
    spike_mv: Floats = field(default_factory=lambda: _vector(0.5, 0.6, 0.3))
    respiration: float = 0.03
    respiration_hz: float = 0.25
    lead_field: Floats = field(default_factory=lambda: DOWER)
    gain: float = 1.0
    wander_mv: float = 0.0
    mains_mv: float = 0.0
    mains_hz: float = 50.0
    muscle_mv: float = 0.0
    white_mv: float = 0.0


def heart_vector_mv(rhythm: Rhythm, style: EcgStyle, start_s: float, samples: int, rate_hz: float) -> Floats:
    """The moving dipole without noise, f-waves or pacing spikes: (3, samples) in mV; sample i lies at start_s + i / rate_hz.

    Its largest magnitude within a QRS lies at the beat's R time and its beginning at the beat's QRS onset. After Sameni et al.
    2007 (a sum of Gaussian waves a beat), with waves placed by the beats and T of two half-widths.
    """
    vector = np.zeros((3, samples))
    rhythm = rhythm.between(start_s - _MEMORY_S, start_s + samples / rate_hz + 3.0)
    if len(rhythm) == 0:
        return vector
    grid = _Grid(vector, start_s, rate_hz)
    size = 1.0 + style.respiration * np.sin(2 * np.pi * style.respiration_hz * rhythm.r_s)
    _add_p_waves(grid, rhythm, style, size)
    for kind, waves in _complexes(style).items():
        _add_complexes(grid, rhythm, waves, rhythm.kind == kind, size)
    _add_repolarisation(grid, rhythm, style, size)
    return vector


def make_ecg(
    rhythm: Rhythm,
    start_s: float,
    end_s: float,
    rng: np.random.Generator,
    *,
    rate_hz: float = 500.0,
    style: EcgStyle | None = None,
) -> Ecg:
    """The 12-lead ECG of a rhythm from start_s to end_s in mV (I, II, III, aVR, aVL, aVF, V1..V6).

    style: None draws one. rate_hz: 50..10000. III, aVR, aVL and aVF are computed from I and II (Einthoven, Goldberger).
    Raises `InputError` for an empty interval or a rate out of range.
    """
    if not 50.0 <= rate_hz <= 10000.0:
        raise InputError(f"The ECG sampling rate must lie between 50 and 10000 Hz, not {rate_hz}.")
    samples = round((end_s - start_s) * rate_hz) if np.isfinite(end_s - start_s) else 0
    if samples < 1:
        raise InputError(f"An ECG needs an end after its start, not {start_s} s to {end_s} s.")
    style = draw_style(rng) if style is None else style
    vector = heart_vector_mv(rhythm, style, start_s, samples, rate_hz)
    grid = _Grid(vector, start_s, rate_hz)
    if rhythm.name in ("af", "paced") and np.isnan(rhythm.p_onset_s).all():
        vector += _fibrillation(samples, rate_hz, style, rng)
    _add_spikes(grid, rhythm, style)
    leads = style.gain * (style.lead_field @ vector) + _noise(samples, rate_hz, style, rng)
    first, second = leads[:2].astype(np.float32)
    limb = [first, second, second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    return Ecg(np.concatenate([np.stack(limb), leads[2:].astype(np.float32)]), rate_hz, LEAD_NAMES, start_s)


@dataclass(frozen=True)
class _Grid:
    """The samples that waves are added to."""

    vector: Floats
    start_s: float
    rate_hz: float

    def windows(self, center_s: Floats, before_s: float, after_s: float) -> tuple[NDArray[np.int64], Floats]:
        """(beats, window) sample indices around each centre, and their times from it in s."""
        middle = np.rint((center_s - self.start_s) * self.rate_hz).astype(np.int64)
        index = middle[:, None] + np.arange(-int(before_s * self.rate_hz) - 1, int(after_s * self.rate_hz) + 2)
        return index, self.start_s + index / self.rate_hz - center_s[:, None]

    def add(self, index: NDArray[np.int64], values: Floats) -> None:
        """Add values (beats, window, 3) at the samples that exist."""
        count = self.vector.shape[1]
        keep = (index >= 0) & (index < count)
        for axis in range(3):
            self.vector[axis] += np.bincount(index[keep], weights=values[..., axis][keep], minlength=count)

    def add_gaussians(self, center_s: Floats, rise_s: Floats, fall_s: Floats, vector_mv: Floats) -> None:
        """Add one Gaussian a beat, of two half-widths (beats,), along vector_mv (beats, 3)."""
        if len(center_s) == 0:
            return
        index, after = self.windows(center_s, 4.5 * float(rise_s.max()), 4.5 * float(fall_s.max()))
        width = np.where(after < 0, rise_s[:, None], fall_s[:, None])
        self.add(index, np.exp(-0.5 * (after / width) ** 2)[..., None] * vector_mv[:, None, :])


def _complexes(style: EcgStyle) -> dict[str, Waves]:
    return {"normal": style.qrs, "pvc": style.pvc, "paced": style.paced, "wide": style.paced}


def _add_p_waves(grid: _Grid, rhythm: Rhythm, style: EcgStyle, size: Floats) -> None:
    has_p = np.isfinite(rhythm.p_onset_s)
    onset = rhythm.p_onset_s[has_p]
    duration = np.minimum(style.p_duration_s, 0.8 * (rhythm.qrs_onset_s[has_p] - onset))
    for vector, place, width in zip(style.p_vectors_mv, (0.40, 0.62), (0.17, 0.16), strict=True):
        grid.add_gaussians(onset + place * duration, width * duration, width * duration, size[has_p, None] * vector)


def _add_complexes(grid: _Grid, rhythm: Rhythm, waves: Waves, chosen: NDArray[np.bool_], size: Floats) -> None:
    """One shape for all complexes of a kind, warped in time so that its onset and its peak lie where the beat has them."""
    if not chosen.any():
        return
    template = waves.at(_TEMPLATE_TIMES_S)
    magnitude = np.linalg.norm(template, axis=1)
    peak = int(magnitude.argmax())
    begin = int(np.flatnonzero(magnitude > _ONSET_SHARE * magnitude[peak])[0])
    lead_in = rhythm.r_s[chosen] - rhythm.qrs_onset_s[chosen]
    # Template seconds per second, before the peak; after it the shape keeps its own time.
    speed = _TEMPLATE_STEP_S * (peak - begin) / lead_in
    index, after = grid.windows(rhythm.r_s[chosen], float(lead_in.max()) * 1.6, 0.22)
    place = _TEMPLATE_TIMES_S[peak] + np.where(after < 0, after * speed[:, None], after)
    values = np.stack([np.interp(place, _TEMPLATE_TIMES_S, template[:, axis], 0.0, 0.0) for axis in range(3)], axis=-1)
    grid.add(index, size[chosen, None, None] * values)


def _add_repolarisation(grid: _Grid, rhythm: Rhythm, style: EcgStyle, size: Floats) -> None:
    """ST segment and T wave; QT follows the square root of an RR interval that remembers the last few beats."""
    wide = rhythm.wide_qrs
    rr = preceding_rr(rhythm.r_s).clip(0.25, 2.0)
    remembered, _ = lfilter([0.25], [1.0, -0.75], rr, zi=[0.75 * float(np.median(rr[:8]))])
    stretch = np.sqrt(0.3 * rr + 0.7 * remembered)
    qt = (style.qt_s + _WIDE_QT_LONGER_S * wide) * stretch
    to_next = np.diff(rhythm.qrs_onset_s, append=np.inf)
    # An early beat cuts repolarisation a little short.
    scale = stretch * np.clip(0.95 * to_next / qt, 0.8, 1.0)
    qt = qt * scale / stretch
    rise, fall = style.t_rise_s * scale, style.t_fall_s * scale
    center = rhythm.qrs_onset_s + qt - 2.2 * fall
    vector = np.broadcast_to(style.t_vector_mv, (len(rhythm), 3)).copy()
    st_vector = np.broadcast_to(style.st_vector_mv, (len(rhythm), 3)).copy()
    for kind in ("pvc", "paced", "wide"):
        waves = _complexes(style)[kind]
        net = waves.width_s @ waves.vector_mv / waves.width_s[np.abs(waves.offset_s).argmin()]
        vector[rhythm.kind == kind] = 0.3 * style.t_vector_mv - style.discordance * net
        st_vector[rhythm.kind == kind] = -0.08 * net
    grid.add_gaussians(center, rise, fall, size[:, None] * vector)
    st_start = rhythm.r_s + np.where(wide, 0.09, 0.05)
    middle = 0.5 * (st_start + center)
    half = np.maximum(0.45 * (center - st_start), 0.02)
    grid.add_gaussians(middle, half, half, size[:, None] * st_vector)


def _fibrillation(samples: int, rate_hz: float, style: EcgStyle, rng: np.random.Generator) -> Floats:
    """(3, samples) fibrillatory waves: a wandering rate and size on each axis, largest at the front (V1) and below (II)."""
    knots = np.arange(0.0, samples / rate_hz + 1.0, 0.4)
    times = np.arange(samples) / rate_hz
    vector = np.empty((3, samples))
    for axis, share in enumerate((0.35, 0.55, 1.0)):
        hertz = np.interp(times, knots, (style.f_wave_hz + rng.normal(0.0, 0.6, len(knots))).clip(4.0, 9.0))
        size = np.interp(times, knots, rng.uniform(0.45, 1.0, len(knots)))
        phase = 2 * np.pi * (np.cumsum(hertz) / rate_hz + rng.random())
        vector[axis] = share * size * (np.sin(phase) + 0.25 * np.sin(2 * phase + rng.uniform(0, 2 * np.pi)))
    return vector * style.f_wave_mv


def _add_spikes(grid: _Grid, rhythm: Rhythm, style: EcgStyle) -> None:
    """Pacing spikes of 2 ms, 6 ms before the QRS onset, shared between the samples they touch."""
    length = 0.002
    start = rhythm.qrs_onset_s[rhythm.kind == "paced"] - 0.006
    index, after = grid.windows(start, 0.0, length + 1.0 / grid.rate_hz)
    # A sample stands for the interval that follows it.
    overlap = (np.minimum(after + 1.0 / grid.rate_hz, length) - np.maximum(after, 0.0)).clip(0.0) * grid.rate_hz
    grid.add(index, overlap[..., None] * style.spike_mv)


def _noise(samples: int, rate_hz: float, style: EcgStyle, rng: np.random.Generator) -> Floats:
    """(8, samples) baseline wander, mains, muscle and white noise in mV."""
    count = len(style.lead_field)
    times = np.arange(samples) / rate_hz
    noise = np.zeros((count, samples))
    if style.wander_mv > 0:
        hertz = np.concatenate([[style.respiration_hz], rng.uniform(0.03, 0.5, 5)])
        waves = np.sin(2 * np.pi * (hertz[:, None] * times + rng.random((len(hertz), 1))))
        mixing = rng.normal(0.0, 1.0, (count, len(hertz))) + rng.normal(0.0, 1.0, len(hertz))
        noise += style.wander_mv / np.sqrt(len(hertz)) * (mixing @ waves)
    if style.mains_mv > 0 and style.mains_hz < rate_hz / 2:
        phase = 2 * np.pi * style.mains_hz * times
        noise += style.mains_mv * (rng.normal(0.0, 1.0, (count, 2)) @ np.stack([np.sin(phase), np.cos(phase)]))
    if style.muscle_mv > 0:
        knots = np.arange(0.0, samples / rate_hz + 2.0, 0.7)
        bursts = np.interp(times, knots, rng.gamma(1.5, 0.6, len(knots)))
        white = rng.standard_normal((count, samples + 1), dtype=np.float32)
        noise += style.muscle_mv / np.sqrt(2) * bursts * np.diff(white)
    if style.white_mv > 0:
        noise += style.white_mv * rng.standard_normal((count, samples), dtype=np.float32)
    return noise


def draw_style(rng: np.random.Generator) -> EcgStyle:
    """One subject and one recording, drawn from a wide range: normal hearts and many that are not.

    Among them low and high voltage, left and right axis, early and late transition, Q waves, a late rightward S (as in right
    bundle branch block), T flat, peaked or inverted, ST shifts, P waves small to none, ectopic and pacing sites anywhere, and
    recordings from clean to poor.
    """
    size = np.exp(rng.normal(0.0, 0.22)) * rng.choice([1.0, 0.5, 1.5], p=[0.87, 0.07, 0.06])
    axis = np.radians(rng.choice([rng.normal(45, 20), rng.uniform(-50, 0), rng.uniform(92, 122)], p=[0.78, 0.14, 0.08]))
    back = rng.normal(0.20, 0.20)
    qrs = _draw_qrs(rng, size * _vector(1.30 * np.cos(axis), 1.15 * np.sin(axis), back), size)
    t_axis = np.radians(np.clip(np.degrees(axis), 0, 80) + rng.normal(0, 15))
    t_kind = rng.choice(["usual", "flat", "inverted", "peaked"], p=[0.72, 0.11, 0.11, 0.06])
    t_size = {"usual": 0.32, "flat": 0.07, "inverted": -0.22, "peaked": 0.60}[t_kind] * np.exp(rng.normal(0, 0.30))
    t_vector = np.sqrt(size) * t_size * _vector(np.cos(t_axis), np.sin(t_axis), rng.normal(-0.50, 0.25))
    t_width = (0.65 if t_kind == "peaked" else 1.0) * np.exp(rng.normal(0, 0.12))
    p_size = np.exp(rng.normal(0.0, 0.35)) * rng.choice([1.0, 0.1], p=[0.93, 0.07])
    p_vectors = p_size * (np.array([(0.04, 0.10, -0.05), (0.08, 0.05, 0.05)]) + rng.normal(0.0, 0.02, (2, 3)))
    spike_size = np.exp(rng.uniform(np.log(0.05), np.log(2.0)))
    placement = 1.0 + rng.normal(0.0, 1.0, (8, 1)) * np.array([0.03] * 2 + [0.15] * 6)[:, None]
    noisy = np.exp(rng.normal(0.0, 0.5))

    def between(low: float, high: float) -> float:
        """Uniform on a logarithmic scale."""
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    return EcgStyle(
        qrs=qrs,
        pvc=_draw_ventricular(rng, _draw_direction(rng, left=0.6, down=0.6), 0.024),
        paced=_draw_ventricular(rng, _draw_direction(rng, left=0.9, down=0.2), 0.025),
        p_vectors_mv=p_vectors,
        p_duration_s=rng.normal(0.105, 0.010),
        t_vector_mv=t_vector,
        st_vector_mv=rng.normal(0.0, 0.02, 3) + (rng.normal(0.0, 0.12, 3) if rng.random() < 0.10 else 0.0),
        qt_s=float(np.clip(rng.normal(0.405, 0.020), 0.35, 0.47)),
        t_rise_s=0.062 * t_width,
        t_fall_s=0.040 * t_width * np.exp(rng.normal(0, 0.10)),
        discordance=rng.uniform(0.16, 0.38),
        f_wave_mv=between(0.02, 0.10),
        f_wave_hz=rng.uniform(4.8, 8.0),
        spike_mv=spike_size * _unit(rng.normal(0.0, 1.0, 3)),
        respiration=rng.uniform(0.0, 0.08),
        respiration_hz=rng.uniform(0.18, 0.35),
        lead_field=DOWER * placement + rng.normal(0.0, 0.04, DOWER.shape),
        gain=rng.uniform(0.85, 1.15),
        wander_mv=noisy * between(0.005, 0.10),
        mains_mv=noisy * between(0.0005, 0.015) * float(rng.random() < 0.6),
        mains_hz=float(rng.choice([50.0, 60.0])) + rng.normal(0.0, 0.02),
        muscle_mv=noisy * between(0.001, 0.025),
        white_mv=noisy * between(0.001, 0.010),
    )


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector))


def _draw_qrs(rng: np.random.Generator, main: Floats, size: float) -> Waves:
    """Septal Q, main vector and basal S of a conducted beat; sometimes with a deep Q, a notch or a late rightward end."""

    def near(*vector: float) -> Floats:
        return size * (_vector(*vector) + rng.normal(0.0, 0.08, 3))

    rows = [
        (rng.normal(-0.023, 0.0015), rng.normal(0.0075, 0.0008), *near(-0.12, 0.02, -0.28)),
        (0.0, rng.normal(0.0120, 0.0010), *main),
        (rng.normal(0.022, 0.0020), rng.normal(0.0105, 0.0010), *near(-0.10, -0.08, 0.50)),
    ]
    if rng.random() < 0.10:
        # An old infarct: the first forces point away from the inferior or the anterior wall.
        away = rng.choice(np.array([(0.0, -0.40, 0.0), (-0.10, 0.0, 0.50), (-0.40, 0.0, 0.0)]))
        rows.append((-0.021, 0.009, *near(*away)))
    if rng.random() < 0.10:
        rows.append((rng.uniform(0.046, 0.056), 0.014, *near(-0.42, 0.05, -0.42)))
    if rng.random() < 0.12:
        rows.append((rng.uniform(-0.010, 0.030), 0.004, *near(*rng.normal(0.0, 0.15, 3))))
    return Waves.of(*rows)


def _draw_direction(rng: np.random.Generator, left: float, down: float) -> Floats:
    """Main direction of a complex that starts in the ventricle; `left`, `down`: chance of pointing there."""
    x, y = (1.0 if rng.random() < left else -1.0), (1.0 if rng.random() < down else -1.0)
    return _unit(_vector(x * rng.uniform(0.3, 1.0), y * rng.uniform(0.2, 1.0), x * rng.uniform(0.1, 0.8)))


def _draw_ventricular(rng: np.random.Generator, direction: Floats, width_s: float) -> Waves:
    """A broad complex of slow muscle conduction: slurred start, main vector, late end that swings to the back."""
    size = rng.uniform(1.0, 2.0)
    begin, end = (_unit(direction + rng.normal(0.0, 0.3, 3)) for _ in range(2))
    return Waves.of(
        (-0.030, 0.016, *(rng.uniform(0.15, 0.45) * size * begin)),
        (0.0, width_s * np.exp(rng.normal(0, 0.08)), *(size * direction)),
        (rng.uniform(0.036, 0.052), 0.023, *(rng.uniform(0.15, 0.50) * size * end)),
    )
