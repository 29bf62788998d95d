"""The blind test: which clips a reader sees in which order, and what was answered; no pixels and no page."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import unicodedata
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from echogen.errors import InputError

#: Files of a test's folder.
TEST_FILE, ANSWERS_GLOB = "test.json", "answers-*.jsonl"
MOST_CLIPS, LONGEST_S, MOST_READERS = 400, 30.0, 100
SIZES = (64, 512)
LONGEST_NAME = 40
#: Grades of confidence and of picture quality.
GRADES = (1, 5)
WORDS = {True: "real", False: "generated"}


@dataclass(frozen=True)
class Plan:
    """Plan of a blind test.

    real, generated: folders. clips: how many different ones, half of each kind; repeats: how many of these are shown twice, half
    of each kind. seconds: length of each; size: rows and columns in pixels; whole: show whole pictures instead of the sector.
    fps: frames per second of the real clips in Hz, instead of what their files state.
    Raises `InputError` for values out of range.
    """

    real: str
    generated: str
    clips: int = 40
    repeats: int = 4
    seconds: float = 3.0
    size: int = 128
    whole: bool = False
    seed: int = 0
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.clips % 2 or not 2 <= self.clips <= MOST_CLIPS:
            raise InputError(
                f"The number of clips must be even, so that half of them are real, and from 2 to {MOST_CLIPS}, not {self.clips}."
            )
        if self.repeats % 2 or not 0 <= self.repeats <= self.clips // 2:
            raise InputError(f"The number of repeats must be even and from 0 to half the clips, not {self.repeats}.")
        if not 0.5 <= self.seconds <= LONGEST_S:
            raise InputError(f"The clips can last from 0.5 to {LONGEST_S:g} s, not {self.seconds:g} s.")
        if not SIZES[0] <= self.size <= SIZES[1] or self.size % 2:
            raise InputError(f"The size must be an even number of pixels from {SIZES[0]} to {SIZES[1]}, not {self.size}.")
        if self.real == self.generated:
            raise InputError("The real and the generated clips come from one folder; give two different ones.")


@dataclass(frozen=True)
class ChosenClip:
    """One clip of the test: its name and kind, its video file, and the frame that it is shown from."""

    name: str
    real: bool
    video: str
    first_frame: int


@dataclass(frozen=True)
class BlindTest:
    """A blind test that was set up: the plan, its clips, their common frame rate in Hz, and the secret behind the page's ids."""

    plan: Plan
    clips: tuple[ChosenClip, ...]
    fps: float
    key: str

    def to_json(self) -> dict[str, Any]:
        """Return the test as plain values, for `BlindTest.from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> BlindTest:
        """The test that `to_json` described. Raises `InputError` for anything else."""
        try:
            clips = tuple(ChosenClip(**clip) for clip in document["clips"])
            return cls(Plan(**document["plan"]), clips, float(document["fps"]), str(document["key"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"The folder's {TEST_FILE} describes no blind test; name another folder.") from error


def new_key() -> str:
    """A secret that page ids are made of; 32 hexadecimal digits."""
    return secrets.token_hex(16)


def read_test(folder: Path) -> BlindTest | None:
    """The test that was set up in a folder, or None. Raises `InputError` where its file is damaged."""
    path = folder / TEST_FILE
    if not path.is_file():
        return None
    try:
        return BlindTest.from_json(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path} is damaged or describes no blind test; name another folder.") from error


def check_same_plan(found: BlindTest, asked: Plan) -> None:
    """Refuse to go on with a test that was set up in another way; names the first setting that differs."""
    ours, theirs = asdict(asked), asdict(found.plan)
    for name, value in ours.items():
        if value != theirs[name]:
            raise InputError(
                f"This folder holds a blind test with {name} {theirs[name]}, not {value}; "
                "repeat its settings to go on with it, or name another folder."
            )


def reader_name(given: str) -> str:
    """A reader's name as it is stored: lower-case letters and digits, joined by single hyphens, 40 at most.

    Raises `InputError` for a name without a letter or a digit.
    """
    plain = unicodedata.normalize("NFKC", given[: 4 * LONGEST_NAME]).casefold()
    words = "".join(sign if sign.isalnum() else " " for sign in plain).split()
    name = "-".join(words)[:LONGEST_NAME].strip("-")
    if not name:
        raise InputError("Give a name or initials with at least one letter or digit.")
    return name


def showings(test: BlindTest, reader: str) -> tuple[tuple[int, bool], ...]:
    """Showings of a reader, in order: (index of the clip, True for its second showing).

    The order is random and follows from seed and reader. Repeated clips first come in the first third and again in the last,
    so that at least a third of the other clips lies between.
    """
    digest = hashlib.sha256(reader.encode()).digest()[:8]
    random = np.random.default_rng([test.plan.seed, int.from_bytes(digest, "big")])
    kinds = [[index for index, clip in enumerate(test.clips) if clip.real is kind] for kind in (True, False)]
    twice = [int(index) for kind in kinds for index in random.permutation(kind)[: test.plan.repeats // 2]]
    once = [int(index) for index in random.permutation([i for i in range(len(test.clips)) if i not in set(twice)])]
    third = len(once) // 3
    start = [(index, False) for index in twice + once[:third]]
    middle = [(index, False) for index in once[third : 2 * third]]
    end = [(index, True) for index in twice] + [(index, False) for index in once[2 * third :]]
    return tuple(part[place] for part in (start, middle, end) for place in random.permutation(len(part)))


def showing_id(test: BlindTest, reader: str, position: int) -> str:
    """Name of the clip at a position of a reader's order on the page; it tells nothing about the clip (HMAC-SHA256)."""
    message = f"{position}/{reader}".encode()
    return hmac.new(bytes.fromhex(test.key), message, "sha256").hexdigest()[:24]


