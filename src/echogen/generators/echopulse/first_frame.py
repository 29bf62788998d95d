"""The first frame of a video as tokens: those of a reference, or guessed before the rest of its window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from echogen.errors import InputError
from echogen.generators.echopulse.config import FirstFrame
from echogen.generators.echopulse.frame_renderer import FrameRenderer
from echogen.generators.echopulse.token_guesser import TokenGuesser
from echogen.generators.echopulse.wall_contrast import wall_contrast
from echogen.generators.echopulse.window_request import WindowRequest
from echogen.generators.random_seeds import Purpose, mixed_seed
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import Cine
from echogen.samplers.maskgit import linear_ramp


class FirstFrameGuesser:
    """Makes the tokens of a first frame.

    A first frame guessed alone agrees in its parts before all else follows; guided by its view, it keeps all four chambers.
    """

    def __init__(self, tokenizer: VideoTokenizer, guesser: TokenGuesser, renderer: FrameRenderer) -> None:
        self.tokenizer, self.guesser, self.renderer = tokenizer, guesser, renderer

    @torch.inference_mode()
    def encode(self, reference: Cine | None) -> Tensor | None:
        """Return the ids (1, 1, positions, groups) of a reference's first frame; None without a reference.

        Raises `InputError` for a frame of another size than the tokenizer's.
        """
        if reference is None:
            return None
        size, image = self.tokenizer.config.image_size, reference.frames[:1]
        if image.shape[1:] != (size, size):
            raise InputError(f"The first frame must be {size} x {size} in sector geometry, not {image.shape[1:]}.")
        picture = torch.from_numpy(image).to(self.guesser.precision.device).float()[None] / 255.0
        return self.tokenizer.tokenize(picture)

    @torch.inference_mode()
    def guess(self, request: WindowRequest, seed: int, settings: FirstFrame) -> Tensor:
        """Guess the ids (1, 1, positions, groups) of the first frame of a requested window.

        Of the candidates the first one whose wall stands out by settings.clear is taken, else the one whose wall stands out most.
        """
        conditions = request.conditions
        is_guided = settings.guidance != 1.0 and conditions.view is not None
        rows = [conditions, replace(conditions, view=None)][: 2 if is_guided else 1]
        latents = min(settings.latents, request.latents)
        with self.guesser.precision.autocast():
            query = self.guesser.query(request, rows, latents=latents, kept=None, guidance=settings.guidance)
            best_contrast, best = -np.inf, self.guesser.hidden(1)
            for candidate in range(settings.candidates):
                tokens = self.guesser.answer(
                    self.guesser.transformer,
                    query,
                    1,
                    steps=settings.steps,
                    seed=mixed_seed(seed, candidate, Purpose.FIRST_FRAME),
                    temperature=linear_ramp(settings.temperature, settings.temperature_end, settings.steps),
                    choice_temperature=settings.choice_temperature,
                )
                contrast = self.wall_contrast(tokens) if settings.candidates > 1 else np.inf
                if contrast > best_contrast or candidate == 0:
                    best_contrast, best = contrast, tokens
                if contrast >= settings.clear:
                    break
        return best

    def wall_contrast(self, tokens: Tensor) -> float:
        """Return how much the wall of a first frame stands out, in grey levels of 1; 0 where the decoder knows no cavity.

        tokens: (1, 1, positions, groups) ids of the frame.
        """
        drawing = self.renderer.draw(tokens, 1, from_start=True)
        return 0.0 if drawing.cells is None else wall_contrast(drawing.picture[0].double().cpu().numpy(), drawing.cells[0])
