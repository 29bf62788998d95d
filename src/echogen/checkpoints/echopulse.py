"""Checks of echogen's ECHOPulse networks against recorded outputs of the released ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.checkpoints.comparison import Check, Comparison, largest_error, wrong_ids
from echogen.checkpoints.echopulse_weights import (
    critic_from,
    discriminator_from,
    networks_from,
    our_names,
    self_critic_from,
    tokenizer_from,
    transformer_from,
)
from echogen.checkpoints.hashed import hashed, hashed_weights
from echogen.checkpoints.reading import read_tensors
from echogen.networks.published_discriminator import gradient_penalty, hinge_discriminator_loss, hinge_generator_loss
from echogen.networks.published_tokenizer import PublishedTokenizer
from echogen.networks.published_transformer import PublishedTransformer, hidden_subset, masked_token_loss
from echogen.samplers.maskgit import guided
from echogen.samplers.published import RecordedChoices, sample

__all__ = ["CHECKS", "networks_from", "our_names"]

#: Guidance scale of the recorded guided outputs.
GUIDANCE = 3.0
"""The published guidance scale, at which guided scores were recorded."""
Record = dict[str, Any]


def _record(path: Path) -> Record:
    """Read the arrays of a recorded file: numbers as tensors, text as text."""
    with np.load(path) as arrays:
        return {name: arrays[name] if arrays[name].dtype.kind in "US" else torch.from_numpy(arrays[name]) for name in arrays}


def _manifest(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def _tokenizer(path: Path) -> PublishedTokenizer:
    return tokenizer_from(read_tensors(path.parent / "cvivit.safetensors"), _manifest(path)["config"]["cvivit"])


def _transformer(path: Path) -> PublishedTransformer:
    return transformer_from(read_tensors(path.parent / "maskgit.safetensors"))


def _ecg_context(path: Path, ecg: Tensor) -> Tensor:
    """Single context token (B, 1, width) of each ECG (B, leads, samples)."""
    from echogen.checkpoints.st_mem import st_mem_from

    network = st_mem_from(read_tensors(path.parent / "stmem.safetensors"), _manifest(path)["config"]["stmem"])
    return network.pooled(ecg.float()).unsqueeze(1)


def _compared(found: dict[str, Tensor], record: Record) -> list[Comparison]:
    """Largest error of each output that was recorded, too."""
    return [Comparison(name, largest_error(ours.detach(), record[name])) for name, ours in found.items() if name in record]


def _same_ids(name: str, ours: Tensor, recorded: Tensor, margin: Tensor | None = None) -> Comparison:
    return Comparison(name, wrong_ids(ours.reshape(recorded.shape), recorded, margin), tolerance=0.0)


def code_directions(tokenizer: PublishedTokenizer, latents: Tensor) -> Tensor:
    """Unit vectors (B, T' S, width) of latents (B, T', S, dim), to be compared with the codebook."""
    return F.normalize(tokenizer.quantizer.project_in(latents), dim=-1).flatten(1, 2)


def code_margin(tokenizer: PublishedTokenizer, latents: Tensor) -> Tensor:
    """Margin of each latent's similarity to its nearest code over the next one, (B, T' S)."""
    codebook = tokenizer.get_buffer("quantizer.codebook")[0]
    best = (code_directions(tokenizer, latents) @ codebook.t()).topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


@torch.no_grad()
def check_encode(path: Path) -> list[Comparison]:
    """Compare patch embeddings, latents before the codebook, ids of the whole clip and its beginnings, and the spatial bias."""
    record, tokenizer = _record(path), _tokenizer(path)
    video, grid = record["video"], tokenizer.config.grid
    latents = tokenizer.encode(video)
    found = {
        "patch_tokens": tokenizer.embed(video).unflatten(2, grid),
        "encoded": latents.unflatten(2, grid),
        "vq_input_normed": code_directions(tokenizer, latents),
        "spatial_rel_pos_bias": tokenizer.position_bias(*grid),
        "top1_top2_margin": code_margin(tokenizer, latents),
    }
    comparisons = [_same_ids("ids", tokenizer.quantize(latents).ids, record["ids"], record.get("top1_top2_margin"))]
    for name in record:
        if name.startswith("ids_prime"):
            start = tokenizer.encode(video[:, :, : int(name.removeprefix("ids_prime"))])
            found[name.replace("ids", "encoded")] = start.unflatten(2, grid)
            ids, margin = tokenizer.quantize(start).ids, code_margin(tokenizer, start)
            comparisons.append(_same_ids(name, ids, record[name], margin))
    return _compared(found, record) + comparisons


@torch.no_grad()
def check_decode(path: Path) -> list[Comparison]:
    """Compare the values of recorded ids, the video decoded from them, and a clip that was encoded and decoded."""
    record, tokenizer = _record(path), _tokenizer(path)
    ids = record["ids"].view(len(record["ids"]), -1, tokenizer.config.positions, 1)
    values = tokenizer.quantizer.decode_ids(ids)
    found = {"projected_codes": values.flatten(1, 2), "video": tokenizer.decode(values).transpose(1, 2)}
    if "recons_of_encode_video" in record:
        clips = _record(path.parent / "cvivit_encode.npz")["video"][: len(record["recons_of_encode_video"])]
        found["recons_of_encode_video"] = tokenizer(clips).reconstruction.transpose(1, 2)
    return _compared(found, record)


@torch.no_grad()
def check_blocks(path: Path) -> list[Comparison]:
    """Compare single layers: the position convolution (in temporal layers with scrambled axes), attention and feed-forward."""
    record, tokenizer = _record(path), _tokenizer(path)
    grid, bias = tokenizer.config.grid, tokenizer.position_bias(*tokenizer.config.grid)
    found: dict[str, Tensor] = {}
    time = record["x_temporal"].shape[1]
    for axis, stack in (("temporal", tokenizer.temporal_encoder), ("spatial", tokenizer.spatial_encoder)):
        x = record[f"x_{axis}"]
        block: Any = stack.blocks[0]
        tokens = x.shape[0] * x.shape[1]
        shape = (tokens // (time * grid[0] * grid[1]), time, *grid)
        found[f"peg_{axis}_layer0"] = block.peg(x, shape)
        found[f"attn_{axis}_layer0"] = block.attention(x)
        found[f"ff_{axis}_layer0"] = block.feed_forward(x)
        if axis == "spatial":
            found["attn_spatial_layer0_with_bias"] = block.attention(x, mask=bias.unsqueeze(0))
    return _compared(found, record)


def check_vq_train_step(path: Path) -> list[Comparison]:
    """Compare one training step of the codebook: quantised values, loss, and the running means after it."""
    record, quantizer = _record(path), _tokenizer(path).quantizer.train()
    quantized = quantizer(record["x"])
    after = dict(quantizer.named_buffers())
    found = {
        "quantized": quantized.values,
        "commit_loss": quantized.loss.reshape(1),
        "cluster_size_after": after["usage"],
        "embed_avg_after": after["sums"],
        "embed_after": after["codebook"],
    }
    return [*_compared(found, record), _same_ids("indices", quantized.ids, record["indices"])]


@torch.no_grad()
def check_maskgit(path: Path) -> list[Comparison]:
    """Compare logits with contexts of several lengths, hidden keys and guidance, embeddings, and the position bias."""
    record, transformer = _record(path), _transformer(path)
    ids, shape = record["ids"], record["video_patch_shape"].tolist()
    keys = {
        name.removeprefix("context"): transformer.encode_context(record[name]) for name in record if name.startswith("context")
    }
    found = {f"logits_context{name}": transformer(ids, shape, context) for name, context in keys.items()}
    # Dropping the condition changes nothing in the published code, so guidance changes nothing either.
    found["logits_context1_cond_drop1"] = found["logits_cond_scale3"] = found["logits_ids4d"] = found["logits_context1"]
    found["embeds_context1"] = transformer.embeddings(ids, shape, keys["1"])
    found["continuous_pos_bias"] = transformer.position_bias(*shape)
    if "video_mask" in record:
        found["logits_context1_video_mask"] = transformer(ids, shape, keys["1"], mask=record["video_mask"])
    return _compared(found, record)


@torch.no_grad()
def check_token_critic(path: Path) -> list[Comparison]:
    """Compare a critic's scores with all, some and none of the condition tokens, and guided."""
    record, critic = _record(path), critic_from(read_tensors(path.parent / "token_critic.safetensors"))
    shape = _record(path.parent / "maskgit.npz")["video_patch_shape"].tolist()
    keys = None if critic.config.context_dim is None else critic.encode_context(record["context"])
    some = record["text_mask"]

    def scores(mask: Tensor) -> Tensor:
        return critic(record["ids"], shape, keys, context_mask=mask)

    every, none = scores(torch.ones_like(some)), scores(torch.zeros_like(some))
    found = {
        "scores_fullmask": every,
        "scores_text_mask": scores(some),
        "scores_cond_drop1": none,
        "scores_cond_scale3": guided(lambda _: (scores(some), none), GUIDANCE)(record["ids"]),
    }
    return _compared(found, record)


