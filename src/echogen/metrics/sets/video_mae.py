"""Content-debiased FVD: a Fréchet distance on the features of VideoMAE, which look more at motion than those of I3D do.

Source: Ge et al., On the Content Bias in Fréchet Video Distance, CVPR 2024; Wang et al., VideoMAE V2, CVPR 2023. Their network is
VideoMAE V2 ViT-g/14, pretrained on 1.35 million unlabelled clips and fine-tuned on Something-Something V2.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.errors import InputError
from echogen.metrics.sets.features import Bytes, Features, PublishedFile, plain, published_file, tensors_in, unit_grey

VIDEO_MAE = PublishedFile("vit_g_hybrid_pt_1200e_ssv2_ft.pth", "Content-debiased FVD", None)
_HEADS, _TUBELET, _EPSILON = 16, 2, 1e-6
#: Names in the published file, and those of `transformers`.
_NAMES = (
    (r"^patch_embed\.proj\.", "videomae.embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.norm1\.", r"videomae.encoder.layer.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"videomae.encoder.layer.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"videomae.encoder.layer.\1.attention.output.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"videomae.encoder.layer.\1.intermediate.dense."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"videomae.encoder.layer.\1.output.dense."),
    (r"^head\.", "classifier."),
)


class VideoMaeFeatures:
    """VideoMAE V2: the mean of the last tokens of 16 frames, normalised; 1,408 numbers of the published network.

    Frames are taken as for `I3dFeatures`, resized to the network's size (224 x 224) without antialiasing and scaled to 0..1; grey
    is given in three colours. The published network has 1.0 billion parameters, so that a clip takes seconds on two cores.
    """

    name = "videomae-v2-giant"
    metric = "Content-debiased FVD"
    fps: float | None = None

    def __init__(self, directory: str | Path | None = None, *, frames: int = 16, size: int = 224, device: str = "cpu") -> None:
        """frames, size: what the weights were made for.

        Raises `InputError` where the weights are missing, are no VideoMAE V2, or the package transformers is missing.
        """
        self.frames, self.device, self._size = frames, device, size
        content = published_file(VIDEO_MAE, directory)
        try:
            self._network = _network(tensors_in(content), frames, size).to(device)
        except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{VIDEO_MAE.name} does not hold the weights of VideoMAE V2; get it again.") from error
        self.dims = int(self._network.config.hidden_size)

    @torch.no_grad()
    def __call__(self, video: Bytes) -> Features:
        """Clips (n, frames, height, width) uint8 -> (n, dims)."""
        size = (self._size, self._size)
        clips = F.interpolate(unit_grey(video, self.device), size, mode="bilinear", align_corners=False)
        tokens = self._network.videomae(clips[:, :, None].expand(-1, -1, 3, -1, -1)).last_hidden_state
        norm = self._network.fc_norm
        return plain(F.layer_norm(tokens.mean(1), norm.normalized_shape, norm.weight, norm.bias, _EPSILON))


def _network(tensors: Mapping[str, Any], frames: int, size: int) -> Any:
    """The network of `transformers` with the published tensors; its sizes are theirs."""
    try:
        from transformers import VideoMAEConfig, VideoMAEForVideoClassification
    except ImportError as error:
        raise InputError("Content-debiased FVD needs the package transformers; install echogen[text].") from error
    for key in ("model", "module"):
        if key in tensors:
            tensors = tensors[key]
            break
    patches = tensors["patch_embed.proj.weight"]
    config = VideoMAEConfig(
        image_size=size,
        patch_size=patches.shape[-1],
        num_frames=frames,
        tubelet_size=_TUBELET,
        hidden_size=patches.shape[0],
        num_hidden_layers=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")),
        num_attention_heads=_HEADS,
        intermediate_size=tensors["blocks.0.mlp.fc1.weight"].shape[0],
        layer_norm_eps=_EPSILON,
        use_mean_pooling=True,
        num_labels=tensors["head.weight"].shape[0],  # type: ignore[call-arg]
    )
    network = VideoMAEForVideoClassification(config)
    # Older versions of transformers keep the biases of queries and values by themselves.
    bias = "{}.bias" if any(name.endswith("query.bias") for name in network.state_dict()) else "{0[0]}_bias"
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block = re.match(r"blocks\.(\d+)\.attn\.(qkv\.weight|q_bias|v_bias)$", name)
        if block is None:
            for pattern, replacement in _NAMES:
                name = re.sub(pattern, replacement, name)
            renamed[name] = tensor
            continue
        attention = f"videomae.encoder.layer.{block[1]}.attention.attention."
        if block[2] == "qkv.weight":
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"{attention}{part}.weight"] = rows
        else:
            renamed[attention + bias.format("query" if block[2] == "q_bias" else "value")] = tensor
    network.load_state_dict(renamed, assign=True)
    return network.float().eval().requires_grad_(False)
