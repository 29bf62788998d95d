"""The order of imports is the architecture: nothing imports from its right, and only declared packages are imported."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "echogen"
PROJECT = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["project"]

FOUNDATION = {"errors", "arrays", "deprecation", "files", "config", "registry", "records", "physiology"}
DATA = FOUNDATION | {"ecg", "cine", "phantom", "datasets"}
#: What each part may import. The three chains data, networks and samplers know nothing of each other.
MAY_IMPORT = {
    "errors": set(),
    "arrays": set(),
    "deprecation": set(),
    "files": set(),
    "config": {"errors"},
    "registry": {"errors"},
    "records": {"errors", "arrays", "deprecation"},
    "physiology": {"errors", "arrays"},
    "ecg": FOUNDATION,
    "cine": FOUNDATION,
    "phantom": FOUNDATION | {"ecg", "cine"},
    "datasets": DATA - {"datasets"},
    "ecg_window": FOUNDATION | {"ecg"},
    "networks": FOUNDATION,
    "samplers": FOUNDATION,
    "generators": DATA | {"ecg_window", "networks", "samplers"},
}
for _left, _part in [
    ("generators", "measurement"),
    ("measurement", "metrics"),
    ("metrics", "calibration"),
    ("calibration", "training"),
    ("training", "checkpoints"),
    ("checkpoints", "bench"),
    ("bench", "benchmark"),
    ("benchmark", "app"),
    ("app", "commands"),
    ("commands", "cli"),
    ("cli", "__main__"),
]:
    MAY_IMPORT[_part] = MAY_IMPORT[_left] | {_left}
#: Tests and benchmarks import `testing`; no part does.
MAY_IMPORT["testing"] = MAY_IMPORT["app"] | {"app"}

#: The extras that a part, or one file of it, may import from besides the core packages.
EXTRAS = {
    "training": {"train", "adapt"},
    "app": {"serve"},
    "benchmark/plots.py": {"docs"},
    "datasets/remote_files.py": {"remote"},
    "testing/data_sets.py": {"datasets"},
    "testing/ecg_files/consumer.py": {"formats"},
    "testing/fuzz/ecg_files.py": {"formats"},
    "testing/fuzz/echo_files.py": {"datasets"},
    "networks/text.py": {"text"},
    "measurement/sam2.py": {"text"},
    "measurement/dicom_segmentation.py": {"segmentation"},
    "metrics/sets/video_mae.py": {"text"},
    "ecg/hdf5.py": {"formats"},
    "ecg/xlsx.py": {"formats"},
    "ecg/matlab.py": {"formats"},
    "ecg/code15.py": {"formats"},
    "ecg/pdf_paths.py": {"formats"},
    "cine/nifti.py": {"datasets"},
    "datasets/zarr_store.py": {"datasets"},
    "datasets/cluster.py": {"cluster"},
}
#: Import name -> distribution name, where they differ.
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "skimage": "scikit-image"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Every absolute module name a file imports, anywhere in it, with `from a import b` counted as a and a.b."""
    package = ("echogen", *path.relative_to(PACKAGE).parent.parts)
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            if base != "echogen":
                names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_from_its_right(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return  # the public names come from everywhere
    assert part in MAY_IMPORT, f"{part} has no place in the order of imports; give it one here and in docs/architecture.md"
    used = imported_modules(path)
    assert "echogen" not in used, "import parts, not the package's root"
    parts = {name.split(".")[1] for name in used if name.startswith("echogen.")}
    assert parts <= MAY_IMPORT[part] | {part}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_declared_packages_are_imported(path: Path) -> None:
    def names(requirements: list[str]) -> set[str]:
        return {requirement.split(">")[0].split("[")[0] for requirement in requirements}

    declared = names(PROJECT["dependencies"])
    for extra in EXTRAS.get(part_of(path), set()) | EXTRAS.get(path.relative_to(PACKAGE).as_posix(), set()):
        declared |= names(PROJECT["optional-dependencies"][extra])
    roots = {name.split(".")[0] for name in imported_modules(path)} - {"echogen", ""} - set(sys.stdlib_module_names)
    assert {DISTRIBUTIONS.get(root, root) for root in roots} <= declared


def modules_loaded_by(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print('\\n'.join(sys.modules))"], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_importing_the_package_is_light() -> None:
    loaded = modules_loaded_by("import echogen, echogen.cli")
    heavy = {"torch", "scipy", "av", "pydicom", "wfdb", "accelerate", "cattrs", "attr", "echogen.training", "torchvision"}
    assert not loaded & heavy


def test_nothing_needs_torchvision() -> None:
    names = [
        ".".join(["echogen", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__") for path in modules()
    ]
    loaded = modules_loaded_by(
        f"sys.modules['torchvision'] = None; import importlib; [importlib.import_module(n) for n in {names}]"
    )
    assert "torch" in loaded
