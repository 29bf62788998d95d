"""Base of all systems: a generator on disk, and the loop that makes its video window by window."""

from __future__ import annotations

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
from echogen.generators.loading import SHIPPED, hash_weights, load_generator, pick_device, switch_adapter
from echogen.generators.sampling import LiveTiming, Sampling, Span
from echogen.generators.settings_file import GENERATOR_FILE
from echogen.generators.video_generator import GeneratedVideo, Progress, VideoGenerator
from echogen.networks.adapters import Adapter, adapter_folders
from echogen.records import Cine, Conditions, Ecg

__all__ = [
    "ECG_FUTURE_S",
    "ECG_PAST_S",
    "GENERATOR_FILE",
    "SHIPPED",
    "Context",
    "Generator",
    "LiveTiming",
    "Sampling",
    "ef_to_give",
    "hash_weights",
    "pick_device",
]

#: ECG before a window that the window sees unless its system says otherwise, in s: some eight beats, for the rhythm.
ECG_PAST_S = 8.0
#: ECG after a window that the window sees, in s: the beat in which the window ends.
ECG_FUTURE_S = 1.0


@dataclass(frozen=True)
class Context:
    """Place of a window in its video, handed from one window to the next.

    index: number of the window, from 0.
    next_s: time of its first frame in s.
    state: whatever the system keeps from the window before; see `Generator.initial_state`.
    """

    index: int
    next_s: float
    state: Any = None


class Generator(VideoGenerator):
    """A system that makes echo video, window by window; one subclass a system, known by its name in `loading.GENERATORS`.

    `parts` is the only loop over windows, and a call joins its parts. Window i draws its noise from (seed, i), so that a stream
    and a call give the same frames. On disk a generator is a folder: generator.json and one subfolder a network.

    system: name of the system in generator.json.
    folder: where the generator was loaded from; None: made in memory.
    adapter: in use; None: the weights are as they were trained.
    unadapted: weights that the adapter changed, as they were before; None without an adapter.
    All other fields: see `VideoGenerator`.
    """

    system: ClassVar[str]

    ef_range: tuple[float, float] = (0.0, 100.0)
    ecg_past_s: float = ECG_PAST_S
    ecg_future_s: float = ECG_FUTURE_S
    longest_s: float = np.inf
    needs_reference: bool = False
    folder: Path | None = None
    adapter: Adapter | None = None
    unadapted: Mapping[str, torch.Tensor] | None = None

    @classmethod
    def from_pretrained(
        cls, name_or_dir: str | Path, device: str | torch.device = "auto", adapter: str | Path | None = None
    ) -> Generator:
        """Load a shipped generator by name, or one from a folder.

        name_or_dir: such as "phantom-128" (`echogen list models` names all), or a folder with generator.json.
        device: a device of torch, such as "cpu" or "cuda:1"; "auto" is the first GPU, else the CPU.
        adapter: see `use_adapter`.
        Raises `InputError` when there is none, its files are damaged, or no installed package brings its system.

        >>> import echogen
        >>> generator = echogen.Generator.from_pretrained("phantom-128", device="cpu")
        >>> ecg = echogen.simulate(seconds=4.0).ecg
        >>> video = generator(ecg, start_s=1.0, seconds=0.5, ef_percent=45.0, seed=0)
        >>> video.frames.shape
        (16, 128, 128)
        """
        return load_generator(name_or_dir, device, adapter)

    @classmethod
    @abstractmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        """Make the generator of a folder, for `from_pretrained`.

        settings: what its generator.json holds besides the system. `from_pretrained` sets name, weights_hash and folder.
        """

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator.json and the networks into a folder."""

    @property
    def adaptable(self) -> torch.nn.Module | None:
        """Network that an adapter changes; None where the system takes no adapter."""
        return None

    def adapters(self) -> list[str]:
        """List the names of the adapters in the generator's folder."""
        return [path.name for path in adapter_folders(self.folder)]

    def use_adapter(self, name_or_dir: str | Path | None) -> None:
        """Switch to an adapter, by its name in the generator's folder or by a folder of its own; None: back to no adapter.

        A generator that is saved while an adapter is in use has it merged into its weights. Raises `InputError` where there is
        no such adapter or it was made for other weights; no adapter is in use then.
        """
        switch_adapter(self, name_or_dir)

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
        """Make the frames of one window; return them and the context of the next window.

        conditions: of the whole video, but for the ECG: conditions.ecg holds the part from `ecg_past_s` before the window to
        `ecg_future_s` after it, as far as it was recorded.
        """

    def initial_state(self, conditions: Conditions, sampling: Sampling) -> Any:
        """Return the state in the first window's context: whatever a system can make before enough of the ECG is there."""
        return None

    @property
    @abstractmethod
    def window_s(self) -> float:
        """Longest time that one window covers, in s."""

    def parts(self, ecg: Ecg | Iterable[Ecg] | None, conditions: Conditions, sampling: Sampling, span: Span) -> Iterator[Cine]:
        """Yield the parts of a video, one window each; see `VideoGenerator.stream`."""
        seconds = span.seconds
        if sampling.live and self.live_timing is None:
            raise InputError(f"The generator {self.name} cannot follow a live ECG; leave live out.")
        if ecg is None and seconds is None:
            raise InputError("Without an ECG the length of the video must be given in seconds.")
        self._check_length(seconds)
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
        self._check_length(seconds)
        parts: list[Cine] = []
        for part in self.parts(ecg, conditions, sampling, span):
            parts.append(part)
            if progress and seconds:
                progress(float(part.times_s[-1]) - begin, seconds)
        if not parts:
            raise InputError("The video would be shorter than one frame; ask for more seconds.")
        cine = Cine.join(parts)
        return GeneratedVideo(cine, cine)

    def _check_length(self, seconds: float | None) -> None:
        """Raise `InputError` for a video that is longer than the system can make."""
        if seconds is not None and seconds > self.longest_s + 0.5 / self.native_fps:
            raise InputError(
                f"The generator {self.name} makes clips of {self.longest_s:g} s, not of {seconds:g}; ask for at most that."
            )

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
    """Return the EF in % to give to a network so that its videos have the EF asked for.

    calibration: pairs (EF given, EF of the videos) in %, both rising; the EF is unchanged where there is none.
    """
    if not calibration:
        return ef_percent
    given, made = zip(*calibration, strict=True)
    return float(np.interp(ef_percent, made, given))
