"""`echogen generate --image`: the still's own pixels, or a network's drawing of its heart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from echogen.errors import InputError

if TYPE_CHECKING:
    from echogen.arrays import ByteArray
    from echogen.commands.video_case import Case
    from echogen.ecg import Landmarks
    from echogen.generators.video_generator import VideoGenerator
    from echogen.records import Cine, Conditions

#: Model in whose place a still is carried along by its own pixels, unless its drawing is asked for.
OWN_BY_DEFAULT = "phantom-128"
#: Width and height in pixels up to which a still keeps its size.
MOST_WIDTH, MOST_HEIGHT = 800, 600


@dataclass(frozen=True)
class StillVideo:
    """Way from a still to a video.

    generator: Generator that makes the video.
    conditions: Conditions of the case, with the still.
    own: True where the still's own pixels are moved.
    facts: Facts for JSON.
    """

    generator: VideoGenerator
    conditions: Conditions
    own: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    def start_s(self, landmarks: Landmarks) -> float:
        """Return the moment of the first beat that the still shows, in s: its R peak, or its end-systole."""
        if not self.own or self.facts["phase"] == "ed":
            return float(landmarks.r_s[0])
        from echogen.ecg_window.beats import Beats

        beats = Beats(landmarks.r_s, landmarks.qrs_onset_s, landmarks.p_onset_s, landmarks.wide_qrs)
        return float(beats.clock(self.conditions.sex, self.conditions.ef_percent).avc_s[0])


def still_video(generator: VideoGenerator, case: Case) -> StillVideo:
    """Choose how the still of a case becomes a video; without a still, and where it is to be drawn, by the model.

    Raises `InputError` for options that do not fit together, and for a still that cannot be moved though that was asked for.
    """
    wants_own = case.texture == "own" or case.size == "native" or case.from_phase != "auto"
    if case.image is None:
        if wants_own:
            raise InputError("--texture own, --size native and --from-phase move the pixels of a still; give it with --image.")
        return StillVideo(generator, case.conditions())
    drawn = case.text is not None or case.guidance is not None or case.steps is not None
    is_default = generator is generator.core and generator.name == OWN_BY_DEFAULT and generator.core.adapter is None
    if case.texture == "drawn" or (case.texture == "auto" and (drawn or not is_default) and not wants_own):
        if wants_own:
            raise InputError("--size native and --from-phase move the pixels of a still; leave them out with --texture drawn.")
        return StillVideo(generator, case.conditions(_canonical(case.image, warn=True)))
    if drawn or not is_default:
        raise InputError(
            "No model draws a still's own pixels, so --model, --adapter, --refine, --private, --text, --guidance and --steps "
            "have no meaning for them; leave these out, or leave out --texture own, --size native and --from-phase."
        )
    try:
        return _own(case)
    except InputError as error:
        if wants_own:
            raise
        still = _canonical(case.image, warn=False)
        typer.echo(f"Note: {case.image.name} is drawn anew, its own pixels cannot be moved: {error}", err=True)
        return StillVideo(generator, case.conditions(still))


def _own(case: Case) -> StillVideo:
    """Outline the still of a case for its own pixels. Raises `InputError` where that fails."""
    import numpy as np

    from echogen.cine import read_image
    from echogen.generators.own_pixels.generator import OwnPixels, OwnPixelsConfig, Phase
    from echogen.measurement.still import STILL_READER, outline_still
    from echogen.measurement.view_check import doppler_in_file
    from echogen.records import Cine, FrameMap

    assert case.image is not None
    if refusal := doppler_in_file(case.image):
        raise InputError(refusal)
    frame = _fitting(read_image(case.image)) if case.size == "native" else _canonical(case.image, warn=False).frames[0]
    phase: Phase = "es" if case.from_phase == "es" else "ed"
    masks = FrameMap(outline_still(frame)[None], np.zeros(1))
    config = OwnPixelsConfig(phase, fps=case.fps or OwnPixelsConfig.fps)
    conditions = replace(case.conditions(Cine(frame[None], np.zeros(1))), maps={"mask": masks})
    facts = {"texture": "own", "phase": phase, "phase_is_guess": case.from_phase == "auto", "outlined_by": STILL_READER}
    return StillVideo(OwnPixels(config), conditions, True, facts)


def _canonical(path: Path, *, warn: bool) -> Cine:
    """Read the first frame of an echo still or video, cropped to its sector; may warn on stderr if it seems no apical view."""
    import numpy as np

    from echogen.cine.stills import canonical_still
    from echogen.measurement import load_segmenter
    from echogen.measurement.apical import apical_doubt
    from echogen.records import Cine

    frame = canonical_still(path)
    if warn and (doubt := apical_doubt(frame[None], load_segmenter())):
        typer.echo(f"Note: {path.name}: {doubt}", err=True)
    return Cine(frame[None], np.zeros(1))


def _fitting(frame: ByteArray) -> ByteArray:
    """Return a still (height, width), reduced to fit into the largest picture that is made."""
    import numpy as np
    from PIL import Image

    height, width = frame.shape
    share = min(1.0, MOST_WIDTH / width, MOST_HEIGHT / height)
    if share == 1.0:
        return frame
    size = max(round(width * share), 1), max(round(height * share), 1)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
