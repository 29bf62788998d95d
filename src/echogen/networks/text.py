"""Encoder of text as tokens, by T5 from `transformers`: the text-conditioned form of ECHOPulse.

Source: ECHOPulse (ICLR 2025), section 3.2 and appendix A.2.3 (the EF in words); Raffel et al., T5, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.attention import Tokens

#: Hub name of a T5 whose tokens have width 768, as those of ST-MEM.
DEFAULT_TEXT_ENCODER = "google/t5-v1_1-base"


def ef_sentence(ef_percent: float) -> str:
    """Sentence that states an ejection fraction in whole percent; the paper gives the EF in words, but not the wording.

    Raises `InputError` for an EF outside 0..100.
    """
    if not 0 <= ef_percent <= 100:
        raise InputError(f"The ejection fraction must lie between 0 and 100 %, not {ef_percent:g}.")
    return f"An echocardiogram with an ejection fraction of {ef_percent:.0f} percent."


class TextEncoder(nn.Module):
    """Encoder of sentences as tokens without times, by a T5 encoder with fixed weights."""

    def __init__(self, name_or_dir: str | Path = DEFAULT_TEXT_ENCODER, max_tokens: int = 64) -> None:
        """Load a T5 encoder and its tokenizer from a local folder or by their name on the Hugging Face hub.

        max_tokens: Most tokens of a sentence; longer ones are cut.
        Raises `InputError` when `transformers` is missing or the files cannot be had.
        """
        super().__init__()
        try:
            from transformers import AutoTokenizer, T5EncoderModel
        except ImportError as error:
            raise InputError("Text needs the packages transformers and sentencepiece; install echogen[text].") from error
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(str(name_or_dir))
            self.encoder = T5EncoderModel.from_pretrained(str(name_or_dir))
        except (OSError, ValueError, ImportError) as error:
            raise InputError(
                f"The text encoder {name_or_dir} cannot be loaded; give a folder with a T5 model and its tokenizer, or a name on "
                "the Hugging Face hub, and install echogen[text]."
            ) from error
        self.max_tokens = max_tokens
        self.encoder.requires_grad_(False).eval()

    @property
    def dim(self) -> int:
        """Width of a token."""
        return int(self.encoder.config.d_model)

    def train(self, mode: bool = True) -> TextEncoder:
        """Stay as it is: this encoder is never trained."""
        return self

    @torch.no_grad()
    def forward(self, texts: Sequence[str | None]) -> Tokens:
        """Tokens (B, N, dim) of B texts, N being those of the longest; a text that is None or empty has no token to be seen."""
        known = torch.tensor([bool(text) for text in texts])
        rows = self.tokenizer(
            [text or "" for text in texts], padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        device = self.encoder.device
        mask: Tensor = rows["attention_mask"].to(device)
        values: Tensor = self.encoder(input_ids=rows["input_ids"].to(device), attention_mask=mask).last_hidden_state
        return Tokens(values, None, mask.bool() & known.to(device).unsqueeze(1))
