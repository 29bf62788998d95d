"""Tables in markdown, and sections of a document that a command writes and nobody edits by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from echogen.files import whole_file


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells as a markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def write_section(path: Path, title: str, markdown: str) -> None:
    """Replace the section `## title` of a document, or append it; a missing document is begun with a heading of its name."""
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {path.stem.replace('_', ' ').capitalize()}\n"
    section = f"## {title}\n\n{markdown.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section + "\n", text)
    else:
        text = text.rstrip() + "\n\n" + section
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_text(text.rstrip() + "\n", encoding="utf-8")
