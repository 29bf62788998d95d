"""Step 1 of ECHOPulse at toy size: it learns, its discriminator trains, it stops when it collapses, and it resumes exactly."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from echogen import InputError
from echogen.datasets.paired_folder import write_pair
from echogen.networks.perceptual import VGG_STAGES, load_features, perceptual_distance
from echogen.networks.video_tokenizer import VideoTokenizerConfig
from echogen.records import Cine
from echogen.testing.clip_stores import small_store
from echogen.training import Recipe, TrainingStopped, load_recipe, train
from echogen.training.adversarial import DiscriminatorOptions, discriminator_config
from echogen.training.checkpoint import load_checkpoint
from echogen.training.losses import CodebookUse, adaptive_weight, collapse, some_frames
from echogen.training.tasks import make_task
from echogen.training.tasks.echopulse_tokenizer import tokenizer_config

NETWORK = {
    "image_size": 32, "patch": 8, "dim": 32, "heads": 2, "spatial_depth_encoder": 1, "temporal_depth_encoder": 1,
    "temporal_depth_decoder": 1, "spatial_depth_decoder": 1,
    "quantizer": {"kind": "vq", "codebook_size": 64, "codebook_dim": 8, "dead_code_threshold": 0.02},
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "features_steps": 8, "discriminator_from": 12, "adversarial_from": 24, "codes_window": 8, "collapse_from": 1000,
    "discriminator": {"widths": [8, 16, 16], "attention_after": [2], "heads": 2, "head_dim": 8, "learning_rate_share": 1.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one shard with one clip of 9 frames."""
    return small_store(tmp_path_factory.mktemp("clips"))


def plan(data: dict[str, Any], **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "task": "echopulse-tokenizer", "steps": 48, "batch_size": 2, "learning_rate": 3e-3, "warmup_steps": 4, "ema_decay": 0.8,
        "schedule": "constant", "precision": "fp32", "save_every": 1000, "sample_every": 0, "log_every": 1,
        "data": {"frames": 5, **data}, "network": NETWORK, "options": OPTIONS,
    }  # fmt: skip
    return Recipe(**(values | changes))


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str) -> dict[int, float]:
    return {int(row["step"]): float(row[name]) for row in rows if row[name]}


def quantizer(**fields: Any) -> dict[str, Any]:
    return NETWORK | {"quantizer": fields}


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run through all its stages."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = plan({"clips": str(clips), "contrast": [0.8, 1.2]})
    train(make_task(recipe), recipe, folder, progress=False)
    return folder


def test_it_learns_in_its_stages(whole: Path) -> None:
    rows = table(whole)
    mse, features = column(rows, "mse"), column(rows, "features_loss")
    assert mse[48] < 0.4 * mse[1]
    assert column(rows, "loss")[8] < column(rows, "loss")[1]
    assert list(features) == list(range(1, 9))
    assert features[8] < 0.9 * features[1]
    assert min(column(rows, "perceptual_phantom_features")) == 9
    assert list(column(rows, "discriminator_loss")) == list(range(13, 49))
    assert list(column(rows, "adaptive_weight")) == list(range(25, 49))
    assert list(column(rows, "perplexity")) == [8, 16, 24, 32, 40, 48]
    assert all(0 < share <= 1 for share in column(rows, "codes_used").values())


def test_the_discriminator_learns_to_tell_and_its_penalty_is_finite(whole: Path) -> None:
    rows = table(whole)
    hinge, penalty = column(rows, "discriminator_hinge"), column(rows, "gradient_penalty")
    assert hinge[13] == pytest.approx(2.0, abs=0.3)
    assert min(hinge.values()) < 0.9 * hinge[13]
    assert all(math.isfinite(value) and value >= 0 for value in penalty.values())
    assert penalty[48] < penalty[13]


