"""What a user calls: a generator turns conditions into echo video, window by window."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from echogen.ecg_window.stream import EcgStream
from echogen.errors import InputError
from echogen.generators.loading import GENERATOR_FILE, SHIPPED, hash_weights, load_generator, pick_device, switch_adapter
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

#: How much of the ECG before (for the rhythm) and after a window it usually sees.
ECG_PAST_S, ECG_FUTURE_S = 8.0, 1.0


@dataclass(frozen=True)
class Sampling:
    """How to sample: guidance scale (1 = none), decoding steps, seed. None takes the generator's own default.

    live: in short parts along with an ECG that is being recorded; see `LiveTiming`.
    """

    guidance: float | None = None
    steps: int | None = None
    seed: int = 0
    live: bool = False

    def __post_init__(self) -> None:
        if self.guidance is not None and not 0 <= self.guidance <= 20:
            raise InputError(f"The guidance scale must lie between 0 and 20, not {self.guidance}.")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise InputError(f"The number of steps must lie between 1 and 1000, not {self.steps}.")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"The seed must be a number from 0 to 2^63 - 1, not {self.seed}.")


@dataclass(frozen=True)
class LiveTiming:
    """How closely a generator follows an ECG that is being recorded, in s.

    first_s, part_s: how much video the first and each further part holds. future_s: ECG that it hears beyond a part.
    lead_in_s: ECG before which nothing begins.
    """

    first_s: float
    part_s: float
    future_s: float
    lead_in_s: float

    @property
    def delay_s(self) -> float:
        """How far a frame lies behind the ECG at most when its part can be made, the time to make it not included."""
        return self.part_s + self.future_s


@dataclass(frozen=True)
class Context:
    """What a window hands to the next one: its number, the time of the next frame in s, and whatever the subclass keeps."""

    index: int
    next_s: float
    state: dict[str, Any] = field(default_factory=dict)


class Generator(ABC):
    """A system that makes echo video; one subclass a system, known to `from_pretrained` through `loading.GENERATORS`.

    `stream` is the one loop; calling the generator joins its parts. Window i draws its noise from (seed, i), so both give the
    same frames. On disk a generator is a folder: generator.json and one subfolder a network.
    """

    system: ClassVar[str]

    name: str
    native_fps: float
    takes: frozenset[str]
    weights_hash: str
    ef_range: tuple[float, float] = (0.0, 100.0)
    #: A window sees the ECG from this long before it to this long after it.
    ecg_past_s: float = ECG_PAST_S
    ecg_future_s: float = ECG_FUTURE_S
    #: The longest video it makes, and whether it shows only hearts that a frame of is given.
    longest_s: float = np.inf
    needs_frame: bool = False
    #: Folder it was loaded from, None for one that was made in the program.
    folder: Path | None = None
    #: Adapter in use, None for none, and the weights that it changed as they were before.
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
        switch_adapter(self, name_or_dir)

    @property
    def live(self) -> LiveTiming | None:
        """How it follows an ECG that is being recorded; None: it cannot."""
        return None

    @abstractmethod
    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """The next frames after `context` and the context after them.

        conditions.ecg holds what is known of the ECG around the window: `ecg_past_s` before to `ecg_future_s` after it.
        """

    def prepared(self, conditions: Conditions, sampling: Sampling) -> dict[str, Any]:
        """What the first window's context holds: whatever a subclass can make before it has heard enough of the ECG."""
        return {}

    @property
    @abstractmethod
    def window_s(self) -> float:
        """The longest time that one window covers in s."""

    def stream(
        self,
        ecg: Ecg | Iterable[Ecg] | None,
        *,
        start_s: float | None = None,
        seconds: float | None = None,
        ef_percent: float | None = None,
        view: str | None = None,
        sex: str | None = None,
        text: str | None = None,
        frames: Cine | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        live: bool = False,
    ) -> Iterator[Cine]:
        """Parts of a video, one after the other, in constant memory.

        ecg: a whole ECG, consecutive pieces of one as they arrive, or None. start_s: time of the first frame on the ECG's clock
        (its beginning). seconds: None goes on to the ECG's end. ef_percent, view, sex, text (a sentence), frames (a reference
        image): conditions, each of which may be absent. live: short parts, each as soon as the ECG that it needs is there (see
        `LiveTiming`); another video than without, but the same one however the ECG is cut into pieces. Raises `InputError` for
        what the generator does not take.
        """
        sampling = Sampling(guidance, steps, seed, live)
        if live and self.live is None:
            raise InputError(f"The generator {self.name} cannot follow a live ECG; leave live out.")
        conditions = Conditions(frames=frames, ef_percent=ef_percent, view=view, sex=sex, text=text)
        self._check(replace(conditions, ecg=ecg if isinstance(ecg, Ecg) else None))
        if ecg is None and seconds is None:
            raise InputError("Without an ECG the length of the video must be given in seconds.")
        source = EcgStream(ecg)
        start = source.start_s if start_s is None else start_s
        if start < source.start_s - 1e-6:
            raise InputError(f"The video cannot start at {start:.2f} s: the ECG begins at {source.start_s:.2f} s.")
        end = np.inf if seconds is None else start + seconds
        context = Context(0, start, self.prepared(conditions, sampling))
        interval = 1.0 / self.native_fps
        while context.next_s < end - 0.5 * interval:
            part = source.around(context.next_s - self.ecg_past_s, self._needs_until_s(context, sampling, source.start_s))
            last = min(end, source.end_s)
            if context.next_s >= last - 0.5 * interval:
                if seconds is not None:
                    raise InputError(
                        f"The ECG ends at {source.end_s:.2f} s; from {start:.2f} s ask for at most {source.end_s - start:.2f} s."
                    )
                return
            cine, context = self.window(replace(conditions, ecg=part), context, sampling)
            keep = cine.times_s < last - 0.5 * interval
            yield cine if keep.all() else replace(cine, frames=cine.frames[keep], times_s=cine.times_s[keep])

    def __call__(
        self,
        ecg: Ecg | None,
        *,
        seconds: float | None = None,
        start_s: float | None = None,
        ef_percent: float | None = None,
        view: str | None = None,
        sex: str | None = None,
        text: str | None = None,
        frames: Cine | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        live: bool = False,
        progress: Callable[[float, float], None] | None = None,
    ) -> Cine:
        """The whole video; see `stream`. progress(seconds made, seconds in all) is called after each window."""
        begin = start_s if start_s is not None else (ecg.start_s if ecg is not None else 0.0)
        if seconds is not None and not 0 < seconds <= 24 * 3600:
            raise InputError(f"The length must be between 0 and 86400 seconds, not {seconds}.")
        if ecg is not None:
            if seconds is not None and begin + seconds > ecg.end_s + 0.5 / self.native_fps:
                raise InputError(
                    f"The ECG ends at {ecg.end_s:.2f} s; from {begin:.2f} s ask for at most {ecg.end_s - begin:.2f} s."
                )
            seconds = seconds if seconds is not None else ecg.end_s - begin
        parts: list[Cine] = []
        options: dict[str, Any] = {"ef_percent": ef_percent, "view": view, "sex": sex, "text": text, "frames": frames}
        options |= {"guidance": guidance, "steps": steps, "seed": seed, "live": live}
        for part in self.stream(ecg, start_s=start_s, seconds=seconds, **options):
            parts.append(part)
            if progress and seconds:
                progress(float(part.times_s[-1]) - begin, seconds)
        if not parts:
            raise InputError("The video would be shorter than one frame; ask for more seconds.")
        return replace(
            parts[0], frames=np.concatenate([p.frames for p in parts]), times_s=np.concatenate([p.times_s for p in parts])
        )

    def _needs_until_s(self, context: Context, sampling: Sampling, ecg_start_s: float) -> float:
        """How far the ECG must reach before the next window can be made."""
        if not sampling.live or self.live is None:
            return context.next_s + self.window_s + self.ecg_future_s
        part_s = self.live.part_s if context.index else self.live.first_s
        return max(context.next_s + part_s + self.live.future_s, ecg_start_s + self.live.lead_in_s)

    def _check(self, conditions: Conditions) -> None:
        for name in ("ecg", "frames", "ef_percent", "view", "sex", "text"):
            if getattr(conditions, name) is not None and name not in self.takes:
                raise InputError(
                    f"The generator {self.name} does not take the condition {name}; it takes {', '.join(sorted(self.takes))}."
                )
        low, high = self.ef_range
        if conditions.ef_percent is not None and not low <= conditions.ef_percent <= high:
            raise InputError(
                f"The generator {self.name} knows ejection fractions from {low:g} to {high:g} %, not {conditions.ef_percent:g}."
            )


def ef_to_give(ef_percent: float, calibration: Sequence[tuple[float, float]]) -> float:
    """The EF in % to give to a network so that its videos have the one asked for.

    calibration: (EF given, EF that videos then have), both rising; the EF itself where there is none.
    """
    if not calibration:
        return ef_percent
    given, made = zip(*calibration, strict=True)
    return float(np.interp(ef_percent, made, given))
