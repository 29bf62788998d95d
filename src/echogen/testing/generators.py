"""ECHOPulse small enough to run in milliseconds, with random weights, and an ECG that it can follow."""

from __future__ import annotations

import numpy as np
import torch

from echogen.ecg_window.features import FEATURES
from echogen.generators import EchoPulse, EchoPulseConfig
from echogen.generators.echopulse.config import UsualCavity
from echogen.networks.conditioning import EcgEncoderConfig
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.quantizers import QuantizerConfig
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import make_rhythm
from echogen.records import Ecg


def tiny_echopulse() -> EchoPulse:
    """ECHOPulse of 128 x 128 pixels with windows of 9 latent frames and random weights, the same every time."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(
        VideoTokenizerConfig(
            dim=32, heads=2, spatial_depth_encoder=1, temporal_depth_encoder=1, temporal_depth_decoder=1, spatial_depth_decoder=1,
            time_window=3, quantizer=QuantizerConfig(levels=(5, 5)), patch=32, smooth_head_channels=4,
        )
    )  # fmt: skip
    transformer = MaskedTransformer(
        MaskedTransformerConfig(
            vocabulary=25, spatial_positions=16, max_latents=9, dim=32, depth=2, heads=2, frame_features=4 * FEATURES,
            cavity_cells=64, ecg=EcgEncoderConfig(dim=32, depth=1, heads=2),
        )
    )  # fmt: skip
    for weights in transformer.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.2)
    config = EchoPulseConfig(latents=9, prefix=3, decode_context=4, steps=2, guidance=2.5, usual_cavity=UsualCavity())
    return EchoPulse(config, tokenizer, transformer, torch.device("cpu"))


def sinus_ecg() -> Ecg:
    """12 leads of 10 s of sinus rhythm at 75 bpm and 250 Hz."""
    rng = np.random.default_rng(0)
    return make_ecg(make_rhythm("sinus", 75, 0.0, 10.0, rng), 0.0, 10.0, rng, rate_hz=250.0)