def test_weights_are_left_for_all_that_goes_on_training(whole: Path, clips: Path) -> None:
    assert sorted(path.name for path in (whole / "weights").iterdir()) == ["discriminator", "features", "tokenizer"]
    recipe = plan({"clips": str(clips)}, init_from=str(whole / "weights"))
    again = make_task(recipe)
    parts = again.losses(again.batch(0, 0, 1), 0)
    assert float(parts["mse"].detach()) < column(table(whole), "mse")[8]
    assert "perceptual_phantom_features" in parts
    with pytest.raises(InputError, match="other settings"):
        make_task(replace(recipe, network=NETWORK | {"dim": 64}))


def test_resume_is_exact_with_several_optimizers(whole: Path, clips: Path, tmp_path: Path) -> None:
    recipe = plan({"clips": str(clips), "contrast": [0.8, 1.2]}, steps=28)
    train(make_task(recipe), recipe, tmp_path, progress=False)
    longer = replace(recipe, steps=48)
    train(make_task(longer), longer, tmp_path, resume=True, progress=False)
    one, two = load_checkpoint(whole), load_checkpoint(tmp_path)
    assert one is not None
    assert two is not None
    assert set(one["networks"]) == {"tokenizer", "discriminator", "features", "codebook_use"}
    for part in ("networks", "ema"):
        for name, tensors in one[part].items():
            assert all(torch.equal(tensor, two[part][name][key]) for key, tensor in tensors.items()), (part, name)
    for name, earlier in one["optimizers"].items():
        for index, state in earlier["state"].items():
            assert all(torch.equal(value, two["optimizers"][name]["state"][index][key]) for key, value in state.items())
    for name in ("mse", "discriminator_loss", "perplexity"):
        assert column(table(whole), name) == column(table(tmp_path), name)


@pytest.mark.parametrize(
    "codes",
    [
        {"kind": "lfq", "codebook_size": 8192, "entropy_weight": 0.02},
        {"kind": "fsq", "levels": [5, 5, 5]},
        {"kind": "vq", "codebook_size": 64, "codebook_dim": 8, "groups": 2},
    ],
    ids=lambda codes: codes["kind"],
)
def test_every_kind_of_codes_trains(clips: Path, tmp_path: Path, codes: dict[str, Any]) -> None:
    options = {"perceptual": 0.0, "adversarial": 0.0, "codes_window": 8}
    recipe = plan({"clips": str(clips)}, network=quantizer(**codes), options=options, steps=32)
    train(make_task(recipe), recipe, tmp_path, progress=False)
    rows = table(tmp_path)
    assert column(rows, "mse")[32] < 0.5 * column(rows, "mse")[1]
    assert column(rows, "perplexity")[32] > 1.5
    assert not any("perceptual" in name or "discriminator" in name for name in rows[0])


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"fewest_codes": 63.5}, r"few codes \(as many as .* of all\)"), ({"fewest_codes": 0.5, "least_spread": 9.0}, "one colour")],
)
def test_a_collapse_stops_the_run_with_a_sentence(clips: Path, tmp_path: Path, limits: dict[str, float], words: str) -> None:
    recipe = plan({"clips": str(clips)}, options=OPTIONS | {"codes_window": 3, "collapse_from": 3} | limits)
    with pytest.raises(TrainingStopped, match=f"^Training stopped at step 6 because .*{words}.*[.]$"):
        train(make_task(recipe), recipe, tmp_path, progress=False)


def test_what_counts_as_a_collapse() -> None:
    use = CodebookUse(vocabulary=16, groups=2)
    real, even = torch.rand(2, 4, 8, 8), torch.arange(32).view(1, 2, 16, 1).expand(2, 2, 16, 2) % 16
    use.add(even, 0.5 * real, real)
    healthy = use.report()
    assert float(healthy.codes_used) == 1.0
    assert float(healthy.perplexity) == pytest.approx(16.0, rel=1e-4)
    assert float(healthy.drawn_spread) == pytest.approx(0.5, rel=1e-4)
    assert collapse(healthy, 4.0, 0.05) is None
    use.add(torch.full((2, 2, 16, 2), 3), real, real)
    single = use.report()
    assert float(single.perplexity) == pytest.approx(1.0)
    assert "few codes" in str(collapse(single, 4.0, 0.05))
    use.add(even, torch.tensor([0.2, 0.7]).view(2, 1, 1, 1).expand_as(real), real)  # each clip a colour of its own
    assert "one colour" in str(collapse(use.report(), 4.0, 0.05))
    use.add(even, torch.zeros_like(real), torch.zeros_like(real))
    assert collapse(use.report(), 4.0, 0.05) is None  # black clips are rightly drawn black


