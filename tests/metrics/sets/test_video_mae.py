import numpy as np
import pytest
import torch
import torch.nn.functional as F

from echogen.errors import InputError
from echogen.metrics.sets.features import features_of
from echogen.metrics.sets.frechet import frechet_distance
from echogen.metrics.sets.video_mae import VIDEO_MAE, VideoMaeFeatures
from echogen.records import Cine

transformers = pytest.importorskip("transformers")
WIDTH, LAYERS = 32, 2


def published_tensors() -> dict[str, torch.Tensor]:
    """Small random weights under the names of the published file."""
    torch.manual_seed(0)
    shapes = {"patch_embed.proj.weight": (WIDTH, 3, 2, 14, 14), "patch_embed.proj.bias": (WIDTH,)}
    for layer in range(LAYERS):
        block = {
            "norm1.weight": (WIDTH,), "norm1.bias": (WIDTH,), "attn.q_bias": (WIDTH,), "attn.v_bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH), "attn.proj.weight": (WIDTH, WIDTH), "attn.proj.bias": (WIDTH,),
            "norm2.weight": (WIDTH,), "norm2.bias": (WIDTH,), "mlp.fc1.weight": (48, WIDTH), "mlp.fc1.bias": (48,),
            "mlp.fc2.weight": (WIDTH, 48), "mlp.fc2.bias": (WIDTH,),
        }  # fmt: skip
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    shapes |= {"fc_norm.weight": (WIDTH,), "fc_norm.bias": (WIDTH,), "head.weight": (5, WIDTH), "head.bias": (5,)}
    return {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}


def by_definition(tensors: dict[str, torch.Tensor], video: np.ndarray) -> np.ndarray:
    """The published forward pass, written out for one clip of 4 frames of 28 x 28."""
    colours = (torch.from_numpy(video).float() / 255)[None].expand(3, -1, -1, -1)
    x = F.conv3d(colours[None], tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=(2, 14, 14))
    x = x.flatten(2).transpose(1, 2)[0]
    place, channel = torch.arange(len(x))[:, None].double(), torch.arange(WIDTH)[None]
    angle = place / 10000 ** (2 * (channel // 2) / WIDTH)
    x = x + torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()
    for layer in range(LAYERS):
        part = {name.split(".", 2)[2]: t for name, t in tensors.items() if name.startswith(f"blocks.{layer}.")}
        y = F.layer_norm(x, (WIDTH,), part["norm1.weight"], part["norm1.bias"], 1e-6)
        bias = torch.cat([part["attn.q_bias"], torch.zeros(WIDTH), part["attn.v_bias"]])
        q, k, v = F.linear(y, part["attn.qkv.weight"], bias).view(len(x), 3, 16, 2).permute(1, 2, 0, 3)
        attended = (q @ k.transpose(1, 2) * 2**-0.5).softmax(-1) @ v
        x = x + F.linear(attended.transpose(0, 1).flatten(1), part["attn.proj.weight"], part["attn.proj.bias"])
        y = F.layer_norm(x, (WIDTH,), part["norm2.weight"], part["norm2.bias"], 1e-6)
        y = F.gelu(F.linear(y, part["mlp.fc1.weight"], part["mlp.fc1.bias"]))
        x = x + F.linear(y, part["mlp.fc2.weight"], part["mlp.fc2.bias"])
    return F.layer_norm(x.mean(0), (WIDTH,), tensors["fc_norm.weight"], tensors["fc_norm.bias"], 1e-6).numpy()


@pytest.fixture
def network(tmp_path) -> VideoMaeFeatures:
    torch.save({"module": published_tensors()}, tmp_path / VIDEO_MAE.name)
    return VideoMaeFeatures(tmp_path, frames=4, size=28)


def test_features_are_those_of_the_published_forward_pass(network):
    video = np.random.default_rng(0).integers(0, 256, (2, 4, 28, 28), dtype=np.uint8)
    expected = np.stack([by_definition(published_tensors(), clip) for clip in video])
    np.testing.assert_allclose(network(video), expected, atol=1e-4)
    assert network(np.repeat(np.repeat(video, 2, 2), 2, 3)).shape == (2, network.dims)


def test_shuffled_frames_make_a_distance(network):
    random = np.random.default_rng(1)
    frames = [np.cumsum(random.integers(0, 20, (8, 28, 28)), axis=0).astype(np.uint8) for _ in range(20)]
    times = np.arange(8) / 32
    rows = [features_of(network, [Cine(f[order], times) for f in frames]) for order in (np.arange(8), [2, 0, 3, 1, 4, 5, 6, 7])]
    assert frechet_distance(rows[0], rows[0]) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(*rows) > 1e-3


def test_absent_and_other_weights_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("ECHOGEN_WEIGHTS", raising=False)
    with pytest.raises(InputError, match=f"^Content-debiased FVD needs .*{VIDEO_MAE.name}; put it into a folder"):
        VideoMaeFeatures()
    torch.save({"fc_norm.weight": torch.zeros(3)}, tmp_path / VIDEO_MAE.name)
    with pytest.raises(InputError, match="does not hold the weights"):
        VideoMaeFeatures(tmp_path)
