"""Joining of a tokenizer and a transformer into ECHOPulse: the paper's with an encoder of ECG or text, else the default one."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from echogen.datasets.clip_store import FPS
from echogen.errors import InputError
from echogen.generators import EchoPulse, EchoPulseConfig
from echogen.generators.echopulse.checks import check_paper_networks, check_tokens, possible_conditions
from echogen.generators.echopulse.paper import EchoPulsePaper, EchoPulsePaperConfig
from echogen.networks.config import config_from_dict, load_config, load_network, save_network
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.st_mem import StMem
from echogen.networks.text import TextEncoder
from echogen.networks.token_critic import Critic, load_critic
from echogen.networks.video_tokenizer import ENCODING_PARTS, VideoTokenizer, VideoTokenizerConfig
from echogen.phantom.speckle import SpeckleStyle

CPU = torch.device("cpu")
#: Most latent frames that are given to the transformer in training, where its recipe does not say.
PREFIX = 2
#: Steps on either side of zero in which a row of the default transformer's weights is stored: 31, which fit into 6 bits.
TRANSFORMER_STEPS = 31


def assemble(
    tokenizer_run: Path,
    transformer_run: Path,
    folder: Path,
    *,
    ecg_encoder: Path | None = None,
    text_encoder: str | None = None,
) -> None:
    """Write a generator's folder from the weights that training runs left.

    ecg_encoder: a run of the task st-mem, or the folder of an ST-MEM. text_encoder: folder or hub name of a T5 encoder. With one
    of them it is `EchoPulsePaper`, with the frames and leads of the transformer's recipe, and windows that begin with as many
    frames as were given there. Without, `EchoPulse`, whose tokenizer encodes in bfloat16, so that its ids are those that the
    transformer learned, and draws in rows of 8-bit steps, and whose transformer is kept in rows of 6-bit steps. Tokens are
    ordered by the critic where the transformer's run left one. Raises `InputError` when weights are not there or do not fit.
    """
    if ecg_encoder is not None and text_encoder is not None:
        raise InputError("A transformer learned from an ECG or from a text; give an ECG encoder or a text encoder, not both.")
    places = tokenizer_run / "weights" / "tokenizer", transformer_run / "weights" / "transformer"
    sizes: VideoTokenizerConfig = load_config(VideoTokenizer, places[0])
    if sizes.noise_channels:
        raise InputError(
            "This decoder draws speckle from noise, which a generator does not give it; join one without network.noise_channels."
        )
    config: MaskedTransformerConfig = load_config(MaskedTransformer, places[1])
    if ecg_encoder is None and text_encoder is None:
        if config.ecg is None and config.cross_attention_every:
            raise InputError("This transformer needs a condition's encoder; give --ecg-encoder or --text-encoder.")
        latents = _recipe(transformer_run).get("data", {}).get("latents", EchoPulseConfig.latents)
        check_tokens(sizes, config, latents)
        tokenizer, transformer, critic = _networks(*places)
        order = EchoPulseConfig.order if critic is None else "critic"
        drawn = _recipe(tokenizer_run).get("options", {}).get("speckle", False)
        settings = EchoPulseConfig(latents=latents, order=order, speckle=None if drawn else SpeckleStyle())
        EchoPulse(settings, tokenizer, transformer, CPU, critic).save_pretrained(folder)
        save_network(tokenizer, folder / "tokenizer", torch.int8, exact=ENCODING_PARTS)
        save_network(transformer, folder / "transformer", torch.int8, most=TRANSFORMER_STEPS)
        return
    learned = _learned(transformer_run, text_encoder, sizes.time_patch)
    encoder: StMem | TextEncoder
    if text_encoder is not None:
        encoder = TextEncoder(text_encoder)
        check_paper_networks(sizes, config, encoder.dim, learned.frames)
    else:
        assert ecg_encoder is not None
        inside = ecg_encoder / "weights" / "st_mem"
        place = inside if inside.is_dir() else ecg_encoder
        check_paper_networks(sizes, config, load_config(StMem, place).width, learned.frames)
        encoder = load_network(StMem, place)
    tokenizer, transformer, critic = _networks(*places)
    takes = tuple(sorted(possible_conditions(config, text_encoder is not None)))
    learned = replace(learned, takes=takes, order=learned.order if critic is None else "critic")
    EchoPulsePaper(learned, tokenizer, transformer, encoder, CPU, critic).save_pretrained(folder)


def _networks(tokenizer: Path, transformer: Path) -> tuple[VideoTokenizer, MaskedTransformer, Critic | None]:
    """The networks in these folders, and the critic that lies beside the transformer, if there is one."""
    network = load_network(MaskedTransformer, transformer)
    critic = transformer.parent / "critic"
    return load_network(VideoTokenizer, tokenizer), network, load_critic(critic, network) if critic.is_dir() else None


def _recipe(run: Path) -> dict[str, Any]:
    """The recipe of a training run; empty where it left none."""
    path = run / "recipe.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _learned(run: Path, text_encoder: str | None, time_patch: int) -> EchoPulsePaperConfig:
    """The settings under which the transformer of a run learned, as its recipe says; what that leaves out is as usual."""
    recipe = _recipe(run)
    data, options = recipe.get("data", {}), recipe.get("options", {})
    by_text = options.get("condition", "ecg") == "text"
    if recipe and by_text != (text_encoder is not None):
        learned, option = ("a text", "--text-encoder") if by_text else ("an ECG", "--ecg-encoder")
        raise InputError(f"The transformer in {run} learned from {learned}; give it with {option}.")
    values = {name: data[name] for name in ("frames", "leads") if name in data}
    if "frame_step" in data:
        values["fps"] = FPS / data["frame_step"]
    given = 1 + (options.get("prefix", PREFIX) - 1) * time_patch
    values["prime"] = max(1, min(given, data.get("frames", EchoPulsePaperConfig.frames) - time_patch))
    return config_from_dict(EchoPulsePaperConfig, values | {"text_encoder": text_encoder})


def main() -> None:
    """Older form of `echogen assemble`: python -m echogen.generators.echopulse.assemble TOKENIZER TRANSFORMER -o DIR."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("tokenizer", type=Path, help="folder of the tokenizer's training run")
    parser.add_argument("transformer", type=Path, help="folder of the transformer's training run")
    encoders = parser.add_mutually_exclusive_group()
    encoders.add_argument("--ecg-encoder", type=Path, metavar="RUN", help="folder of ST-MEM's training run, or of an ST-MEM")
    encoders.add_argument("--text-encoder", metavar="NAME", help="folder of a T5 encoder, or its name on the Hugging Face hub")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    asked = parser.parse_args()
    try:
        assemble(asked.tokenizer, asked.transformer, asked.output, ecg_encoder=asked.ecg_encoder, text_encoder=asked.text_encoder)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
