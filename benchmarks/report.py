"""Sections of a markdown document that a benchmark writes; nobody edits them by hand."""

from __future__ import annotations

import re
from pathlib import Path


def write_section(path: Path, title: str, markdown: str) -> None:
    """Replace the section `## title` of a document, or append it; the document is made if missing."""
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {path.stem.replace('_', ' ').capitalize()}\n"
    section = f"## {title}\n\n{markdown.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section + "\n", text)
    else:
        text = text.rstrip() + "\n\n" + section
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
