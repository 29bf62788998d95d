"""The files and names that docs/architecture.md points at exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "echogen"
#: The rows of the walk from an ejection fraction to pixels: file and name.
STEPS = re.findall(r"^\| [^|]+ \| `([a-z_/]+\.py)` \| `(\w+)` \|$", TEXT, re.MULTILINE)


def test_the_walk_is_there() -> None:
    assert len(STEPS) >= 15


@pytest.mark.parametrize(("file", "name"), STEPS)
def test_each_step_of_the_walk_names_what_exists(file: str, name: str) -> None:
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert name in defined


def test_each_part_of_the_map_exists() -> None:
    parts = {
        part for row in re.findall(r"^\| (`[^|]+) \|", TEXT, re.MULTILINE) for part in re.findall(r"`([a-z_]+(?:\.py|/))`", row)
    }
    assert len(parts) > 15
    assert not [part for part in parts if not (PACKAGE / part).exists()]


def test_every_folder_of_the_package_is_on_the_map() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders
    assert not [folder for folder in folders if f"`{folder}/`" not in TEXT]