def test_the_adaptive_weight_makes_both_gradients_equally_long() -> None:
    layer = torch.randn(5, 3, requires_grad=True)
    other = torch.randn(4, requires_grad=True)
    perceptual, adversarial = (3.0 * layer).square().mean(), (layer.sum() * 0.01).tanh() + other.sum()
    weight = adaptive_weight(perceptual, adversarial, [layer])
    assert not weight.requires_grad
    one, two = (torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in (perceptual, weight * adversarial))
    assert float(two) == pytest.approx(float(one), rel=1e-3)
    assert float(adaptive_weight(perceptual, other.sum(), [layer])) == 1e4  # the adversarial loss says nothing: bounded


def test_frames_looked_at_differ_and_are_in_order() -> None:
    torch.manual_seed(0)
    taken = some_frames(torch.zeros(50, 7, 1), 3)
    assert taken.shape == (50, 3)
    assert bool((taken.diff(dim=1) > 0).all())
    assert set(taken.unique().tolist()) == set(range(7))


@pytest.fixture(scope="module")
def vgg() -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = {}
    for stage, layers in enumerate(VGG_STAGES, start=1):
        for number, inputs, outputs in layers:
            scale = math.sqrt(2 / (9 * inputs))
            tensors[f"loss_fn_lpips.net.slice{stage}.{number}.weight"] = torch.randn(outputs, inputs, 3, 3) * scale
            tensors[f"loss_fn_lpips.net.slice{stage}.{number}.bias"] = torch.zeros(outputs)
        tensors[f"loss_fn_lpips.lin{stage - 1}.model.1.weight"] = torch.rand(1, outputs, 1, 1)
    return tensors


def test_lpips_from_a_file_is_named_in_the_log(clips: Path, tmp_path: Path, vgg: dict[str, Tensor]) -> None:
    torch.save(vgg, tmp_path / "lpips.pth")
    recipe = plan({"clips": str(clips)}, options=OPTIONS | {"perceptual_weights": str(tmp_path / "lpips.pth")})
    task = make_task(recipe)
    parts = task.losses(task.batch(0, 0, 1), 0)
    assert float(parts["perceptual_lpips_vgg16"].detach()) > 0
    assert "features" not in task.networks()
    network = load_features(tmp_path / "lpips.pth")
    one = torch.rand(2, 1, 32, 32)
    assert float(perceptual_distance(network, one, one)) == 0.0
    drawn = (one + 0.1).requires_grad_()
    near, far = (perceptual_distance(network, pictures, one) for pictures in (drawn, torch.rand(2, 1, 32, 32)))
    assert 0 < float(near.detach()) < float(far)
    near.backward()
    assert drawn.grad is not None
    assert bool(drawn.grad.isfinite().all())


def test_plain_vgg16_has_the_names_of_torchvision(tmp_path: Path, vgg: dict[str, Tensor]) -> None:
    plain = {"features." + name.split(".", 3)[3]: value for name, value in vgg.items() if "slice" in name}
    torch.save(plain, tmp_path / "vgg16.pth")
    assert load_features(tmp_path / "vgg16.pth").name == "vgg16"
    del plain["features.14.bias"]
    torch.save(plain, tmp_path / "vgg16.pth")
    with pytest.raises(InputError, match="layer 14"):
        load_features(tmp_path / "vgg16.pth")
    (tmp_path / "vgg16.pth").write_bytes(b"nothing")
    for missing in ("vgg16.pth", "missing.pth", "missing.safetensors"):
        with pytest.raises(InputError, match="perceptual loss"):
            load_features(tmp_path / missing)


