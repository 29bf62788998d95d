"""The student in a generator's folder: a network that learned to guess in few steps as its transformer does in many."""

from __future__ import annotations

import copy
from pathlib import Path

from echogen.networks.adapters import ADAPTER_CONFIG_FILE, add_adapter, load_adapter
from echogen.networks.config import load_network
from echogen.networks.masked_transformer import MaskedTransformer

#: Subfolder of a generator's student: a network, or low-rank changes of the transformer (`networks.adapters`).
STUDENT = "student"


def load_student(folder: Path, transformer: MaskedTransformer) -> MaskedTransformer:
    """Load the student in a folder. Raises `InputError` for one that learned from another transformer."""
    if not (folder / ADAPTER_CONFIG_FILE).is_file():
        return load_network(MaskedTransformer, folder)
    student = copy.deepcopy(transformer)
    add_adapter(student, load_adapter(folder))
    return student
