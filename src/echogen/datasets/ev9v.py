"""EV9V: 5,138 cines of nine standard views, free to use (CC BY 4.0), split by patient.

FOLDER/{train,validation,test}_labeled.txt   lines "NAME VIEW"
       Videos/NAME.mp4                       320 x 240 pixels (from Videos.tar)

Source: Gou et al., 2026, https://huggingface.co/datasets/bgx666/EV9V. Names begin with the time of the examination.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from echogen.cine.reading import read_cine
from echogen.datasets.table_loader import TableEntry, TableVideos
from echogen.datasets.tables import Source
from echogen.errors import InputError
from echogen.records import VIEWS, Cine, Study

#: Names of the splits, which begin the names of the lists.
SPLITS = ("train", "validation", "test")
#: Number of videos of each split in the whole data set.
COMPLETE = {"train": 3683, "validation": 567, "test": 888}
#: Names of the views in the data set: parasternal (P...), apical (A4C, A5C) and subcostal (SC4C).
LABELS = ("PLHLA", "PMASA", "PMVLSA", "PASA", "A4C", "A5C", "PMPALA", "PPMLSA", "SC4C")
#: Name of the data set, and the place to get it.
SOURCE = Source("EV9V", "the data are at https://huggingface.co/datasets/bgx666/EV9V")
_SUFFIXES = (".mp4", ".avi")


@dataclass(frozen=True)
class Entry(TableEntry):
    """A line of a list.

    name: Name of the video without suffix.
    view: One of `LABELS`.
    split: One of `SPLITS`.
    """

    view: str
    split: str


class Ev9v(TableVideos[Entry]):
    """Videos of EV9V as studies, in the order of the lists; a video is read when it is asked for.

    folder: Folder of the lists and of Videos.
    split: "train", "validation", "test" or None for all lists that exist.
    views: Some of `LABELS`; None for all.
    fps: Frames per second instead of the rate that a video states.
    skip_missing: True leaves out listed videos that are missing (their names are in `missing`); False raises `InputError`.

    A study has no ECG and no EF; the cine of a view other than A4C has no view.
    Raises `InputError` for a folder, a list or a video that is missing or malformed.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str | None = None,
        *,
        views: Collection[str] | None = None,
        fps: float | None = None,
        skip_missing: bool = False,
    ) -> None:
        folder = Path(folder)
        if split is not None and split.lower() not in SPLITS:
            raise InputError(f"EV9V has the splits {', '.join(SPLITS)}, not {split!r}; name one of these.")
        if unknown := [view for view in views or () if view not in LABELS]:
            raise InputError(f"EV9V has the views {', '.join(LABELS)}, not {unknown[0]!r}; name these.")
        self.fps = fps
        lists = {name: folder / f"{name}_labeled.txt" for name in SPLITS}
        chosen = {name: path for name, path in lists.items() if (path.is_file() if split is None else name == split.lower())}
        if not chosen:
            raise InputError(f"There is no {lists['train'].name} in {folder}; name the folder of EV9V ({SOURCE.where}).")
        place = folder / "Videos" if (folder / "Videos").is_dir() else folder
        listed = [
            (entry, _video(place, entry.name))
            for name, path in chosen.items()
            for entry in _read_list(path, name)
            if views is None or entry.view in views
        ]
        part = f"the split {split or 'asked for'} and the views asked for"
        super().__init__(folder, listed, table="the list", part=part, source=SOURCE, skip_missing=skip_missing)

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where its video is damaged."""
        cine = read_cine(self.paths[index], fps=self.fps)
        view = self.entries[index].view
        return Study(None, Cine(cine.frames, cine.times_s, view=view if view in VIEWS else None))


def _video(place: Path, name: str) -> Path:
    """Path of a video; where no file exists, the path of the missing .mp4 file."""
    paths = [place / f"{name}{suffix}" for suffix in _SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def _read_list(path: Path, split: str) -> Iterator[Entry]:
    if not path.is_file():
        raise InputError(f"There is no {path.name} in {path.parent}; name the folder of EV9V ({SOURCE.where}).")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if label not in LABELS or not name.strip():
            raise InputError(f"Line {number} of {path} is not a name and one of nine views; get the file again ({SOURCE.where}).")
        yield Entry(name.strip().removesuffix(".mp4"), label, split)
