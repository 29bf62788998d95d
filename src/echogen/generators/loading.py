"""Loading of generators: their systems by name, shipped folders, devices, hashes of weights, and switching of adapters."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from echogen.errors import InputError
from echogen.generators.settings_file import GENERATOR_FILE, read_settings
from echogen.networks.adapters import ADAPTERS, add_adapter, find_adapter, load_adapter, restore_weights
from echogen.registry import Registry

if TYPE_CHECKING:
    from echogen.generators.base import Generator

SHIPPED = Path(__file__).parent.parent / "weights"

#: The systems by the name that generator.json gives; a package adds its own by an entry point of `echogen.generators`.
GENERATORS: Registry[type[Generator]] = Registry(
    "generator",
    "echogen.generators",
    "echogen.generators.base:Generator",
    {
        "echopulse": "echogen.generators.echopulse.generator:EchoPulse",
        "echopulse-paper": "echogen.generators.echopulse.paper:EchoPulsePaper",
        "echopulse-published": "echogen.generators.echopulse.published:EchoPulsePublished",
        "echodiffusion": "echogen.generators.echodiffusion.generator:EchoDiffusion",
        "own-pixels": "echogen.generators.own_pixels.generator:OwnPixels",
    },
)


def shipped_generators() -> list[str]:
    """Return the names that `load_generator` takes besides folders, sorted."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{GENERATOR_FILE}"))


def load_generator(name_or_dir: str | Path, device: str | torch.device = "auto", adapter: str | Path | None = None) -> Generator:
    """Load a shipped generator by name, or one from a folder; arguments and errors as of `Generator.from_pretrained`."""
    folder = Path(name_or_dir)
    if not (folder / GENERATOR_FILE).is_file():
        shipped = shipped_generators()
        if str(name_or_dir) not in shipped:
            known = ", ".join(shipped) or "none"
            raise InputError(
                f"There is no generator {str(name_or_dir)!r}; give a folder with {GENERATOR_FILE} or one of: {known}."
            )
        folder = SHIPPED / str(name_or_dir)
    settings = read_settings(folder)
    system = settings.pop("system")
    if system not in GENERATORS:
        raise InputError(
            f"The generator in {folder} is of the system {system!r}, which neither this version of echogen nor an installed "
            f"package knows; install the package that brings it. Known are {', '.join(GENERATORS)}."
        )
    generator = GENERATORS[system].from_folder(folder, settings, pick_device(device))
    generator.name = folder.name
    generator.weights_hash = hash_weights(folder)
    generator.folder = folder
    if adapter is not None:
        generator.use_adapter(adapter)
    return generator


def switch_adapter(generator: Generator, name_or_dir: str | Path | None) -> None:
    """Switch a generator to an adapter, or to its own weights for None; see `Generator.use_adapter`."""
    network = generator.adaptable
    if generator.unadapted is not None and network is not None:
        restore_weights(network, generator.unadapted)
    generator.adapter, generator.unadapted = None, None
    if name_or_dir is None:
        return
    if network is None:
        raise InputError(f"The generator {generator.name} takes no adapter; leave the adapter out.")
    adapter = load_adapter(find_adapter(name_or_dir, generator.folder))
    generator.unadapted = add_adapter(network, adapter)
    generator.adapter = adapter


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device of a name; auto is the first GPU, else the CPU. Raises `InputError` for one that is not there."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.zeros(1, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {device} is not available on this computer; use auto or cpu.") from error
    return picked


def hash_weights(folder: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 over all weights and configs in a generator's folder, adapters aside."""
    digest = hashlib.sha256()
    files = (p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json"))
    for path in sorted(p for p in files if p.relative_to(folder).parts[0] != ADAPTERS):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
