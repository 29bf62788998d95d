"""Translation of EchoDiffusion's released tensors to echogen's names, and the architecture that follows from their shapes.

Released names are those of the published library's three-dimensional U-Net, as in the files of EchoDiffusion (MICCAI 2023).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from echogen.checkpoints.reading import load_into
from echogen.errors import InputError
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig

#: Substitutions that turn a released name into echogen's, applied in order.
_RULES = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^null_text_embed$", "ef.none_token"),
        (r"^null_text_hidden$", "ef.none_vector"),
        (r"^text_to_cond\.", "ef.token."),
        (r"^to_text_non_attn_cond\.", "ef.vector."),
        (r"^attn_pool\.pos_emb\.weight$", "ef.position"),
        (r"^attn_pool\.to_latents_from_mean_pooled_seq\.", "ef.average."),
        (r"^attn_pool\.layers\.(\d+)\.0\.norm_latents\.", r"ef.looks.\1.latent_norm."),
        (r"^attn_pool\.layers\.(\d+)\.0\.", r"ef.looks.\1."),
        (r"^attn_pool\.layers\.(\d+)\.1\.", r"ef.thinks.\1."),
        (r"^attn_pool\.", "ef."),
        (r"^norm_cond\.", "token_norm."),
        (r"^init_conv\.", "stem."),
        (r"^to_(lowres_)?time_hiddens\.0\.weights$", r"\1noise.frequencies"),
        (r"^to_(lowres_)?time_hiddens\.1\.", r"\1noise.hidden."),
        (r"^to_(lowres_)?time_cond\.0\.", r"\1noise.vector."),
        (r"^to_(lowres_)?time_tokens\.0\.", r"\1noise.tokens."),
        (r"^init_resnet_block\.", "first."),
        (r"^mid_block(\d)\.", r"middle\1."),
        (r"^mid_attn\.(fn\.fn\.)?", "middle_over_all.attention."),
        (r"^final_res_block\.", "last."),
        (r"^final_conv\.", "out."),
        (r"^downs\.(\d+)\.0\.1\.", r"downs.\1.before."),
        (r"^downs\.(\d+)\.7\.fns\.0\.", r"downs.\1.after.around."),
        (r"^downs\.(\d+)\.7\.fns\.1\.", r"downs.\1.after.point."),
        (r"^downs\.(\d+)\.7\.1\.", r"downs.\1.after."),
        (r"^ups\.(\d+)\.6\.net\.0\.", r"ups.\1.after."),
        (r"^(downs\.\d+)\.1\.|^(ups\.\d+)\.0\.", r"\1\2.first."),
        (r"^(downs\.\d+)\.2\.(\d+)\.|^(ups\.\d+)\.1\.(\d+)\.", r"\1\3.blocks.\2\4."),
        (r"^(downs\.\d+)\.4\.fn\.1\.|^(ups\.\d+)\.3\.fn\.1\.", r"\1\2.over_time.position."),
        (r"^(downs\.\d+)\.5\.fn\.fn\.|^(ups\.\d+)\.4\.fn\.fn\.", r"\1\2.over_time.attention."),
        (r"^init_temporal_peg\.fn\.1\.", "first_over_time.position."),
        (r"^mid_temporal_peg\.fn\.1\.", "middle_over_time.position."),
        (r"^init_temporal_attn\.(fn\.fn\.)?", "first_over_time.attention."),
        (r"^mid_temporal_attn\.(fn\.fn\.)?", "middle_over_time.attention."),
        (r"\.attention\.rel_pos_bias\.mlp\.(\d+)\.(weight|bias)$", r".bias.out.\2"),
        (r"\.attention\.rel_pos_bias\.mlp\.", ".bias.layers."),
        (r"over_time\.attention\.null_attn_bias$", "over_time.bias.nothing"),
        (r"\.(block\d)\.groupnorm\.", r".\1.norm."),
        (r"\.(block\d)\.project\.spatial_conv\.", r".\1.conv.space."),
        (r"\.(block\d)\.project\.temporal_conv\.", r".\1.conv.time."),
        (r"\.time_mlp\.1\.", ".conditions."),
        (r"\.cross_attn\.fn\.", ".cross."),
        (r"\.gca\.to_k\.", ".gate.where."),
        (r"\.gca\.net\.0\.", ".gate.shrink."),
        (r"\.gca\.net\.2\.", ".gate.grow."),
        (r"\.res_conv\.", ".shortcut."),
        (r"\.null_kv$", ".nothing"),
        (r"\.to_q\.", ".query."),
        (r"\.to_kv\.", ".key_value."),
        (r"\.to_out\.0\.", ".out."),
        (r"\.to_out\.1\.", ".out_norm."),
        (r"\.q_scale$", ".unit.query"),
        (r"\.k_scale$", ".unit.key"),
        (r"\.g$", ".weight"),
    )
]
#: Names of tensors that the files hold and no computation uses.
_UNUSED = re.compile(r"^mid_attn\.(fn\.fn\.)?null_attn_bias$")


def our_name(name: str) -> str:
    """Name in `VideoUnet` of a released tensor."""
    for pattern, ours in _RULES:
        name = pattern.sub(ours, name)
    return name


def our_tensors(tensors: Mapping[str, Tensor], network: VideoUnet) -> dict[str, Tensor]:
    """Rename released tensors to echogen's names, with axes of size one added or removed to fit the shapes of the network.

    Only the first row of the table of positions is kept, since an EF is one token.
    """
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    ours: dict[str, Tensor] = {}
    for released, tensor in tensors.items():
        if _UNUSED.fullmatch(released):
            continue
        name = our_name(released)
        if name == "ef.position" and tensor.ndim == 2:
            tensor = tensor[0]
        wanted = shapes.get(name)
        if wanted is not None and [n for n in wanted if n > 1] == [n for n in tensor.shape if n > 1]:
            tensor = tensor.reshape(wanted)
        ours[name] = tensor
    return ours


def config_of(tensors: Mapping[str, Tensor]) -> VideoUnetConfig:
    """Read the architecture from the shapes of released tensors. Raises `InputError` when a needed tensor is missing."""

    def count(pattern: str) -> int:
        return len({match[1] for name in tensors if (match := re.match(pattern, name))})

    try:
        levels = count(r"downs\.(\d+)\.")
        memory_saving = any(name.startswith("init_resnet_block.") for name in tensors)
        lowres = any(name.startswith("to_lowres_time_") for name in tensors)
        stem = [tensors[f"init_conv.convs.{index}.weight"] for index in range(count(r"init_conv\.convs\.(\d+)\."))]
        dim = sum(weight.shape[0] for weight in stem)
        widths = [tensors[f"ups.{levels - 1 - level}.0.block2.groupnorm.weight"].shape[0] // dim for level in range(levels)]
        head_dim = tensors["init_temporal_attn.fn.fn.null_kv"].shape[1]
        middle_head_dim = tensors["mid_block1.cross_attn.fn.null_kv"].shape[1]
        context = tensors["norm_cond.weight"].shape[0]
        frequencies = tensors["to_time_hiddens.0.weights"].shape[0]
        return replace(
            VideoUnetConfig.published(),
            channels=tensors["final_conv.weight"].shape[0],
            dim=dim,
            widths=tuple(widths),
            blocks=tuple(count(rf"downs\.{level}\.2\.(\d+)\.") for level in range(levels)),
            cross_attention=tuple(f"downs.{level}.1.cross_attn.fn.null_kv" in tensors for level in range(levels)),
            middle_attention=any(name.startswith("mid_attn.") for name in tensors),
            memory_saving=memory_saving,
            lowres=lowres,
            heads=tensors["init_temporal_attn.fn.fn.to_q.weight"].shape[0] // head_dim,
            head_dim=head_dim,
            middle_heads=tensors["mid_block1.cross_attn.fn.to_q.weight"].shape[0] // middle_head_dim,
            middle_head_dim=middle_head_dim,
            context=context,
            noise_tokens=tensors["to_time_tokens.0.weight"].shape[0] // context,
            frequencies=frequencies,
            ef_latents=tensors["attn_pool.latents"].shape[0],
            ef_averages=tensors["attn_pool.to_latents_from_mean_pooled_seq.1.weight"].shape[0] // context,
            ef_depth=count(r"attn_pool\.layers\.(\d+)\."),
            stem=tuple(weight.shape[-1] for weight in stem),
            unit_queries=any(name.endswith(".q_scale") for name in tensors),
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise InputError("These are not the weights of EchoDiffusion's video U-Net: they do not tell its sizes.") from error


def video_unet_from(tensors: Mapping[str, Tensor], what: str = "video U-Net") -> VideoUnet:
    """Make the network with released weights, in evaluation mode. Raises `InputError` as `config_of` and `load_into`."""
    network = VideoUnet(config_of(tensors))
    load_into(network, our_tensors(tensors, network), what=what)
    return network.eval()
