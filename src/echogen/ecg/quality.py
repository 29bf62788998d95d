"""Quality of an ECG, and choice of the lead that shows the beats best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.all_leads import AllLeads
from echogen.ecg.detectors import CLEAR_CONTRAST, Detection, detect_qrs, irregularity
from echogen.ecg.filters import band_pass
from echogen.records import Ecg

VERDICTS = ("good", "usable", "poor", "flat", "not an ecg")
PREFERRED_LEADS = ("II", "MLII", "ECG", "I", "MLI", "MCL1", "V5", "V6", "V4", "V3", "aVF", "V2", "aVL", "III", "aVR", "V1", "V")
_AMPLITUDE_MV = (0.05, 10.0)
_LIMB_LEADS, _LARGEST_IN_LIMB_LEAD_MV = ("I", "II", "III", "aVR", "aVL", "aVF", "MLII"), 5.0
_RATE_BPM = (20.0, 300.0)
_REGULAR = 0.35
_FLAT_MV = 0.01
#: Weight of a lead whose beats are none in the others.
_UNCONFIRMED = 0.2
_EXCERPT_S = 20.0


@dataclass(frozen=True)
class Quality:
    """A verdict (good, usable, poor, flat, not an ecg) and plain sentences that say why; none for a good ECG."""

    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class LeadFacts:
    """Measurements of one lead: shares 0..1, peak-to-peak QRS amplitude in mV, median heart rate (nan: none)."""

    detection: Detection
    rate_bpm: float
    amplitude_mv: float
    flat_share: float
    clipped_share: float
    noise_share: float


def lead_signal(ecg: Ecg, name: str | None = None) -> Floats:
    """(samples,) float64 in mV of the lead of that name, or of the best one. Raises `InputError` if it is not there."""
    return ecg.lead(choose_lead(ecg) if name is None else name).astype(np.float64)


def _excerpt(signal: Floats, rate_hz: float) -> Floats:
    """At most a minute: pieces from the first, middle and last part of a longer signal."""
    length = round(_EXCERPT_S * rate_hz)
    if len(signal) <= 3 * length:
        return signal
    starts = (0, (len(signal) - length) // 2, len(signal) - length)
    # Laid end to end at the same level, so that the joints are no steps.
    return np.concatenate([signal[s : s + length] - np.median(signal[s : s + length]) for s in starts])


def _runs_at(signal: Floats, value: float, shortest: int) -> int:
    """Samples that lie in runs of at least `shortest` at exactly this value."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], signal == value, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= shortest].sum())