@torch.no_grad()
def check_sample(path: Path) -> list[Comparison]:
    """Compare sampling from recorded random numbers: the input ids of every step, the final ids, and the video."""
    record, manifest = _record(path), _manifest(path)
    asked = manifest["files"][path.name]
    tokenizer, transformer = _tokenizer(path), _transformer(path)
    expected = record["final_ids"]
    batch, total = expected.shape
    shape = (total // tokenizer.config.positions, *tokenizer.config.grid)
    known = expected.new_zeros(batch, 0)
    if "prime_frames" in record:
        known = tokenizer.tokenize(record["prime_frames"]).flatten(1)
    context = _ecg_context(path, record["ekg"])
    keys = transformer.encode_context(context)
    critic = None
    if "critic_uniforms" in record:
        critic = self_critic_from(read_tensors(path.parent / "self_critic_to_pred.safetensors"), transformer)
    seen: list[Tensor] = []

    def predict(ids: Tensor, places: Tensor) -> Tensor:
        seen.append(ids)
        logits: Tensor = transformer(ids, shape, keys, places=places)
        return logits

    ids = sample(
        predict,
        known,
        total - known.shape[1],
        transformer.config.mask_id,
        RecordedChoices(record.get("gumbel_uniforms"), record.get("critic_uniforms")),
        steps=int(asked["steps"]),
        temperature=float(asked["kwargs"].get("starting_temperature", 0.9)),
        score=None if critic is None else lambda ids: critic(ids, shape, keys),
        noise_scale=float(asked["kwargs"].get("noise_K", 1.0)),
        anneal=asked.get("anneal", "decay"),
    )
    comparisons = [_same_ids("final_ids", ids, expected)]
    if "input_ids_per_step" in record:
        comparisons.append(_same_ids("input_ids_per_step", torch.stack(seen), record["input_ids_per_step"]))
    if "video" in record:
        video = tokenizer.decode_ids(ids.view(batch, shape[0], -1, 1)).transpose(1, 2)
        comparisons += _compared({"video": video}, record)
    return comparisons


def check_training(path: Path) -> list[Comparison]:
    """Compare one training step with recorded random numbers: loss, hidden tokens, and gradients (relative errors)."""
    record, transformer = _record(path), _transformer(path).train()
    tokenizer = _tokenizer(path)
    with torch.no_grad():
        grid = tokenizer.tokenize(_record(path.parent / "cvivit_encode.npz")["video"])
        context = _ecg_context(path, record["ekg"])
    hidden = hidden_subset(record["rand"], record["mask_token_prob"])
    shape = (grid.shape[1], *tokenizer.config.grid)
    loss = masked_token_loss(transformer, grid.flatten(1), shape, context, hidden)
    loss.backward()
    comparisons = [
        _same_ids("mask_token_mask", hidden, record["mask_token_mask"]),
        Comparison("loss", largest_error(loss.detach(), record["loss"])),
    ]
    published = {name.removeprefix("grad."): tensor for name, tensor in record.items() if name.startswith("grad.")}
    for (name, recorded), (ours, expected) in zip(published.items(), our_names(published).items(), strict=True):
        gradient = transformer.get_parameter(ours).grad
        scale = max(float(recorded.abs().max()), 1e-12)
        error = float("inf") if gradient is None else largest_error(gradient / scale, expected / scale)
        comparisons.append(Comparison(f"grad.{name}", error))
    return comparisons


def check_discriminator(path: Path) -> list[Comparison]:
    """Compare logits of real and generated frames, both hinge losses, and the gradient penalty of weight 10."""
    record, network = _record(path), discriminator_from(read_tensors(path.parent / "discriminator.safetensors"))
    images = record["real"].clone().requires_grad_()
    real, fake = network(images), network(record["fake"])
    found = {
        "logits_real": real,
        "logits_fake": fake,
        "hinge_d": hinge_discriminator_loss(fake, real),
        "hinge_g": hinge_generator_loss(fake),
        "gradient_penalty_w10": gradient_penalty(images, real, weight=10.0),
    }
    return _compared(found, record)


@torch.no_grad()
def check_procedural(path: Path) -> list[Comparison]:
    """Compare all networks at their published sizes, with weights and inputs from a hash, on samples of their outputs."""
    from echogen.checkpoints.st_mem import st_mem_from

    record = _record(path)
    described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    phase, config = int(described["phase"]), described["config"]

    def weights(network: str, offset: int) -> dict[str, Tensor]:
        listed = json.loads((path.parent / f"full_keys_{network}.json").read_text(encoding="utf-8"))["keys"]
        return hashed_weights([(name, shape) for name, shape, *_ in listed], phase + offset)

    def unit(shape: tuple[int, ...], key: int) -> np.ndarray:
        return (hashed(int(np.prod(shape)), key, phase).reshape(shape) + 1) / 2

    tokenizer = tokenizer_from(weights("cvivit", 0), config["cvivit"])
    sizes, frames = tokenizer.config, 1 + (record["ids11"].shape[1] - 1) * tokenizer.config.time_patch
    video = torch.from_numpy(unit((1, sizes.channels, frames, *sizes.image_size), 1000)).float()
    latents, first = tokenizer.encode(video), tokenizer.encode(video[:, :, :1])
    chosen = record["encoded_positions"]
    total = record["ids11"].numel()
    ids = torch.from_numpy(np.floor(unit((1, total), 1002) * sizes.codebook_size)).long()
    decoded = tokenizer.decode_ids(ids.view(1, -1, sizes.positions, 1))[0].transpose(0, 1)
    found = {
        "encoded": latents.flatten(1, 2)[0, chosen],
        "vq_normed": code_directions(tokenizer, latents)[0, chosen],
        "margin11": code_margin(tokenizer, latents),
        "decoded_sub": decoded[:, :, ::9, ::9],
        "decoded_mean": decoded.mean(),
        "decoded_std": decoded.std(),
    }
    comparisons = [
        _same_ids("ids11", tokenizer.quantize(latents).ids, record["ids11"], record["margin11"]),
        _same_ids("ids1", tokenizer.quantize(first).ids, record["ids1"], code_margin(tokenizer, first)),
    ]
    encoder = st_mem_from(weights("stmem", 2), config["stmem"])
    ecg = torch.zeros(1, encoder.config.num_leads, encoder.config.seq_len)
    ecg[0, 1] = torch.from_numpy(unit((encoder.config.seq_len,), 1001) * 4 - 2)
    found["stmem_embedding"] = encoder.pooled(ecg)
    transformer = transformer_from(weights("maskgit", 1))
    hidden = torch.from_numpy(unit((1, total), 1003) < 0.5)
    keys = transformer.encode_context(found["stmem_embedding"].unsqueeze(1))
    shape = (total // sizes.positions, *sizes.grid)
    logits = transformer(ids.masked_fill(hidden, transformer.config.mask_id), shape, keys)
    found["logits_sub"] = logits[0, record["logit_positions"]][:, record["logit_vocab"]]
    found["logits_std"] = logits.std()
    best = logits.topk(2, dim=-1).values
    sure = best[..., 0] - best[..., 1]
    comparisons.append(_same_ids("logits_argmax", logits.argmax(-1), record["logits_argmax"], sure))
    return _compared(found, record) + comparisons


#: Checks by the prefix of the recorded file's name.
CHECKS: dict[str, Check] = {
    "cvivit_encode": check_encode,
    "cvivit_decode": check_decode,
    "cvivit_blocks": check_blocks,
    "vq_train_step": check_vq_train_step,
    "maskgit": check_maskgit,
    "token_critic": check_token_critic,
    "sample_": check_sample,
    "phenaki_train": check_training,
    "discriminator": check_discriminator,
    "full_procedural": check_procedural,
}
