"""Registry of the data sets that can be opened by name: meaning, place to ask for it, and the files that identify a folder."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from echogen.errors import InputError
from echogen.registry import Registry


class Records(Protocol):
    """Records of an opened folder, each read by index on request, with their names in the same order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any:
        """Read the record with this index; raises `InputError` where its files are damaged."""

    def __iter__(self) -> Iterator[Any]: ...

    @property
    def names(self) -> list[str]:
        """Name of each record, in order."""


@dataclass(frozen=True)
class Sign:
    """A path that only one data set has.

    pattern: Glob pattern below the folder.
    columns: Columns that the table at this path must have, too; empty for a path that is no table.
    """

    pattern: str
    columns: tuple[str, ...] = ()

    def in_folder(self, folder: Path) -> bool:
        """True if the folder has this sign."""
        path = next(folder.glob(self.pattern), None)
        return path is not None and set(self.columns) <= set(_header(path) if self.columns else ())


@dataclass(frozen=True)
class DatasetEntry:
    """A data set that can be opened by name.

    what: Content of the data set, in one line.
    where: Address to ask for or to get the data, or the way to make them.
    loader: "module:class", called with the folder and options.
    signs: Signs of a folder, any of which identifies the data set.
    yields: Type of its records, "Study", "Ecg" or "PatientPair".
    """

    what: str
    where: str
    loader: str
    signs: tuple[Sign, ...]
    yields: str = "Study"


#: Folder to which the archive of EchoNet-Pediatric unpacks, at times twice.
_PEDIATRIC = "pediatric_echo_avi/"

_BUILT_IN: dict[str, DatasetEntry] = {
    "echonet-dynamic": DatasetEntry(
        what="10,030 four-chamber videos of 112 x 112 pixels with EF, volumes and two traced frames each",
        where="https://echonet.github.io/dynamic",
        loader="echogen.datasets.echonet_dynamic:EchoNetDynamic",
        signs=(Sign("FileList.csv", ("FileName", "EF", "ESV", "EDV", "FPS", "NumberOfFrames", "Split")),),
    ),
    "echonet-pediatric": DatasetEntry(
        what="7,810 four-chamber and short-axis videos of children with EF and two traced frames each",
        where="https://echonet.github.io/pediatric",
        loader="echogen.datasets.echonet_pediatric:EchoNetPediatric",
        signs=tuple(
            Sign(f"{place}FileList.csv", ("FileName", "EF", "Age", "Weight", "Split"))
            for nested in ("", _PEDIATRIC, _PEDIATRIC * 2, f"echonetpediatric/{_PEDIATRIC * 2}")
            for place in (f"{nested}A4C/", f"{nested}PSAX/", nested)
        ),
    ),
    "echonet-lvh": DatasetEntry(
        what="12,000 parasternal long-axis videos with measured walls and diameters of the left ventricle",
        where="https://echonet.github.io/lvh",
        loader="echogen.datasets.echonet_lvh:EchoNetLvh",
        signs=(Sign("MeasurementsList.csv", ("HashedFileName", "Calc", "CalcValue")),),
    ),
    "camus": DatasetEntry(
        what="500 patients, a two- and a four-chamber half cycle each, every frame segmented",
        where="https://www.creatis.insa-lyon.fr/Challenge/camus",
        loader="echogen.datasets.camus:Camus",
        signs=tuple(Sign(f"{place}patient*/Info_4CH.cfg") for place in ("database_nifti/", "training/", "")),
    ),
    "ted": DatasetEntry(
        what="98 patients, a whole heart beat each in the four-chamber view, every frame segmented; needs the frame rate",
        where="https://www.creatis.insa-lyon.fr/Challenge/ted",
        loader="echogen.datasets.ted:Ted",
        signs=(Sign("database/patient*/patient*_4CH_info.cfg"), Sign("patient*/patient*_4CH_info.cfg")),
    ),
    "mimic-lvvol": DatasetEntry(
        what="MIMIC-IV-Echo-Ext-LVVol-A4C: four-chamber DICOM clips with measured volumes and a burned-in ECG",
        where="https://physionet.org/content/mimic-iv-echo-ext-lvvol-a4c",
        loader="echogen.datasets.mimic_lvvol:MimicLvVolumes",
        signs=tuple(
            Sign(f"{place}FileList.csv", ("study_id", "LVEDV_A4C", "LVEF_A4C"))
            for place in ("", "physionet.org/files/mimic-iv-echo-ext-lvvol-a4c/*/")
        ),
    ),
    "ev9v": DatasetEntry(
        what="5,138 cines of nine standard views, free to use (CC BY 4.0)",
        where="https://huggingface.co/datasets/bgx666/EV9V",
        loader="echogen.datasets.ev9v:Ev9v",
        signs=(Sign("train_labeled.txt"), Sign("validation_labeled.txt"), Sign("test_labeled.txt")),
    ),
    "echoxflow": DatasetEntry(
        what="37,125 beamspace recordings of 666 examinations with their ECG on the same clock and contours of the heart",
        where="https://huggingface.co/datasets/Ahus-AIM/EchoXFlow",
        loader="echogen.datasets.echoxflow:EchoXFlow",
        signs=(Sign("exams/exam_*"), Sign("exam_*/*.zarr")),
    ),
    "mimic-pairs": DatasetEntry(
        what="MIMIC-IV-ECHO with MIMIC-IV-ECG: echo clips and 12-lead ECGs of the same patients, not of the same beats",
        where="https://physionet.org/content/mimic-iv-echo",
        loader="echogen.datasets.mimic_pairs:MimicPairs",
        signs=tuple(Sign(f"{place}echo-record-list.csv") for place in ("", "physionet.org/files/mimic-iv-echo/*/")),
        yields="PatientPair",
    ),
    "ptb-xl": DatasetEntry(
        what="21,799 clinical 12-lead ECGs of 10 s with the statements of cardiologists, in ten folds (no echo)",
        where="https://physionet.org/content/ptb-xl",
        loader="echogen.datasets.ptb_xl:PtbXl",
        signs=tuple(Sign(f"{place}ptbxl_database.csv") for place in ("", "physionet.org/files/ptb-xl/*/", "ptb-xl*/")),
        yields="Ecg",
    ),
    "code-15": DatasetEntry(
        what="345,779 12-lead ECGs of 7 or 10 s with six diagnoses and follow-up (no echo)",
        where="https://zenodo.org/records/4916206",
        loader="echogen.datasets.code_15:Code15",
        signs=(Sign("exams.csv", ("exam_id", "trace_file", "1dAVb")),),
        yields="Ecg",
    ),
    "phantom": DatasetEntry(
        what="simulated clips with their ECG and every beat's volumes, as rendered for training",
        where="echogen render -o FOLDER",
        loader="echogen.datasets.local_studies:PhantomStudies",
        signs=(Sign("shard_*/hearts.json"),),
    ),
    "paired-folder": DatasetEntry(
        what="a folder of your own: videos in folders `video`, pickled ECGs of the same name in folders `ekg`",
        where="your own recordings",
        loader="echogen.datasets.local_studies:PairedStudies",
        signs=(Sign("ekg/*.pkl"), Sign("*/ekg/*.pkl"), Sign("ekg/*/*.pkl")),
    ),
}


