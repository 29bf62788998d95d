"""TED: 98 patients of CAMUS, one whole heartbeat each in the four-chamber view, every frame segmented.

FOLDER/database/patientNNN/patientNNN_4CH_sequence[_gt].mhd and .raw   end-diastole to the next end-diastole
                           patientNNN_4CH_info.cfg                     lines "Key: value" as in CAMUS, without a frame rate

Source: Painchaud et al., IEEE TMI 41, 2022. Masks: 0 background, 1 left ventricle, 2 myocardium. The patients are in CAMUS,
too: train on one and test on the other only with these patients kept on one side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from echogen.datasets.camus import CamusInfo, read_info, read_sequence
from echogen.datasets.table_loader import TableEntry, TableVideos
from echogen.datasets.tables import Source
from echogen.datasets.tracings import beat_between
from echogen.errors import InputError
from echogen.records import Cine, Study

#: Name of the data set, and the place to get it.
SOURCE = Source("TED", "the data are at https://www.creatis.insa-lyon.fr/Challenge/ted")


class Ted(TableVideos[TableEntry]):
    """Sequences of TED as studies, patient by patient; a sequence is read when it is asked for.

    outlined: Structures that the masks show; all else is background in them.
    folder: Folder as downloaded, or the folder of the patients.
    fps: Frames per second where a cfg states none, as the published ones do not.
    skip_missing: True leaves out patients without a sequence (their names are in `missing`); False raises `InputError`.

    A study has masks of every frame where the file has them, no ECG, pixels made square, and the beat from ED to ES.
    Raises `InputError` for a file that is missing or malformed.
    """

    outlined = ("lv", "myocardium", "la")

    def __init__(self, folder: str | Path, *, fps: float | None = None, skip_missing: bool = False) -> None:
        folder = Path(folder)
        self.fps = fps
        place = folder / "database" if (folder / "database").is_dir() else folder
        patients = [path for path in sorted(place.glob("patient*")) if path.is_dir()]
        if not patients:
            raise InputError(f"There are no folders patientNNN in {place}; name the folder of TED ({SOURCE.where}).")
        listed = [(TableEntry(patient.name), patient / f"{patient.name}_4CH_sequence.mhd") for patient in patients]
        super().__init__(
            folder, listed, table=f"the folder {place.name}", part="the data set", source=SOURCE, skip_missing=skip_missing
        )

    def info(self, index: int) -> CamusInfo:
        """Read the cfg of the sequence with this index. Raises `InputError` where it is missing or malformed."""
        return read_info(self.paths[index].with_name(f"{self.entries[index].name}_4CH_info.cfg"), SOURCE.where)

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where one of its files is damaged or no frame rate is known."""
        path, info = self.paths[index], self.info(index)
        fps = info.fps or self.fps
        if fps is None:
            raise InputError(f"The cfg beside {path} states no FrameRate; give the frames per second (fps).")
        frames, masks, mm_per_pixel = read_sequence(path, info, SOURCE.where)
        cine = Cine(frames, np.arange(len(frames)) / fps, mm_per_pixel, "A4C")
        beats = beat_between(cine, info.ed_frame, info.es_frame, path.name, info.edv_ml, info.esv_ml)
        return Study(None, cine, info.ef_percent, info.sex, beats, masks)