def test_another_modality_by_config_alone(tmp_path: Path) -> None:
    """The shape of cine MRI: one channel, 84 x 84 pixels, patches of 7, 25 frames; from a folder of videos."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:84, :84]
    for name in ("a", "b"):
        centre = rng.uniform(32, 52, 2)
        radius = 18 + 8 * np.sin(np.arange(27) / 25 * 2 * np.pi)[:, None, None]
        disc = np.hypot(rows - centre[0], columns - centre[1]) < radius
        write_pair(tmp_path / "mri", name, Cine((40 + 160 * disc).astype(np.uint8), np.arange(27) / 25.0), np.zeros((1, 100)))
    network = NETWORK | {"channels_in": 1, "image_size": 84, "patch": 7}
    options = OPTIONS | {"perceptual": 0.0, "discriminator_from": 4, "adversarial_from": 6}
    data = {"videos": str(tmp_path / "mri"), "frames": 25, "contrast": [0.6, 1.4]}
    recipe = plan(data, network=network, options=options, steps=10, sample_every=10)
    task = make_task(recipe)
    train(task, recipe, tmp_path / "run", progress=False)
    mse = column(table(tmp_path / "run"), "mse")
    assert mse[10] < 0.8 * mse[1]
    strip = task.sample(10)
    assert strip is not None
    assert strip.shape == (4 * 84, 25 * 84)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"frames": 6}}, "1 plus a multiple of the time patch 2, not 6"),
        ({"data": {"frames": 11}}, "lasts 0.25 s, but a window needs 0.31 s"),
        ({"data": {"frames": 5, "frame_step": 3}}, "lasts 0.25 s, but a window needs 0.38 s"),
        ({"data": {"frames": 5, "contrast": [1.4, 0.6]}}, "rising"),
        ({"network": {"image_size": 36}}, "not a multiple of the patch size"),
        ({"network": {"channels_in": 2}}, "grey"),
        ({"network": {"width": 3}}, "no setting network.width"),
        ({"network": quantizer(kind="lfq", codebook_size=1000)}, "power of two"),
        ({"options": {"discriminator": {"widths": [8] * 7}}}, "fewer entries"),
        ({"options": {"discriminator": {"widths": [8], "attention_after": [1]}}}, "attention_after"),
        ({"options": {"adversarial_from": 5}}, "must not come before"),
        ({"options": {"looked_at": 6}}, "looked_at"),
        ({"options": {"fewest_codes": 64}}, "fewest_codes"),
        ({"options": {"features_steps": 0}}, "perceptual loss needs"),
        ({"options": {"perceptual_weight": 1}}, "did you mean options.perceptual_weights"),
    ],
)
def test_a_wrong_setting_is_one_sentence(clips: Path, changes: dict[str, Any], words: str) -> None:
    recipe = plan(
        {"clips": str(clips)} | changes.get("data", {}),
        network=NETWORK | changes.get("network", {}),
        options=OPTIONS | changes.get("options", {}),
    )
    with pytest.raises(InputError, match=words):
        make_task(recipe)


def test_data_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    for data, words in (({}, r"lacks the setting data\.source"), ({"videos": str(tmp_path)}, "no echo video")):
        with pytest.raises(InputError, match=words):
            make_task(plan(data, options=OPTIONS | {"perceptual": 0.0}))


def test_the_recipes_are_the_papers_network_and_a_small_one() -> None:
    paper, small = load_recipe("echopulse-tokenizer"), load_recipe("echopulse-tokenizer-small")
    table_4, config = VideoTokenizerConfig.paper(), tokenizer_config(paper.network)
    assert replace(config, quantizer=table_4.quantizer, seconds_per_latent=table_4.seconds_per_latent) == table_4
    assert (config.quantizer.kind, config.quantizer.vocabulary) == ("lfq", 8192)
    for recipe in (paper, small):
        assert recipe.data["frames"] == 11
        options = DiscriminatorOptions(**recipe.options.get("discriminator", {}))
        assert discriminator_config(options, tokenizer_config(recipe.network)).channels == 3
    again = load_recipe("echopulse-tokenizer-small", ["network={seconds_per_latent: 0.1875, quantizer: {kind: lfq}}"])
    assert tokenizer_config(again.network) == config
