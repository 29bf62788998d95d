"""Base of all systems: a generator on disk, and the loop that makes its video window by window."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from echogen.deprecation import renamed_property
from echogen.ecg_window.stream import EcgStream
from echogen.errors import InputError
from echogen.generators.sampling import LiveTiming, Sampling, Span
from echogen.generators.settings_file import GENERATOR_FILE, read_settings
from echogen.generators.video_generator import GeneratedVideo, Progress, VideoGenerator
from echogen.networks.adapters import (
    ADAPTERS,
    Adapter,
    adapter_folders,
    add_adapter,
    find_adapter,
    load_adapter,
    restore_weights,
)
from echogen.records import Cine, Conditions, Ecg

SHIPPED = Path(__file__).parent.parent / "weights"
#: ECG before a window that the window sees unless its system says otherwise, in s: some eight beats, for the rhythm.
ECG_PAST_S = 8.0
#: ECG after a window that the window sees, in s: the beat in which the window ends.
ECG_FUTURE_S = 1.0


@dataclass(frozen=True)
class Context:
    """What a window hands to the next one: its number, the time of the next frame in s, and whatever the subclass keeps."""

    index: int
    next_s: float
    state: Any = None


class Generator(VideoGenerator):
    """A system that makes echo video, window by window; one subclass a system.

    `parts` is the only loop over windows, and a call joins its parts. Window i draws its noise from (seed, i), so that a stream
    and a call give the same frames. On disk a generator is a folder: generator.json and one subfolder a network.

    system: name of the system in generator.json.
    systems: subclass of each system, by that name.
    folder: where the generator was loaded from; None: made in memory.
    adapter: in use; None: the weights are as they were trained.
    All other fields: see `VideoGenerator`.
    """

    system: ClassVar[str]
    systems: ClassVar[dict[str, type[Generator]]] = {}

    ef_range: tuple[float, float] = (0.0, 100.0)
    ecg_past_s: float = ECG_PAST_S
    ecg_future_s: float = ECG_FUTURE_S
    longest_s: float = np.inf
    needs_reference: bool = False
    folder: Path | None = None
    adapter: Adapter | None = None
    _unadapted: Mapping[str, torch.Tensor] | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "system" in cls.__dict__:
            Generator.systems[cls.system] = cls

    @classmethod
    def from_pretrained(
        cls, name_or_dir: str | Path, device: str | torch.device = "auto", adapter: str | Path | None = None
    ) -> Generator:
        """A shipped generator by name, or one from a folder; adapter: see `use_adapter`.

        Raises `InputError` when there is none or its files are damaged.
        """
        folder = Path(name_or_dir)
        if not (folder / GENERATOR_FILE).is_file():
            shipped = sorted(p.parent.name for p in SHIPPED.glob(f"*/{GENERATOR_FILE}"))
            if str(name_or_dir) not in shipped:
                known = ", ".join(shipped) or "none"
                raise InputError(
                    f"There is no generator {str(name_or_dir)!r}; give a folder with {GENERATOR_FILE} or one of: {known}."
                )
            folder = SHIPPED / str(name_or_dir)
        settings = read_settings(folder)
        system = settings.pop("system")
        if system not in cls.systems:
            raise InputError(
                f"The generator in {folder} is of the system {system!r}, which this version of echogen does not know."
            )
        generator = cls.systems[system]._load(folder, settings, pick_device(device))
        generator.name = folder.name
        generator.weights_hash = hash_weights(folder)
        generator.folder = folder
        if adapter is not None:
            generator.use_adapter(adapter)
        return generator

    @classmethod
    @abstractmethod
    def _load(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        """The generator of a folder whose generator.json held these settings."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator.json and the networks into a folder."""

    @property
    def adaptable(self) -> torch.nn.Module | None:
        """The network that an adapter changes; None where the system takes no adapter."""
        return None

    def adapters(self) -> list[str]:
        """The names of the adapters in the generator's folder."""
        return [path.name for path in adapter_folders(self.folder)]

    def use_adapter(self, name_or_dir: str | Path | None) -> None:
        """Switch to an adapter, by its name in the generator's folder or by a folder of its own; None: to the base again.

        What is saved while one is in use has it merged. Raises `InputError` where there is none or it was made for other
        weights; the base is in use then.
        """
        network = self.adaptable
        if self._unadapted is not None and network is not None:
            restore_weights(network, self._unadapted)
        self.adapter, self._unadapted = None, None
        if name_or_dir is None:
            return
        if network is None:
            raise InputError(f"The generator {self.name} takes no adapter; leave the adapter out.")
        adapter = load_adapter(find_adapter(name_or_dir, self.folder))
        self._unadapted = add_adapter(network, adapter)
        self.adapter = adapter

    @property
    def core(self) -> Generator:
        """The generator itself."""
        return self

    @property
    def live_timing(self) -> LiveTiming | None:
        """Timing along an ECG that is being recorded; None: such an ECG cannot be followed."""
        return None

    live = renamed_property("live", "live_timing")
    needs_frame = renamed_property("needs_frame", "needs_reference")

    @abstractmethod
    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """The next frames after `context` and the context after them.

        conditions.ecg holds what is known of the ECG around the window: `ecg_past_s` before to `ecg_future_s` after it.
        """

    def initial_state(self, conditions: Conditions, sampling: Sampling) -> Any:
        """Return the state in the first window's context: whatever a subclass can make before enough of the ECG is there."""
        return None

    @property
    @abstractmethod
    def window_s(self) -> float:
        """The longest time that one window covers in s."""

    def parts(self, ecg: Ecg | Iterable[Ecg] | None, conditions: Conditions, sampling: Sampling, span: Span) -> Iterator[Cine]:
        """Yield the parts of a video, one window each; see `VideoGenerator.stream`."""
        seconds = span.seconds
        if sampling.live and self.live_timing is None:
            raise InputError(f"The generator {self.name} cannot follow a live ECG; leave live out.")
        if ecg is None and seconds is None:
            raise InputError("Without an ECG the length of the video must be given in seconds.")
        if seconds is not None and seconds > self.longest_s + 0.5 / self.native_fps:
            raise InputError(
                f"The generator {self.name} makes clips of {self.longest_s:g} s, not of {seconds:g}; ask for at most that."
            )
        source = EcgStream(ecg)
        start = source.start_s if span.start_s is None else span.start_s
        if start < source.start_s - 1e-6:
            raise InputError(f"The video cannot start at {start:.2f} s: the ECG begins at {source.start_s:.2f} s.")
        end = np.inf if seconds is None else start + seconds
        context = Context(0, start, self.initial_state(conditions, sampling))
        interval = 1.0 / self.native_fps
        while context.next_s < end - 0.5 * interval:
            part = source.around(context.next_s - self.ecg_past_s, self._needs_until_s(context, sampling, source.start_s))
            last = min(end, source.end_s)
            if context.next_s >= last - 0.5 * interval:
                if seconds is not None:
                    raise _too_short(source.end_s, start)
                return
            cine, context = self.window(replace(conditions, ecg=part), context, sampling)
            keep = cine.times_s < last - 0.5 * interval
            yield cine if keep.all() else replace(cine, frames=cine.frames[keep], times_s=cine.times_s[keep])

    def make(
        self, ecg: Ecg | None, conditions: Conditions, sampling: Sampling, span: Span, progress: Progress | None = None
    ) -> GeneratedVideo:
        """Make a whole video by joining its parts; see `VideoGenerator.__call__`."""
        begin = span.start_s if span.start_s is not None else (ecg.start_s if ecg is not None else 0.0)
        seconds = span.seconds
        if ecg is not None:
            if seconds is not None and begin + seconds > ecg.end_s + 0.5 / self.native_fps:
                raise _too_short(ecg.end_s, begin)
            seconds = seconds if seconds is not None else ecg.end_s - begin
        parts: list[Cine] = []
        for part in self.parts(ecg, conditions, sampling, Span(span.start_s, seconds)):
            parts.append(part)
            if progress and seconds:
                progress(float(part.times_s[-1]) - begin, seconds)
        if not parts:
            raise InputError("The video would be shorter than one frame; ask for more seconds.")
        cine = Cine.join(parts)
        return GeneratedVideo(cine, cine)

    def _needs_until_s(self, context: Context, sampling: Sampling, ecg_start_s: float) -> float:
        """Return the time in s that the ECG must reach before the next window can be made."""
        timing = self.live_timing
        if not sampling.live or timing is None:
            return context.next_s + self.window_s + self.ecg_future_s
        part_s = timing.part_s if context.index else timing.first_s
        return max(context.next_s + part_s + timing.future_s, ecg_start_s + timing.lead_in_s)


def _too_short(end_s: float, start_s: float) -> InputError:
    """Return the error of a video that goes on after its ECG."""
    return InputError(f"The ECG ends at {end_s:.2f} s; from {start_s:.2f} s ask for at most {end_s - start_s:.2f} s.")


def ef_to_give(ef_percent: float, calibration: Sequence[tuple[float, float]]) -> float:
    """The EF in % to give to a network so that its videos have the one asked for.

    calibration: (EF given, EF that videos then have), both rising; the EF itself where there is none.
    """
    if not calibration:
        return ef_percent
    given, made = zip(*calibration, strict=True)
    return float(np.interp(ef_percent, made, given))


def pick_device(device: str | torch.device) -> torch.device:
    """The device of a name; auto is the first GPU, else the CPU. Raises `InputError` for one that is not there."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.zeros(1, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {device} is not available on this computer; use auto or cpu.") from error
    return picked


def hash_weights(folder: Path) -> str:
    """The first 16 hex digits of the SHA-256 over all weights and configs in a generator's folder, its adapters aside."""
    digest = hashlib.sha256()
    files = (p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json"))
    for path in sorted(p for p in files if p.relative_to(folder).parts[0] != ADAPTERS):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