#: Data sets by name; a package adds its own by an entry point of `echogen.datasets`. A folder is recognised as the first data
#: set of which it has a sign.
DATASETS: Registry[DatasetEntry] = Registry(
    "data set",
    "echogen.datasets",
    "echogen.datasets.registry:DatasetEntry",
    _BUILT_IN,
    meaning=lambda entry: entry.what,
)


def open_dataset(name: str, folder: str | Path, **options: Any) -> Records:
    """Open a data set on disk: records by index, each read when it is asked for.

    name: Name in `DATASETS`; `echogen list datasets` lists all.
    folder: Folder of the data set, as published.
    options: Options of its loader, such as split="TEST".
    Returns records with `names` in the same order; `Study`, `Ecg` or, for mimic-pairs, a pair of both.
    Raises `InputError` for an unknown name, an option that the loader does not take, and as the loader does.

    >>> import echogen
    >>> from echogen.datasets.paired_folder import write_phantom_pairs
    >>> write_phantom_pairs("clips", 2, frames=16, size=64)
    >>> studies = echogen.open_dataset("paired-folder", "clips")
    >>> len(studies), studies[0].cine.frames.shape
    (2, (16, 64, 64))
    """
    loader = dataset_loader(name)
    if not Path(folder).is_dir():
        raise InputError(f"There is no folder {folder}; name the folder that holds the data set {name}.")
    taken = set(loader_options(loader))
    if unknown := sorted(set(options) - taken):
        raise InputError(f"The data set {name} takes no option {unknown[0]!r}; it takes {', '.join(sorted(taken)) or 'none'}.")
    records: Records = loader(folder, **options)
    return records


def dataset_loader(name: str) -> Callable[..., Records]:
    """Import the loader of a data set. Raises `InputError` for an unknown name."""
    module, kind = DATASETS.find(name).loader.split(":")
    loader: Callable[..., Records] = getattr(import_module(module), kind)
    return loader


def loader_options(loader: Callable[..., Records]) -> list[str]:
    """Names of the options that a loader takes after its folder."""
    return list(inspect.signature(loader).parameters)[1:]


def recognise(folder: str | Path) -> str | None:
    """Name of the data set in a folder, by the names of its files and the columns of its tables; None for an unknown one."""
    folder = Path(folder)
    if not folder.is_dir():
        return None
    return next((name for name, entry in DATASETS.usable() if any(sign.in_folder(folder) for sign in entry.signs)), None)


def _header(path: Path) -> list[str]:
    """Column names of a table; empty for a file that is no table."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
