"""Join a tokenizer and a transformer into a generator: python -m echogen.generators.assemble TOKENIZER TRANSFORMER -o DIR."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from echogen.generators.echopulse import EchoPulse, EchoPulseConfig
from echogen.networks.config import load_network, save_network
from echogen.networks.masked_transformer import MaskedTransformer
from echogen.networks.video_tokenizer import VideoTokenizer


def assemble(tokenizer_run: Path, transformer_run: Path, folder: Path) -> None:
    """Write a generator's folder from the weights that two training runs left; raises `InputError` when they are not there.

    The tokenizer stays in bfloat16, so that its ids are those that the transformer learned; the transformer is kept in int8.
    """
    tokenizer = load_network(VideoTokenizer, tokenizer_run / "weights" / "tokenizer")
    transformer = load_network(MaskedTransformer, transformer_run / "weights" / "transformer")
    EchoPulse(EchoPulseConfig(), tokenizer, transformer, torch.device("cpu")).save_pretrained(folder)
    save_network(transformer, folder / "transformer", torch.int8)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", type=Path, help="folder of the tokenizer's training run")
    parser.add_argument("transformer", type=Path, help="folder of the transformer's training run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    assemble(options.tokenizer, options.transformer, options.output)


if __name__ == "__main__":
    main()
