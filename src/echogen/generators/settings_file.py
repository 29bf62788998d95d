"""Reading and writing of generator.json, the settings in a generator's folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from echogen.errors import InputError

GENERATOR_FILE = "generator.json"
#: Conditions that generator.json calls by another name than `Conditions` does; folders of every release stay readable.
NAMES_ON_DISK = {"reference": "frames"}


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a generator's folder, "system" among them; conditions are named like the fields of `Conditions`.

    Raises `InputError` for a file that is damaged.
    """
    path = folder / GENERATOR_FILE
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        settings["system"]
        if "takes" in settings:
            names = {on_disk: name for name, on_disk in NAMES_ON_DISK.items()}
            settings["takes"] = [names.get(name, name) for name in settings["takes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged; get the generator's folder again.") from error
    return settings


def write_settings(folder: Path, system: str, config: Any) -> None:
    """Write a system's name and its config, a dataclass, as the generator.json of a folder."""
    settings = {"system": system, **asdict(config)}
    if "takes" in settings:
        settings["takes"] = [NAMES_ON_DISK.get(name, name) for name in settings["takes"]]
    (folder / GENERATOR_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
