"""Every file of $ECHOGEN_TEST_DATA/reported, kinds of files that public bug reports are about: expected, read, verdict.

Right values stand in echogen.testing.reported_ecg and echogen.testing.reported_echo, each with the same four names: the
table of right values, `read`, `wrong` and `in_words`.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from common import DOCS
from echogen.benchmark.markdown import table, write_section

#: Section, module and name of its table of right values.
HALVES = (("ECG", "echogen.testing.reported_ecg", "ECG"), ("Echo", "echogen.testing.reported_echo", "ECHO"))


def rows(folder: Path, module_name: str, table_name: str) -> list[list[str]]:
    """A row for each file: name, expected, read, verdict."""
    module = import_module(module_name)
    found = []
    for name, expected in getattr(module, table_name).items():
        result = module.read(folder, name)
        wrong = module.wrong(expected, result)
        said = module.in_words(result).replace("|", "/")
        verdict = f"**{', '.join(wrong)}**" if wrong else "refused, as it should be" if result.said else "right"
        found.append([f"`{name}`", expected.in_words(), said, verdict])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=DOCS / "reported.md", help="the page to write the tables into")
    arguments = parser.parse_args()
    place = os.environ.get("ECHOGEN_TEST_DATA")
    if not place:
        sys.exit("Set ECHOGEN_TEST_DATA to the folder of test recordings.")
    folder = Path(place) / "reported"
    for title, module_name, table_name in HALVES:
        made = rows(folder, module_name, table_name)
        right = sum("**" not in cells[-1] for cells in made)
        text = (
            f"`python benchmarks/reported.py`: {right} of {len(made)} {title} files are read right, or refused in a sentence that"
            " names the matter.\n\n" + table(["file", "expected", "read", "verdict"], made)
        )
        write_section(arguments.output, f"{title} files", text)
        print(f"{title}: {right} of {len(made)}")


if __name__ == "__main__":
    main()
