"""ECGs in Excel workbooks (.xlsx): one sheet is read as a table of text, one column a lead. Needs openpyxl."""

from __future__ import annotations

import datetime
import warnings
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

from echogen.ecg.source import Source
from echogen.ecg.tables import MAXIMUM_COLUMNS, table_layout
from echogen.ecg.text import is_comment
from echogen.ecg.text_source import open_lines
from echogen.errors import InputError

#: Bytes of the largest workbook that is read, unpacked; times that its parts may be larger than packed; sheets; cells of a sheet.
_MAXIMUM_BYTES = 256 * 2**20
_LARGEST_RATIO = 200
_MAXIMUM_SHEETS = 50
_MAXIMUM_CELLS = 5_000_000
_HEAD_LINES = 440


def is_xlsx(path: Path) -> bool:
    """Tell whether a zip file is an Excel workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _check_size(path: Path, where: str) -> None:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(item.file_size for item in archive.infolist())
    if unpacked > _MAXIMUM_BYTES or unpacked > _LARGEST_RATIO * max(path.stat().st_size, 1):
        raise InputError(f"{where} is too large to be read; save the sheet as CSV, or a shorter part of it.")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime | datetime.time):
        return value.isoformat()
    return " ".join(str(value).split())


def _lines(sheet: Any, where: str) -> list[str]:
    """The rows of a sheet as lines with tabs between their cells, without empty rows and the empty columns at their end."""
    rows: list[list[str]] = []
    cells = 0
    for row in sheet.iter_rows(values_only=True):
        kept = [_cell(value) for value in islice(row, MAXIMUM_COLUMNS + 1)]
        while kept and not kept[-1]:
            kept.pop()
        cells += len(kept)
        if cells > _MAXIMUM_CELLS:
            raise InputError(f"{where} holds more than {_MAXIMUM_CELLS:,} cells; save long ECGs as EDF, WFDB or NPY.")
        if kept:
            rows.append(kept)
    width = max((len(row) for row in rows), default=0)
    return ["\t".join([*row, *[""] * (max(width, 2) - len(row))]) for row in rows]


def open_xlsx(path: Path, mv_of_unit: float | None, rate_hz: float | None, record: str | None) -> Source:
    """Open a sheet of an Excel workbook; `record` is its name, without which the sheet of most rows is read.

    Raises `InputError` without openpyxl, for a workbook that is damaged, too large or no table, and for an unknown sheet.
    """
    where = f"The workbook {path.name}"
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise InputError("Reading Excel workbooks needs openpyxl: install echogen[formats], or save the sheet as CSV.") from error
    try:
        _check_size(path, where)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
            sheets = {sheet.title: _lines(sheet, where) for sheet in book.worksheets[:_MAXIMUM_SHEETS]}
            book.close()
    except InputError:
        raise
    except Exception as error:  # damaged workbooks raise many kinds
        raise InputError(f"{where} cannot be read; it is cut short, encrypted or damaged.") from error
    if not any(sheets.values()):
        raise InputError(f"{where} holds no numbers.")
    if record is not None and record not in sheets:
        raise InputError(f"{where} has no sheet {record!r}; its sheets are {', '.join(list(sheets)[:8])}.")
    title = record if record is not None else max(sheets, key=lambda name: len(sheets[name]))
    lines = sheets[title]
    layout = table_layout(lines[:_HEAD_LINES], where, "utf-8")
    rows = [line for line in lines[layout.skip :] if not is_comment(line)]
    found = open_lines(lambda: rows, layout, where, path.name, mv_of_unit, rate_hz)
    return Source(
        "Excel",
        found.lead_names,
        found.rate_hz,
        found.samples,
        found.read,
        title,
        found.rate_source,
        found.unit_source,
        found.notes,
    )
