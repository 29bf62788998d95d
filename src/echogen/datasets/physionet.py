"""Folder of a PhysioNet project: the folder that was named, or its place in a mirror of physionet.org below that."""

from __future__ import annotations

from pathlib import Path


def project_folder(folder: Path, project: str, table: str) -> Path:
    """The folder that holds a project's table: this one, or the newest version below it; this one where there is none.

    project: its name in the addresses of PhysioNet, such as "ptb-xl". Both FOLDER/physionet.org/files/PROJECT/VERSION (as wget
    makes it) and FOLDER/PROJECT-...-VERSION (as the zip file unpacks) are found.
    """
    if (folder / table).is_file():
        return folder
    for below in (f"physionet.org/files/{project}/*", f"{project}/*", f"{project}*"):
        versions = sorted(folder.glob(f"{below}/{table}"))
        if versions:
            return versions[-1].parent
    return folder
