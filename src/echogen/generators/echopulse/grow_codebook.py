"""A trained ECHOPulse with more codes than it learned with.

The new generator draws what the old one drew; training goes on from there. A transformer that knows the heart keeps what it
knows, which learning a larger vocabulary from nothing would cost again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.generators.echopulse.generator import EchoPulse
from echogen.networks.config import save_network
from echogen.networks.masked_transformer import MaskedTransformer
from echogen.networks.video_tokenizer import VideoTokenizer


def grow_codebook(tokenizer: VideoTokenizer, levels: tuple[int, ...]) -> VideoTokenizer:
    """The tokenizer with these FSQ levels, of which the first ones are its own: as it was, as long as the new numbers do nothing.

    The new numbers of a latent are drawn at random and not yet read by the decoder, which learns to. Raises `InputError` where
    the levels do not continue the tokenizer's.
    """
    config = tokenizer.config
    old = config.quantizer.levels
    if config.quantizer.kind != "fsq" or config.quantizer.groups != 1:
        raise InputError("Only a tokenizer with one group of FSQ codes can get more of them.")
    if levels[: len(old)] != old or len(levels) == len(old):
        raise InputError(f"The levels must begin with {', '.join(map(str, old))} and have more after them.")
    grown = VideoTokenizer(replace(config, quantizer=replace(config.quantizer, levels=levels)))
    state = grown.state_dict()
    for name, value in tokenizer.state_dict().items():
        if name == "quantizer.project_out.weight":
            state[name] = torch.cat([value, value.new_zeros(len(value), len(levels) - len(old))], dim=1)
        elif name in ("quantizer.project_in.weight", "quantizer.project_in.bias"):
            state[name] = torch.cat([value, state[name][len(value) :]])
        else:
            state[name] = value
    grown.load_state_dict(state)
    return grown


def for_codes(transformer: MaskedTransformer, vocabulary: int) -> MaskedTransformer:
    """The transformer for a multiple of its codes: of those that continue the same old one, each is as likely as the others."""
    config = transformer.config
    times, rest = divmod(vocabulary, config.vocabulary)
    if rest or config.groups != 1:
        raise InputError(f"The transformer's {config.vocabulary} codes can only become a multiple, not {vocabulary}.")

    def repeated(rows: Tensor) -> Tensor:
        return rows.repeat(times, *[1] * (rows.ndim - 1))

    grown = MaskedTransformer(replace(config, vocabulary=vocabulary))
    state = dict(transformer.state_dict())
    known, hidden = state["embed.weight"][:-1], state["embed.weight"][-1:]
    state["embed.weight"] = torch.cat([repeated(known), hidden])
    for name in ("head.weight", "head.bias"):
        state[name] = repeated(state[name])
    grown.load_state_dict(state)
    return grown


def write_grown(generator: Generator, levels: tuple[int, ...], folder: Path) -> None:
    """Write the tokenizer and the transformer of a generator with more codes, float32, as a run's weights lie.

    Raises `InputError` for another system than ECHOPulse, and for levels that do not continue its own.
    """
    if not isinstance(generator, EchoPulse):
        raise InputError(f"{generator.name} is not of the system {EchoPulse.system}, which alone can get more codes.")
    torch.manual_seed(0)
    tokenizer = grow_codebook(generator.tokenizer, levels)
    networks: dict[str, nn.Module] = {
        "tokenizer": tokenizer,
        "transformer": for_codes(generator.transformer, tokenizer.quantizer.vocabulary),
    }
    for name, network in networks.items():
        save_network(network, folder / name)


def main() -> None:
    """Older form of `echogen assemble GENERATOR --levels`: python -m echogen.generators.echopulse.grow_codebook."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("generator")
    parser.add_argument("--levels", type=int, nargs="+", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        write_grown(Generator.from_pretrained(options.generator, "cpu"), tuple(options.levels), options.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
