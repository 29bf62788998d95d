"""Attempts to read files, and a record of everything else that a reader did meanwhile."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from echogen.errors import InputError
from echogen.testing.fuzz.making import Files

#: Outcomes of one attempt: "other error" is any exception but `InputError`, "hang" too much time, "killed" the end of the
#: process, "wrote" a change of any file, a program or a connection.
OUTCOMES = ("read", "refused", "other error", "hang", "killed", "wrote")
_WRITES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.system"}
_WRITES |= {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.utime"}


class Audit:
    """Record of files opened for writing, made or removed, of programs started and connections opened by this process while `on`.

    An audit hook cannot be taken away again: one instance a process is enough.
    """

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                self.seen.append(f"open {arguments[0]!r}")
        elif event in _WRITES or event.startswith("shutil."):
            self.seen.append(event)


def attempt(
    folder: Path,
    files: Files,
    arguments: dict[str, float],
    audit: Audit | None = None,
    *,
    read: Callable[..., None],
) -> tuple[str, str]:
    """Write files into an empty folder, read the first one, and return the outcome (of `OUTCOMES`) and the message.

    arguments: of `read`. audit: without one, only changes within the folder are noticed. The folder is empty afterwards.
    """
    for name, content in files.items():
        (folder / name).write_bytes(content)
    if audit:
        audit.seen.clear()
        audit.on = True
    try:
        read(folder / next(iter(files)), **arguments)
        outcome = "read", ""
    except InputError as error:
        outcome = "refused", str(error)
        if "\n" in outcome[1] or not outcome[1].endswith("."):
            outcome = "other error", f"no sentence: {outcome[1]!r}"
    except Exception as error:
        outcome = "other error", f"{type(error).__name__}: {error}"
    finally:
        if audit:
            audit.on = False
    changed = {one.name: one.read_bytes() for one in folder.iterdir()} != files
    if (audit and audit.seen) or changed:
        outcome = "wrote", "; ".join(audit.seen if audit else [])
    for one in folder.iterdir():
        one.unlink()
    return outcome
