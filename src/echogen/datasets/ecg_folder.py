"""Folders of ECG files of any supported format, about which nothing else is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from echogen.ecg.formats import read_ecg
from echogen.errors import InputError
from echogen.records import Ecg

#: Suffixes of ECG files. The header (.hea) stands for a WFDB record, since it names its other files.
SUFFIXES = frozenset({
    ".hea", ".dcm", ".edf", ".bdf", ".xml", ".scp", ".ecg", ".csv", ".txt",
    ".mat", ".npy", ".npz", ".h5", ".hdf5", ".atc", ".pdf",
})  # fmt: skip


class EcgFolder:
    """ECG files in a folder and all folders below it, in the order of their names; hidden files are passed over.

    folder: Folder to search.
    rate_hz: Sampling rate in Hz of files that do not state it.
    unit: Unit of files that do not state it, mV, uV or V.
    Raises `InputError` for a folder that is missing or holds no ECG file.
    """

    def __init__(self, folder: str | Path, *, rate_hz: float | None = None, unit: str | None = None) -> None:
        self.folder, self.rate_hz, self.unit = Path(folder), rate_hz, unit
        if not self.folder.is_dir():
            raise InputError(f"There is no folder {folder}; name the folder that holds the ECG files.")
        files = (path for path in self.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        self.files = sorted(path for path in files if not _is_hidden(path.relative_to(self.folder)))
        if not self.files:
            raise InputError(f"There is no ECG file in {folder}; name the folder that holds them.")

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Ecg]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Path of each file below the folder, in order."""
        return [path.relative_to(self.folder).as_posix() for path in self.files]

    def source(self, index: int) -> Path:
        """Path of the ECG file with this index."""
        return self.files[index]

    def __getitem__(self, index: int) -> Ecg:
        """Read the ECG with this index. Raises `InputError` for a file that is no ECG, or damaged."""
        return read_ecg(self.files[index], rate_hz=self.rate_hz, unit=self.unit)


def _is_hidden(path: Path) -> bool:
    """True for a path with a part that begins with a full stop."""
    return any(part.startswith(".") for part in path.parts)