def measure_lead(signal: Floats, rate_hz: float) -> LeadFacts:
    """Measure one lead, (samples,) in mV."""
    detection = detect_qrs(signal, rate_hz)
    peaks = np.rint(detection.peaks).astype(np.int64)
    rate = 60.0 * rate_hz / float(np.median(np.diff(peaks))) if peaks.size > 1 else float("nan")
    window = max(min(round(0.5 * rate_hz), len(signal)), 2)
    blocks = signal[: len(signal) // window * window].reshape(-1, window)
    swing = np.ptp(blocks, axis=1)
    shortest = max(round(0.02 * rate_hz), 4)
    clipped = (_runs_at(signal, signal.max(), shortest) + _runs_at(signal, signal.min(), shortest)) / len(signal)
    reach = np.arange(-max(round(0.06 * rate_hz), 1), max(round(0.06 * rate_hz), 1) + 1)
    amplitude = noise = float("nan")
    if peaks.size:
        beats = signal[np.clip(peaks[:, None] + reach, 0, len(signal) - 1)]
        amplitude = float(np.median(np.ptp(beats, axis=1)))
        around = np.ones(len(signal), dtype=np.bool_)
        around[np.clip(peaks[:, None] + reach, 0, len(signal) - 1)] = False
        fast = signal - band_pass(signal, rate_hz, None, 30.0) if rate_hz > 80 else signal - signal
        fast = fast - np.median(fast)
        noise = float(2.0 * np.std(fast[around]) / max(amplitude, 1e-9)) if around.any() else 0.0
    flat = float(np.mean(swing < _FLAT_MV)) if blocks.size else 1.0
    return LeadFacts(detection, rate, amplitude, flat, clipped, noise)


def _preference(name: str) -> int:
    """Rank of a lead by custom; lower is better."""
    plain = name.split(" #")[0]
    for rank, preferred in enumerate(PREFERRED_LEADS):
        if plain.upper() == preferred.upper() or (preferred == "ECG" and plain.upper().startswith("ECG")):
            return rank
    return len(PREFERRED_LEADS)


def _limits(name: str) -> tuple[float, float]:
    """Smallest and largest believable QRS in mV, peak to peak."""
    return _AMPLITUDE_MV[0], _LARGEST_IN_LIMB_LEAD_MV if name in _LIMB_LEADS else _AMPLITUDE_MV[1]


def _plausible(name: str, amplitude_mv: float) -> bool:
    low, high = _limits(name)
    return low <= amplitude_mv <= high


def _score(name: str, facts: LeadFacts) -> float:
    """0 (unusable) .. 1: clear and agreed beats of a plausible size and rate."""
    if not (_RATE_BPM[0] <= facts.rate_bpm <= _RATE_BPM[1]) or not facts.detection.convincing:
        return 0.0
    size = 1.0 if _plausible(name, facts.amplitude_mv) else 0.5
    quiet = 1.0 / (1.0 + 2.0 * facts.noise_share)
    whole = (1.0 - facts.flat_share) * (1.0 - min(4.0 * facts.clipped_share, 1.0))
    return size * quiet * whole * facts.detection.agreement * min(facts.detection.contrast / 10.0, 1.0)


def _measured(ecg: Ecg, all_leads: bool) -> list[tuple[str, LeadFacts, float]]:
    """Name, facts and score of leads in order of preference; only the first if that is clearly good and not all are wanted.

    An irregular rhythm is checked in the other leads: a tall P wave beside a small QRS may have been counted as a beat.
    """
    leads = []
    together = AllLeads(np.stack([_excerpt(lead.astype(np.float64), ecg.rate_hz) for lead in ecg.signal_mv]), ecg.rate_hz)
    for name in sorted(ecg.lead_names, key=_preference):
        facts = measure_lead(_excerpt(ecg.lead(name).astype(np.float64), ecg.rate_hz), ecg.rate_hz)
        believed = together.confirms(facts.detection.peaks)
        leads.append((name, facts, _score(name, facts) * (1.0 if believed else _UNCONFIRMED)))
        regular = irregularity(facts.detection.peaks, ecg.rate_hz) < _REGULAR
        if len(leads) == 1 and leads[0][2] > 0.8 and regular and not all_leads:
            break
    return leads


def _best(leads: list[tuple[str, LeadFacts, float]]) -> tuple[str, LeadFacts, float]:
    """The first lead in order of preference that is not clearly worse than the best, and counts the beats most leads count."""
    counts = [facts.detection.peaks.size for _, facts, score in leads if score > 0.3]
    usual = float(np.median(counts)) if counts else 0.0
    highest = max(score for _, _, score in leads)
    for lead in leads:
        as_usual = abs(lead[1].detection.peaks.size - usual) <= max(0.08 * usual, 1.0)
        if lead[2] >= 0.6 * highest and (as_usual or not counts):
            return lead
    return max(leads, key=lambda lead: lead[2])


def choose_lead(ecg: Ecg) -> str:
    """The lead that shows the beats best: the customary one (II, MLII, a single ECG, I, V5 ...) unless it is clearly worse.

    A long recording is judged on three pieces of 20 s.
    """
    if len(ecg.lead_names) == 1:
        return ecg.lead_names[0]
    return _best(_measured(ecg, all_leads=False))[0]


def signal_quality(ecg: Ecg) -> Quality:
    """Judge an ECG by its best lead; the reasons name what is wrong in plain sentences.

    flat: no lead has any signal. not an ecg: no QRS complexes, or a rate outside 20..300 bpm. poor: a QRS of less than
    0.05 or more than 10 mV (limb leads: 5), detectors that disagree, much noise, flat or clipped stretches. usable: less of
    these, or some flat leads. A long recording is judged on three pieces of 20 s.
    """
    swing = np.array([np.ptp(_excerpt(lead.astype(np.float64), ecg.rate_hz)) for lead in ecg.signal_mv])
    if (swing < _FLAT_MV).all():
        return Quality("flat", (f"The ECG is flat: it swings by no more than {1000 * swing.max():.2g} µV.",))
    leads = _measured(ecg, all_leads=len(ecg.lead_names) > 1)
    name, facts, _ = _best(leads)
    if facts.flat_share > 0.9:
        return Quality("flat", (f"Lead {name} is flat for {facts.flat_share:.0%} of the time.",))
    detection = facts.detection
    if detection.peaks.size < 2 or not detection.convincing:
        return Quality("not an ecg", (f"No QRS complexes stand out in lead {name}.",))
    if not _RATE_BPM[0] <= facts.rate_bpm <= _RATE_BPM[1]:
        return Quality(
            "not an ecg", (f"The peaks in lead {name} come {facts.rate_bpm:.0f} times a minute, which no heart does.",)
        )
    poor: list[str] = []
    usable: list[str] = []
    for own, its, score in leads:
        low, high = _limits(own)
        if its.amplitude_mv > high * (1.0 if score > 0 else np.inf) or (own == name and its.amplitude_mv < low):
            amount = f"The QRS in lead {own} is {its.amplitude_mv:.3g} mV, outside {low:g} to {high:g} mV"
            poor.append(f"{amount}; the unit or scale may be wrong.")
            break

    def judge(value: float, limits: tuple[float, float], sentence: str) -> None:
        if value > limits[0]:
            (poor if value > limits[1] else usable).append(sentence)

    judge(
        1 - detection.agreement,
        (0.08, 0.25),
        f"Two detectors agree on only {detection.agreement:.0%} of the beats in lead {name}.",
    )
    judge(facts.noise_share, (0.12, 0.4), f"Fast noise in lead {name} is {facts.noise_share:.0%} of the QRS amplitude.")
    judge(facts.flat_share, (0.03, 0.25), f"Lead {name} is flat for {facts.flat_share:.0%} of the time.")
    judge(facts.clipped_share, (0.005, 0.05), f"Lead {name} is clipped for {facts.clipped_share:.0%} of the time.")
    if detection.contrast < CLEAR_CONTRAST:
        usable.append(f"The QRS complexes in lead {name} stand out little from the rest of the signal.")
    flat = [own for own, amount in zip(ecg.lead_names, swing, strict=True) if amount < _FLAT_MV]
    if flat:
        usable.append(f"Without signal: {', '.join(flat)}.")
    return Quality("poor" if poor else "usable" if usable else "good", tuple(poor + usable))
