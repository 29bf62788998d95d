"""Importers that turn released weights of other projects into folders that echogen loads, one for each system."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor

from echogen.checkpoints.echodiffusion import echodiffusion_from
from echogen.checkpoints.echopulse_weights import networks_from, split
from echogen.checkpoints.ef_regressor import ef_regressor_from
from echogen.checkpoints.reading import read_tensors
from echogen.checkpoints.st_mem import st_mem_from
from echogen.errors import InputError
from echogen.files import whole_folder
from echogen.generators.echopulse.published import EchoPulsePublished, EchoPulsePublishedConfig
from echogen.networks.config import save_network
from echogen.networks.published_tokenizer import PublishedTokenizer
from echogen.networks.published_transformer import PublishedTransformer
from echogen.networks.st_mem import StMem
from echogen.registry import Registry

#: Tensors of each file by released name.
Files = list[dict[str, Tensor]]
#: Config in a manifest.json beside the files: sizes by network (cvivit, stmem), frames (of a window), and the input of an EF
#: regressor (ef_regressor); or content of a config.yaml (EchoDiffusion's); {} without either.
Given = Mapping[str, Any]

#: Prefix of the tensors of each network of ECHOPulse in a released file of several networks.
_ECHOPULSE_PARTS = {"tokenizer": "cvivit.", "transformer": "maskgit.", "ecg": "encode_ekg."}


@dataclass(frozen=True)
class Importer:
    """Importer of a system's files.

    makes: Kind of the folder that it writes, in a few words.
    run: Function of the files, the new folder and the config beside the files.
    """

    makes: str
    run: Callable[[Files, Path, Given], None]


def import_echopulse(files: Files, output: Path, given: Given) -> None:
    """Write ECHOPulse's tokenizer, transformer and ECG encoder as a generator's folder.

    files: Tensors by released name, one file with all three networks (cvivit, maskgit, encode_ekg) or several; where two files
        hold the same network, the later one counts.
    output: New folder.
    given: Config beside the files. Sizes that no tensor shows (picture size, attention heads, frames) are its, else as published.
    Raises `InputError` when one of the three is missing or they do not fit.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for tensors in files:
        parts |= {"ecg": dict(tensors)} if _is_st_mem(tensors) else split(tensors)
    missing = [f"the {part} ({prefix}*)" for part, prefix in _ECHOPULSE_PARTS.items() if part not in parts]
    if missing:
        raise InputError(f"The files hold everything of ECHOPulse but {' and '.join(missing)}; give the file with that too.")
    merged = {_ECHOPULSE_PARTS[part] + name: each for part in parts for name, each in parts[part].items()}
    found = networks_from(merged, given)
    generator = EchoPulsePublished(
        EchoPulsePublishedConfig(frames=int(given.get("frames", EchoPulsePublishedConfig.frames))),
        cast(PublishedTokenizer, found["tokenizer"]),
        cast(PublishedTransformer, found["transformer"]),
        cast(StMem, found["ecg"]),
        torch.device("cpu"),
    )
    generator.save_pretrained(output)


def import_st_mem(files: Files, output: Path, given: Given) -> None:
    """Write ST-MEM's encoder as a network's folder, from its own file or from one of ECHOPulse that holds it.

    Raises `InputError` for more than one file, or one without that encoder.
    """
    if len(files) != 1:
        raise InputError(f"ST-MEM is imported from one file, not {len(files)}; give the one with its encoder.")
    tensors = files[0]
    for prefix in ("encode_ekg.", "encoder."):
        inside = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        tensors = inside or tensors
    save_network(st_mem_from(tensors, given.get("stmem")), output)


def import_ef_regressor(files: Files, output: Path, given: Given) -> None:
    """Write an EF regressor R(2+1)D as a network's folder, from EchoNet-Dynamic's file or EchoDiffusion's.

    Its input (frames, frames per second, normalisation) is as each project published it, unless `given` states another.
    Raises `InputError` for more than one file, or one that does not fit.
    """
    if len(files) != 1:
        raise InputError(f"An EF regressor is imported from one file, not {len(files)}; give one.")
    save_network(ef_regressor_from(files[0], given.get("ef_regressor")), output)


def import_echodiffusion(files: Files, output: Path, given: Given) -> None:
    """Write EchoDiffusion's cascade as a generator's folder, from merged.pt and the config.yaml beside it; errors as there."""
    echodiffusion_from(files, given).save_pretrained(output)


#: Importers by system; a package adds its own by an entry point of `echogen.importers`.
IMPORTERS: Registry[Importer] = Registry(
    "importer",
    "echogen.importers",
    "echogen.checkpoints.importers:Importer",
    {
        "echopulse": Importer("a generator", import_echopulse),
        "st-mem": Importer("an ECG encoder", import_st_mem),
        "ef-regressor": Importer("an EF regressor", import_ef_regressor),
        "echodiffusion": Importer("a generator", import_echodiffusion),
    },
    meaning=lambda importer: f"makes {importer.makes} from released weights",
)


def importer_for(system: str) -> Importer:
    """Importer of a system. Raises `InputError` for an unknown one, with the nearest known."""
    return IMPORTERS.find(system)


def import_weights(
    system: str, files: Sequence[Path], output: Path, progress: Callable[[float, float], None] | None = None
) -> None:
    """Import released files into a new folder, which is written whole or not at all.

    system: Name in `IMPORTERS`.
    files: Released files; a manifest.json or config.yaml beside the first may hold settings that no tensor shows.
    output: New folder.
    progress: Called with the steps done and the steps in all after each file.
    Raises `InputError` for an unknown system, an output that is
    there already, or files that cannot be used.
    """
    importer = importer_for(system)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"The output {output} exists already; name a new folder.")
    given = _given_beside(files[0])
    read: Files = []
    for path in files:
        read.append(read_tensors(path))
        if progress:
            progress(len(read), len(files) + 1)
    with whole_folder(output) as unfinished:
        importer.run(read, unfinished, given)


def _given_beside(file: Path) -> Given:
    """Read the config in the manifest.json of a file's folder, or all of its config.yaml; {} without either."""
    try:
        given = json.loads((file.parent / "manifest.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        given = None
    if not isinstance(given, dict):
        try:
            given = yaml.safe_load((file.parent / "config.yaml").read_text(encoding="utf-8"))
        except OSError:
            return {}
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"{file.parent / 'config.yaml'} is not valid YAML; get it again, or move it away.") from error
    return given if isinstance(given, dict) else {}


def _is_st_mem(tensors: dict[str, Tensor]) -> bool:
    """True for tensors of ST-MEM's encoder alone."""
    return {"pos_embedding", "sep_embedding"} <= set(tensors)