@dataclass(frozen=True)
class Answer:
    """One answer: who said what about which clip; confidence and quality are 1..5, seconds how long it took.

    clip: the kind and the name, joined by a stroke. position: from 0, in the reader's order. repeat: shown for the second time.
    """

    reader: str
    position: int
    clip: str
    repeat: bool
    real: bool
    said_real: bool
    confidence: int
    quality: int
    seconds: float
    answered_at: str = ""

    @property
    def right(self) -> bool:
        """True if the reader told the kind of the clip."""
        return self.real == self.said_real

    def to_line(self) -> str:
        """One line of JSON; the kinds are written out as truth and answer."""
        values = asdict(self)
        values |= {"truth": WORDS[values.pop("real")], "answer": WORDS[values.pop("said_real")]}
        return json.dumps(values, ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Answer:
        """The answer of one line. Raises ValueError, KeyError or TypeError for a line that holds none."""
        values = json.loads(line)
        kinds = {word: real for real, word in WORDS.items()}
        values["real"], values["said_real"] = kinds[values.pop("truth")], kinds[values.pop("answer")]
        answer = cls(**values)
        low, high = GRADES
        if not (low <= answer.confidence <= high and low <= answer.quality <= high):
            raise ValueError("a grade is out of range")
        return replace(answer, seconds=float(answer.seconds), position=int(answer.position))


def answers_path(folder: Path, reader: str) -> Path:
    """Path of a reader's answers (see `reader_name`)."""
    return folder / ANSWERS_GLOB.replace("*", reader)


def read_answers(path: Path) -> list[Answer]:
    """The answers of one file, in order; none where there is no file. A last line that was cut short is passed over.

    Raises `InputError` for a damaged line.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged; it should hold one JSON object a line.") from error
    found = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            found.append(Answer.from_line(line))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"Line {number} of {path} is no answer of a blind test; mend it or take it away.") from error
    return found


def append_answer(folder: Path, answer: Answer) -> None:
    """Add an answer to its reader's file by one write that is on the disk when this returns; a torn last line goes first."""
    with answers_path(folder, answer.reader).open("a+b", buffering=0) as file:
        file.seek(0)
        written = file.read()
        if not written.endswith(b"\n"):
            file.truncate(written.rfind(b"\n") + 1)
        file.write(answer.to_line().encode())
        os.fsync(file.fileno())
