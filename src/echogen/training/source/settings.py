"""The settings of a training source, as a recipe's `data` states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from echogen.errors import InputError

#: Present names of settings of a source by their former ones, see `recipe.with_present_names`.
FORMER_NAMES = {"data.clips": "data.source"}
#: Name of the source that renders simulated hearts while training runs, and of the data set of a store of rendered clips.
PHANTOM = "phantom"
#: Length in s of the phantom's clips where windows need no longer ones.
PHANTOM_SECONDS = 3.0


@dataclass(frozen=True)
class SourceEntry:
    """One source of samples in a mixture.

    source: Name `phantom`, or a folder: shards, a clip store, a data set that is recognised, or videos; or the address (s3://,
        gs://, hf://, https://) of a folder of shards.
    weight: Share of the windows that come from this source, relative to the other entries.
    dataset: Name of the data set in the folder, where it is not recognised by its files.
    split: Only samples of this split, by their label `split`; None takes all.
    look: Look of the phantom's pictures, one of `phantom.looks.LOOKS`; for the source `phantom` only.
    seconds: Length in s of the phantom's clips, `PHANTOM_SECONDS` or what a window needs unless stated; for the source `phantom`
        only.
    hearts: Number of simulated hearts; for the source `phantom` only.
    options: Further options of the data set's loader.
    """

    source: str
    weight: float = 1.0
    dataset: str | None = None
    split: str | None = None
    look: str = "varied"
    seconds: float | None = None
    hearts: int = 1_000_000
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"The weight of the source {self.source} must be above 0, not {self.weight}.")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"The phantom's clips must be longer than 0 s, not {self.seconds}.")
        if self.hearts < 1:
            raise InputError(f"The phantom needs at least one heart, not {self.hearts}.")


@dataclass(frozen=True)
class SourceSettings:
    """Source of a task's training windows.

    source: A folder or `phantom`, or a list of them or of entries (`SourceEntry`) that are mixed by their weights.
    picture: Picture of the frames: `canonical` finds the sector, `whole` takes all that the file shows.
    held_out: Share of the patients (0..1) that training never sees, chosen by a hash of the patient's name.
    of_held_out: True gives windows of the held-out patients instead, for validation.
    cache: Folder in which clips in the canonical picture are kept; None keeps the last ones in memory only.
    damaged: Treatment of samples that cannot be read: `refuse` stops, `skip` names each in the log and takes another.
    """

    source: str | SourceEntry | tuple[str | SourceEntry, ...] | None = None
    picture: Literal["canonical", "whole"] = "canonical"
    held_out: float = 0.0
    of_held_out: bool = False
    cache: str | None = None
    damaged: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        if not 0.0 <= self.held_out < 1.0:
            raise InputError(f"The held-out share of patients must be at least 0 and below 1, not {self.held_out}.")
        if self.source is not None and not self.source:
            raise InputError("The recipe's data.source names no source; give a folder, phantom, or a list of them.")

    @property
    def entries(self) -> tuple[SourceEntry, ...]:
        """The sources of the mixture. Raises `InputError` where none is set."""
        if self.source is None:
            raise InputError("The recipe lacks the setting data.source; add it: a folder, phantom, or a list of them.")
        listed = (self.source,) if isinstance(self.source, str | SourceEntry) else self.source
        return tuple(entry if isinstance(entry, SourceEntry) else SourceEntry(entry) for entry in listed)
