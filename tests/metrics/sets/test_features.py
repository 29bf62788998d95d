import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.metrics.pictures.likeness import mse, ssim
from echogen.metrics.sets import features
from echogen.metrics.sets.frechet import frechet_distance
from echogen.metrics.sets.mmd import polynomial_mmd
from echogen.networks.config import save_network
from echogen.networks.echo_features import EchoFeatures, EchoFeaturesConfig
from echogen.networks.inception import InceptionV3
from echogen.networks.perceptual import VGG_STAGES
from echogen.records import Cine


class LikeI3d(nn.Module):
    """A script with the signature of the published one, whose numbers follow the order of the frames."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        means = (2 * x / 255 - 1).mean(dim=[1, 3, 4])
        weights = torch.outer(torch.arange(400), torch.arange(x.shape[2])) % 7
        return means @ weights.to(x.dtype).t()


def cines(count: int, frames: int = 24, fps: float = 32.0) -> list[Cine]:
    """Discs that pulse at rates of their own."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32] - 15.5
    made = []
    for _ in range(count):
        rate, phase, size = random.uniform(0.7, 2.5), random.uniform(0, 6.28), random.uniform(6, 10)
        radius = size * (1 + 0.25 * np.sin(2 * np.pi * rate * np.arange(frames) / fps + phase))
        disc = np.hypot(rows, columns)[None] < radius[:, None, None]
        grey = 180 * disc + random.normal(30, 15, disc.shape)
        made.append(Cine(np.clip(grey, 0, 255).astype(np.uint8), np.arange(frames) / fps))
    return made


