"""Networks whose features sets of videos are compared by: published ones from local files, and the project's own.

A distance is named after the network: "FID" and "FVD" are only what the published networks give under their protocols, and
what our own gives is a "Fréchet echo distance"; they are never mixed. The published networks never saw ultrasound. Any object
with the attributes of `FeatureNetwork` will do; that of content-debiased FVD is in `video_mae`.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from echogen.errors import InputError
from echogen.metrics.pictures.likeness import ClipMetric
from echogen.networks.config import load_network
from echogen.networks.echo_features import EchoFeatures, frame_pairs
from echogen.networks.inception import DIMS, InceptionV3
from echogen.networks.perceptual import VggFeatures, load_features, perceptual_distance
from echogen.records import Cine

Bytes = NDArray[np.uint8]
Features = NDArray[np.float32]

#: The environment variable that names the folder of published weights.
WEIGHTS_VARIABLE = "ECHOGEN_WEIGHTS"
_SHIPPED = Path(__file__).parents[2] / "weights" / "echo-features"


@dataclass(frozen=True)
class PublishedFile:
    """A weights file of others: its name, what it is for, and the SHA-256 of its bytes (None: not known for certain)."""

    name: str
    purpose: str
    sha256: str | None


#: Kinetics-400 I3D as TorchScript, from StyleGAN-V.
I3D = PublishedFile("i3d_torchscript.pt", "FVD", "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2")
#: Inception v3 of 2015, converted from TensorFlow, from pytorch-fid.
INCEPTION = PublishedFile(
    "pt_inception-2015-12-05-6726825d.pth", "FID", "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
)
#: VGG16 with the channel weights of LPIPS in one file, as `networks.perceptual.load_features` reads it.
LPIPS = PublishedFile("lpips_vgg16.safetensors", "LPIPS", None)


class TooShort(InputError):
    """No video is long enough for a network."""


class FeatureNetwork(Protocol):
    """Network that turns clips into features.

    name: of the network. metric: what a Fréchet distance on it is called. dims: numbers per feature. frames: consecutive frames
    that it looks at, 1 for a network of pictures. fps: the rate that it expects, None for whatever a clip has.
    """

    name: str
    metric: str
    dims: int
    frames: int
    fps: float | None

    def __call__(self, video: Bytes) -> Features:
        """Clips (n, frames, height, width) uint8 -> features (n, dims) float32."""


def published_file(file: PublishedFile, directory: str | Path | None = None, sha256: str | None = None) -> bytes:
    """The bytes of a published weights file from `directory` (None: the folder that $ECHOGEN_WEIGHTS names), checked.

    sha256: expected instead of the published one. Raises `InputError` where the file is missing or another one.
    """
    folder = directory or os.environ.get(WEIGHTS_VARIABLE)
    if not folder or not (Path(folder) / file.name).is_file():
        where = f"into {folder}" if folder else f"into a folder and name that in {WEIGHTS_VARIABLE}"
        raise InputError(f"{file.purpose} needs the published weights file {file.name}; put it {where}.")
    content = (Path(folder) / file.name).read_bytes()
    expected, found = (sha256 or file.sha256), hashlib.sha256(content).hexdigest()
    if expected and found != expected.lower():
        raise InputError(
            f"{Path(folder) / file.name} is not the published file (its SHA-256 starts {found[:12]}, not {expected[:12]}); "
            "get it again."
        )
    return content


class I3dFeatures:
    """Kinetics-400 I3D of the StyleGAN-V protocol: 400 logits of a clip, whose Fréchet distance (ddof 0) is FVD.

    frames: 16 consecutive frames of each video at its own rate, or 64; from a random place of a reference video, from the start
    of a generated one (`features_of` with and without a seed); shorter videos are left out. The published script itself
    resizes them to 224 x 224 and scales them to -1..1; grey frames are given in three colours.
    """

    name = "i3d-kinetics-400"
    dims = 400
    fps: float | None = None

    def __init__(
        self, directory: str | Path | None = None, *, frames: int = 16, sha256: str | None = None, device: str = "cpu"
    ) -> None:
        """A TorchScript file can hold code, so it is loaded only if its hash is the published one or `sha256`.

        Raises `InputError` where it is not.
        """
        content = published_file(I3D, directory, sha256)
        self.frames, self.device = frames, device
        self.metric = "FVD" if frames == 16 else f"FVD ({frames} frames)"
        try:
            self._script = torch.jit.load(io.BytesIO(content), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{I3D.name} is not a TorchScript file; get it again.") from error

    @torch.no_grad()
    def __call__(self, video: Bytes) -> Features:
        """Clips (n, frames, height, width) uint8 -> (n, 400)."""
        clips = torch.from_numpy(video).to(self.device).float()[:, None].expand(-1, 3, -1, -1, -1)
        return plain(self._script(clips.contiguous(), rescale=True, resize=True, return_features=True))


class InceptionFeatures:
    """Inception v3 of 2015: 2,048 features of a picture, whose Fréchet distance is FID; every frame of a video is a picture."""

    name = "inception-v3-2015"
    metric = "FID"
    dims = DIMS
    frames = 1
    fps: float | None = None

    def __init__(self, directory: str | Path | None = None, *, sha256: str | None = None, device: str = "cpu") -> None:
        """Raises `InputError` where the weights are missing or not the published ones."""
        content = published_file(INCEPTION, directory, sha256)
        self.device = device
        self._network = InceptionV3()
        try:
            self._network.load_state_dict(tensors_in(content))
        except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{INCEPTION.name} does not hold the weights of Inception v3; get it again.") from error
        self._network.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, video: Bytes) -> Features:
        """Pictures (n, 1, height, width) uint8 -> (n, 2048)."""
        return plain(self._network(unit_grey(video, self.device).expand(-1, 3, -1, -1)))


class EchoClipFeatures:
    """The project's own network (`networks.echo_features`): 256 features of 62 frames at 32 fps, about 1.9 s.

    In no loss and no selection. Its Fréchet distance is the Fréchet echo distance; compare it with nothing published.
    """

    name = "echo-features"
    metric = "Fréchet echo distance"

    def __init__(self, folder: str | Path | None = None, *, device: str = "cpu") -> None:
        """folder: of the network, as training leaves it; None is the shipped one. Raises `InputError` where there is none."""
        self._network = load_network(EchoFeatures, folder or _SHIPPED).to(device).requires_grad_(False)
        config = self._network.config
        self.dims, self.frames, self.device = config.dims, config.frames, device
        self.fps: float | None = config.fps

    @torch.no_grad()
    def __call__(self, video: Bytes) -> Features:
        """Clips (n, frames, height, width) uint8 -> (n, dims)."""
        return plain(self._network(frame_pairs(unit_grey(video, self.device), self._network.config)))


@lru_cache(maxsize=1)
def shipped_echo_features() -> EchoClipFeatures:
    """The shipped network, loaded once for all metrics. Raises `InputError` where there is none."""
    return EchoClipFeatures()


class LearnedPerceptualDistance(ClipMetric):
    """LPIPS (Zhang et al. 2018; VGG16), mean over frames and clips, 0 for equal ones; frames are compared one by one.

    A generator that was trained with a perceptual loss of the same weights has an advantage by it: say so beside the figure.
    """

    name = "LPIPS"

    def __init__(self, directory: str | Path | None = None, *, device: str = "cpu") -> None:
        """Raises `InputError` where the weights are missing or lack the channel weights of LPIPS."""
        super().__init__()
        published_file(LPIPS, directory)
        network = load_features(Path(directory or os.environ[WEIGHTS_VARIABLE]) / LPIPS.name)
        if not (isinstance(network, VggFeatures) and network.lpips):
            raise InputError(f"{LPIPS.name} lacks the channel weights of LPIPS; plain VGG16 gives another distance.")
        self._network, self.device = network.to(device), device

    @torch.no_grad()
    def measure(self, frames: ArrayLike, reference: ArrayLike) -> float:
        """LPIPS of one clip (frames, height, width), uint8 or floats in 0..1."""
        one, other = np.asarray(frames), np.asarray(reference)
        if one.shape != other.shape or one.ndim != 3:
            raise InputError(f"LPIPS compares clips (frames, height, width) of equal shape, not {one.shape} and {other.shape}.")
        near, far = (unit_grey(values, self.device)[:, None] for values in (one, other))
        return float(
            np.mean([float(perceptual_distance(self._network, a[None], b[None])) for a, b in zip(near, far, strict=True)])
        )


def unit_grey(values: NDArray[np.generic], device: str) -> Tensor:
    """Floats in 0..1 from uint8, or floats as they are."""
    scale = 255.0 if values.dtype == np.uint8 else 1.0
    return torch.from_numpy(np.ascontiguousarray(values)).to(device).float() / scale


def plain(features: Tensor) -> Features:
    """float32 on the CPU."""
    result: Features = features.float().cpu().numpy()
    return result


def tensors_in(content: bytes) -> Mapping[str, Tensor]:
    """Read the tensors of a PyTorch file, by name; code in it is not run."""
    loaded: object = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise ValueError("no tensors by name")
    return loaded


def at_rate(cine: Cine, fps: float) -> Bytes:
    """The frames of a cine at another rate: at each new time, the frame nearest to it; (frames, height, width)."""
    times = np.arange(int((cine.times_s[-1] - cine.times_s[0]) * fps + 1e-6) + 1) / fps + cine.times_s[0]
    after = np.clip(np.searchsorted(cine.times_s, times), 1, max(len(cine.times_s) - 1, 1))
    if len(cine.times_s) == 1:
        return cine.frames
    nearer_before = times - cine.times_s[after - 1] <= cine.times_s[after] - times
    return cine.frames[np.where(nearer_before, after - 1, after)]


def consecutive_frames(frames: Bytes, count: int, seed: int | Sequence[int] | None = None) -> Bytes | None:
    """`count` consecutive frames, (count, height, width): the first, or from a place drawn by `seed`; None of a shorter video."""
    if len(frames) < count:
        return None
    start = 0 if seed is None else int(np.random.default_rng(seed).integers(len(frames) - count + 1))
    return frames[start : start + count]


def features_of(network: FeatureNetwork, cines: Iterable[Cine], *, seed: int | None = None, batch: int = 8) -> Features:
    """One row of features per cine that is long enough, (n, dims), or one per frame for a network of pictures.

    seed: frames are taken from a random place of the i-th cine, drawn by (seed, i), as StyleGAN-V does with reference videos;
    None: from its start, as with generated ones. Cines are brought to the network's rate first, where it has one. Raises
    `TooShort`, an `InputError`, where none is long enough.
    """
    rows: list[Features] = []
    waiting: list[Bytes] = []
    for index, cine in enumerate(cines):
        frames = cine.frames if network.fps is None else at_rate(cine, network.fps)
        if network.frames == 1:
            clips = [frame[None] for frame in frames]
        else:
            chosen = consecutive_frames(frames, network.frames, None if seed is None else (seed, index))
            clips = [] if chosen is None else [chosen]
        for clip in clips:
            if waiting and (len(waiting) == batch or waiting[0].shape != clip.shape):
                rows.append(network(np.stack(waiting)))
                waiting = []
            waiting.append(clip)
    if waiting:
        rows.append(network(np.stack(waiting)))
    if not rows:
        rate = "" if network.fps is None else f" at {network.fps:g} frames per second"
        raise TooShort(f"{network.metric} needs videos of at least {network.frames} frames{rate}, and none is that long.")
    return np.concatenate(rows)
