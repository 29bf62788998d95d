"""Windows of clips for the task `echopulse-transformer`, as token ids that are made once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echogen.datasets.clip_store import ClipStore
from echogen.datasets.paired_folder import resize
from echogen.ecg.leads import STANDARD_LEADS
from echogen.files import whole_file
from echogen.generators.base import hash_weights
from echogen.networks.config import load_network
from echogen.networks.text import DEFAULT_TEXT_ENCODER
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig

logger = logging.getLogger("echogen.training")


@dataclass(frozen=True)
class WindowData:
    """Windows of clips, and the networks that encode them.

    clips: Folder of a clip store.
    tokenizer: Folder of a trained tokenizer.
    cache: Folder in which the windows' token ids are kept.
    ecg_encoder: Folder of a trained ST-MEM; needed for options.condition=ecg.
    frames: Frames of a window, 1 plus a multiple of the tokenizer's time patch.
    frame_step: Frames of the clip from one frame of a window to the next.
    starts: First frames of the windows of each clip.
    leads: Leads that the ECG encoder sees.
    text_encoder: Folder or hub name of a T5 encoder, for options.condition=text.
    """

    clips: str
    tokenizer: str
    cache: str
    ecg_encoder: str | None = None
    frames: int = 11
    frame_step: int = 3
    starts: tuple[int, ...] = (0, 11, 22, 33, 44, 55, 66)
    leads: tuple[str, ...] = STANDARD_LEADS
    text_encoder: str = DEFAULT_TEXT_ENCODER


def encode_windows(data: WindowData, store: ClipStore, config: VideoTokenizerConfig, batch: int = 8) -> list[NDArray[Any]]:
    """Token ids (clips, latents, positions, groups) of the windows from each start, made once and kept in the cache."""
    folder = Path(data.cache)
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer: VideoTokenizer | None = None
    small = np.int16 if config.quantizer.vocabulary <= 2**15 else np.int32
    made_by = f"{hash_weights(Path(data.tokenizer))[:8]}_{data.frames}_by_{data.frame_step}"
    paths = [folder / f"ids_{made_by}_from_{start:03d}.npy" for start in data.starts]
    for start, path in zip(data.starts, paths, strict=True):
        if path.is_file() and len(np.load(path, mmap_mode="r")) == len(store):
            continue
        logger.info("The windows from frame %d on are turned into tokens.", start)
        tokenizer = tokenizer or load_network(VideoTokenizer, data.tokenizer).to(device)
        taken = slice(start, start + (data.frames - 1) * data.frame_step + 1, data.frame_step)
        parts = []
        for first in range(0, len(store), batch):
            some = range(first, min(first + batch, len(store)))
            clips = [resize(np.asarray(store[index].frames[taken]), config.image_size) for index in some]
            video = torch.from_numpy(np.stack(clips)).to(device).float() / 255.0
            if config.channels_in > 1:
                video = video.unsqueeze(1).expand(-1, config.channels_in, -1, -1, -1)
            with torch.inference_mode():
                parts.append(tokenizer.tokenize(video).cpu().numpy().astype(small))
        with whole_file(path) as unfinished:
            np.save(unfinished, np.concatenate(parts))
    return [np.load(path, mmap_mode="r") for path in paths]
