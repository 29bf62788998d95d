"""Adding of a student to the generator that it learned from.

The transformer stays as it is and goes on guessing first frames; the student guesses all that follows.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from echogen.errors import InputError
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.echopulse.generator import EchoPulse
from echogen.generators.echopulse.student import STUDENT, load_student
from echogen.generators.settings_file import GENERATOR_FILE, read_settings, write_settings
from echogen.networks.config import config_from_dict, load_network
from echogen.networks.masked_transformer import MaskedTransformer

#: Name of the student in a training run.
LEARNED = "few-steps"


def add_student(run: Path, folder: Path, *, steps: int, live_steps: int) -> None:
    """Add the student of a training run to a generator's folder, to guess windows and live parts in so many steps.

    Raises `InputError` when the run left no student, or one of another transformer; the folder is as it was then.
    """
    source = run / "weights" / LEARNED
    if not source.is_dir():
        raise InputError(f"There is no student in {run}; train one with echogen train phantom-128-few-steps.")
    if not (folder / GENERATOR_FILE).is_file():
        raise InputError(f"There is no generator in {folder}; join one with echogen assemble.")
    settings = read_settings(folder)
    if settings.pop("system") != EchoPulse.system:
        raise InputError(f"The generator in {folder} is not of the system {EchoPulse.system}, which alone has students.")
    config = config_from_dict(EchoPulseConfig, settings)
    load_student(source, load_network(MaskedTransformer, folder / "transformer"))
    shutil.rmtree(folder / STUDENT, ignore_errors=True)
    shutil.copytree(source, folder / STUDENT)
    config = replace(config, steps=steps, live=replace(config.live, steps=live_steps))
    write_settings(folder, EchoPulse.system, config)


def main() -> None:
    """Older form of `echogen assemble RUN -o GENERATOR`: python -m echogen.generators.echopulse.add_student RUN GENERATOR."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", type=Path, help="folder of the student's training run")
    parser.add_argument("generator", type=Path, help="folder of the generator that it learned from")
    parser.add_argument("--steps", type=int, default=2, help="in which a window is guessed (%(default)s)")
    parser.add_argument("--live-steps", type=int, default=1, help="in which a part of live video is guessed (%(default)s)")
    asked = parser.parse_args()
    try:
        add_student(asked.run, asked.generator, steps=asked.steps, live_steps=asked.live_steps)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
