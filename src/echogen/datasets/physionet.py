"""Search for the folder of a PhysioNet project: the given folder itself, or a place in a mirror of physionet.org below it."""

from __future__ import annotations

from pathlib import Path


def project_folder(folder: Path, project: str, table: str) -> Path:
    """Find the folder that holds a project's table: `folder`, or the newest version below it; `folder` where there is none.

    folder: Folder to look in.
    project: Name of the project in the addresses of PhysioNet, such as "ptb-xl".
    table: File name of the table.

    Both FOLDER/physionet.org/files/PROJECT/VERSION (as wget makes it) and FOLDER/PROJECT-...-VERSION (as the zip file unpacks)
    are found.
    """
    if (folder / table).is_file():
        return folder
    for below in (f"physionet.org/files/{project}/*", f"{project}/*", f"{project}*"):
        versions = sorted(folder.glob(f"{below}/{table}"))
        if versions:
            return versions[-1].parent
    return folder
