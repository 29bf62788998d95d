"""Errors that stand beside figures: of recordings of patients where the pictures are real, else of clips of known truth."""

from __future__ import annotations

import json
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from echogen.cine.dicom_opening import is_dicom, read_dataset
from echogen.cine.reading import first_bytes
from echogen.measurement.regression import regressor_error
from echogen.measurement.shipped import WEIGHTS, truth_error

#: Largest file beside a video in bytes that is looked into.
_LARGEST = 20_000_000
#: Manufacturer of the DICOM files that echogen writes, all of which are marked as synthetic.
_MANUFACTURER = "echogen"


def is_generated(path: Path) -> bool:
    """True for a video file that states that echogen made it; a file that states nothing is taken for a recording of a patient.

    path: Looked at are the attributes of a DICOM file, the document in an NPZ file, and the JSON beside any file that
    `generate` (NAME.json) and `simulate` (truth.json) leave.
    """
    if is_dicom(first_bytes(path)):
        try:
            return str(read_dataset(path, stop_before_pixels=True).get("Manufacturer", "")) == _MANUFACTURER
        except Exception:  # pydicom raises many kinds for damaged files
            return False
    beside = _json(path.with_suffix(".json"))
    if beside.get("synthetic") is True or {"model", "weights_hash"} <= beside.keys():
        return True
    if path.stem == "cine" and {"rhythm", "beats"} <= _json(path.parent / "truth.json").keys():
        return True
    return _about(path).get("synthetic") is True


def _json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty where there is none, or none that is an object."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _about(path: Path) -> dict[str, Any]:
    """Document `about` in an NPZ file that the service made; empty without one."""
    if path.suffix.lower() != ".npz":
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("about.npy").file_size > _LARGEST:
                return {}
        with np.load(path, allow_pickle=False) as held:
            document = json.loads(str(held["about"]))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile):
        return {}
    return document if isinstance(document, dict) else {}


@lru_cache(maxsize=2)
def real_errors(network: str) -> dict[str, dict[str, Any]]:
    """Error on recordings of patients by name of the figure, as benchmarks/real.py found it; empty where it was not run.

    Each has n (recordings), of (a phrase for them), unit, bias, mean and median (of the absolute error), and within_95: the
    absolute error that 95 % of the recordings do not exceed.
    """
    path = WEIGHTS / network / "real_errors.json"
    if not path.is_file():
        return {}
    figures: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return figures


def measuring_error(network: str, *, generated: bool, own_regressor: bool = False) -> dict[str, Any]:
    """Error of the EF and of the times of a shipped network.

    network: Its name. generated: False for pictures of patients. own_regressor: The EF regressor is a user's own, whose error is
    not known.
    Returns the keys of `truth_error`, pictures ("real" or "generated") and ef_regressor_mae_percent; for real pictures also of,
    ef_median_percent and ef_within_95_percent. None is what nobody measured, such as times on recordings of patients.
    """
    if generated:
        second = None if own_regressor else regressor_error()["ef_mae_percent"]
        return {"pictures": "generated"} | truth_error(network) | {"ef_regressor_mae_percent": second}
    errors = real_errors(network)
    ef, regressor = errors.get("ef_percent", {}), errors.get("ef_regressor_percent", {})
    return {
        "pictures": "real",
        "n": ef.get("n", 0),
        "of": ef.get("of"),
        "ef_mae_percent": ef.get("mean"),
        "ef_bias_percent": ef.get("bias"),
        "ef_median_percent": ef.get("median"),
        "ef_within_95_percent": ef.get("within_95"),
        "es_median_ms": None,
        "matched_fraction": None,
        "ef_regressor_mae_percent": None if own_regressor else regressor.get("mean"),
        "command": "python benchmarks/real.py",
    }