def changed(made: list[Cine], change) -> list[Cine]:
    return [Cine(change(cine.frames), cine.times_s) for cine in made]


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("weights")
    torch.jit.save(torch.jit.script(LikeI3d()), str(folder / features.I3D.name))
    return folder, hashlib.sha256((folder / features.I3D.name).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> features.EchoClipFeatures:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("echo")
    config = EchoFeaturesConfig(steps=5, stride=4, image_size=32, widths=(8, 16, 16), dims=16)
    save_network(EchoFeatures(config), folder)
    return features.EchoClipFeatures(folder)


def test_a_script_is_loaded_only_if_its_hash_matches(i3d, monkeypatch):
    folder, sha256 = i3d
    with pytest.raises(InputError, match="not the published file"):
        features.I3dFeatures(folder)
    with pytest.raises(InputError, match="not the published file"):
        features.I3dFeatures(folder, sha256=sha256[::-1])
    monkeypatch.setenv(features.WEIGHTS_VARIABLE, str(folder))
    network = features.I3dFeatures(sha256=sha256.upper())
    assert network.metric == "FVD"
    assert network(np.zeros((3, 16, 20, 24), dtype=np.uint8)).shape == (3, network.dims)
    assert features.I3dFeatures(frames=64, sha256=sha256).metric == "FVD (64 frames)"


@pytest.mark.parametrize(
    ("make", "metric", "name"),
    [
        (features.I3dFeatures, "FVD", "i3d_torchscript.pt"),
        (features.InceptionFeatures, "FID", "pt_inception-2015-12-05-6726825d.pth"),
        (features.LearnedPerceptualDistance, "LPIPS", "lpips_vgg16.safetensors"),
    ],
)
def test_absent_weights_are_one_sentence_that_says_what_to_put_where(make, metric, name, tmp_path, monkeypatch):
    monkeypatch.delenv(features.WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(InputError, match=f"^{metric} needs .*{name}; put it into a folder and name that in ECHOGEN_WEIGHTS.$"):
        make()
    with pytest.raises(InputError, match=f"{name}; put it into {tmp_path}"):
        make(tmp_path)


def test_shuffled_frames_change_video_features_and_no_figure_of_frames(i3d, echo):
    def shuffle(frames: np.ndarray) -> np.ndarray:
        return frames[np.random.default_rng(1).permutation(len(frames))]

    real = cines(12)
    shuffled = changed(real, shuffle)
    for network in (features.I3dFeatures(i3d[0], sha256=i3d[1]), echo):
        one, other = (features.features_of(network, made) for made in (real, shuffled))
        assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
        assert frechet_distance(one, other) > 1e-3
        assert polynomial_mmd(one, other, unbiased=False) > polynomial_mmd(one, one, unbiased=False)
    per_frame = [sorted(float(frame.mean()) for frame in cine.frames) for cine in (real[0], shuffled[0])]
    assert per_frame[0] == per_frame[1]
    both = [shuffle(real[0].frames), shuffle(real[1].frames)]
    assert mse(*both) == pytest.approx(mse(real[0].frames, real[1].frames))
    assert ssim(*both) == pytest.approx(ssim(real[0].frames, real[1].frames))


def test_echo_features_follow_noise_and_batches_do_not_matter(echo):
    real = cines(10)
    random = np.random.default_rng(2)
    plain = features.features_of(echo, real)
    distances = []
    for amount in (0, 10, 30, 90):
        noisy = changed(real, lambda f, a=amount: np.clip(f + a * random.standard_normal(f.shape), 0, 255).astype(np.uint8))
        distances.append(frechet_distance(plain, features.features_of(echo, noisy)))
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(distances) > 0).all()
    np.testing.assert_allclose(features.features_of(echo, real, batch=3), plain, atol=1e-4)
    assert plain.shape == (10, echo.dims)
    assert echo.metric not in ("FID", "FVD")


def test_which_frames_are_looked_at(echo):
    long = cines(6, frames=40)
    first = features.features_of(echo, changed(long, lambda f: f[:40]))
    np.testing.assert_array_equal(first, features.features_of(echo, long))
    drawn = features.features_of(echo, long, seed=3)
    np.testing.assert_array_equal(drawn, features.features_of(echo, long, seed=3))
    assert (np.abs(drawn - first).max(1) > 1e-3).sum() >= 3
    short = cines(2, frames=10)
    np.testing.assert_array_equal(features.features_of(echo, [*short, *long]), first)
    with pytest.raises(InputError, match="at least 18 frames at 32 frames per second"):
        features.features_of(echo, short)


@given(length=st.integers(1, 40), count=st.integers(1, 40), seed=st.none() | st.integers(0, 99))
def test_consecutive_frames(length, count, seed):
    frames = np.arange(length, dtype=np.uint8)[:, None, None]
    chosen = features.consecutive_frames(frames, count, seed)
    if count > length:
        assert chosen is None
    else:
        assert (np.diff(chosen[:, 0, 0].astype(int)) == 1).all()
        assert len(chosen) == count
        assert seed is not None or chosen[0, 0, 0] == 0


@given(fps=st.floats(5, 120), wanted=st.floats(5, 120), frames=st.integers(1, 60))
def test_another_rate_takes_the_nearest_frame(fps, wanted, frames):
    numbers = np.arange(frames, dtype=np.uint8)[:, None, None]
    taken = features.at_rate(Cine(numbers, 1.0 + np.arange(frames) / fps), wanted)[:, 0, 0]
    times = np.arange(len(taken)) / wanted
    assert (np.abs(taken / fps - times) <= 0.5 / fps + 1e-6).all()
    assert (frames - 1) / fps - times[-1] < 1 / wanted + 1e-6


def test_inception_has_the_published_shape_and_sees_every_frame(tmp_path):
    torch.manual_seed(0)
    network = InceptionV3()
    # torchvision's Inception v3 without its second classifier has 23,834,568 parameters, with 1,000 classes instead of 1,008
    assert sum(p.numel() for p in network.parameters()) == 23_834_568 + 8 * 2049
    keys = {"Conv2d_1a_3x3.bn.running_var", "Mixed_6b.branch7x7dbl_4.conv.weight", "Mixed_7c.branch3x3dbl_3b.bn.bias", "fc.bias"}
    assert keys <= set(network.state_dict())
    path = tmp_path / features.INCEPTION.name
    torch.save(network.state_dict(), path)
    with pytest.raises(InputError, match="not the published file"):
        features.InceptionFeatures(tmp_path)
    loaded = features.InceptionFeatures(tmp_path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    rows = features.features_of(loaded, cines(1, frames=2))
    assert rows.shape == (2, 2048)
    assert np.isfinite(rows).all()
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="does not hold the weights"):
        features.InceptionFeatures(tmp_path, sha256=hashlib.sha256(b"no weights").hexdigest())


def test_lpips_is_0_for_equal_clips_and_grows_with_blur(tmp_path):
    torch.manual_seed(0)
    tensors = {}
    for stage, layers in enumerate(VGG_STAGES, start=1):
        for number, inputs, outputs in layers:
            tensors[f"net.slice{stage}.{number}.weight"] = torch.randn(outputs, inputs, 3, 3) * math.sqrt(2 / (9 * inputs))
            tensors[f"net.slice{stage}.{number}.bias"] = torch.zeros(outputs)
        tensors[f"lin{stage - 1}.model.1.weight"] = torch.rand(1, outputs, 1, 1)
    save_file(tensors, tmp_path / features.LPIPS.name)
    metric = features.LearnedPerceptualDistance(tmp_path)
    frames = cines(1, frames=2)[0].frames
    assert metric.measure(frames, frames) == 0
    grown = [metric.measure(ndimage.gaussian_filter(frames, (0, sigma, sigma)), frames) for sigma in (0.5, 1.0, 2.0)]
    assert 0 < grown[0] < grown[1] < grown[2]
    metric.update(frames, frames)
    other = features.LearnedPerceptualDistance.from_state({"values": [0.5]}, tmp_path)
    metric.merge(other)
    assert metric.compute() == 0.25
    with pytest.raises(InputError, match="equal shape"):
        metric.measure(frames, frames[:1])
    save_file({key: value for key, value in tensors.items() if key.startswith("net.")}, tmp_path / features.LPIPS.name)
    with pytest.raises(InputError, match="channel weights"):
        features.LearnedPerceptualDistance(tmp_path)
