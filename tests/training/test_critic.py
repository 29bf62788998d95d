"""Step 2 of ECHOPulse with its critics, and on ST-MEM's patches or a sentence: it learns, resumes exactly and refuses misfits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import InputError
from echogen.networks.config import config_from_dict, config_to_dict, load_network, save_network
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.quantizers import QuantizerConfig
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.networks.token_critic import load_critic, with_guesses
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.records import Ecg
from echogen.testing.clip_stores import small_store
from echogen.training import Recipe, Task, load_recipe, train
from echogen.training.recipe import settings
from echogen.training.tasks import make_task
from echogen.training.tasks.echopulse_transformer import (
    EchoPulseTransformerOptions,
    EchoPulseTransformerTask,
    WindowData,
    ecg_start,
)

FRAMES = 41


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one clip, two random tokenizers (of the paper's kind and of the phantom's) and a random ST-MEM."""
    folder = tmp_path_factory.mktemp("runs")
    small_store(folder / "clips", frames=FRAMES)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "patch": 32, "dim": 16, "heads": 2, "spatial_depth_encoder": 1, "temporal_depth_encoder": 1, "temporal_depth_decoder": 1,
        "spatial_depth_decoder": 1, "quantizer": QuantizerConfig(levels=(5, 5)),
    }  # fmt: skip
    save_network(VideoTokenizer(VideoTokenizerConfig(**sizes, channels_in=3, time_patch=2)), folder / "paper" / "tokenizer")
    save_network(VideoTokenizer(VideoTokenizerConfig(**sizes, smooth_head_channels=4)), folder / "phantom" / "tokenizer")
    ecg = StMemConfig(seq_len=1000, patch_size=50, width=24, depth=1, heads=2, head_dim=12, mlp_dim=48)
    save_network(StMem(ecg), folder / "st_mem")
    return folder


def plan(runs: Path, tmp_path: Path, *, data: Any = None, network: Any = None, options: Any = None, **changes: Any) -> Recipe:
    """A recipe of the paper's step 2 in miniature."""
    values: dict[str, Any] = {
        "task": "echopulse-transformer", "steps": 40, "batch_size": 4, "learning_rate": 5e-3, "warmup_steps": 5,
        "schedule": "constant", "precision": "fp32", "save_every": 1000, "sample_every": 0, "log_every": 1000, "ema_decay": 0.8,
        "data": {
            "source": str(runs / "clips"), "tokenizer": str(runs / "paper" / "tokenizer"),
            "ecg_encoder": str(runs / "st_mem"), **(data or {}),
        },
        "network": {"dim": 32, "depth": 2, "heads": 2, **(network or {})},
        "options": {"drop": 0.1, "steps": 3, **(options or {})},
    }  # fmt: skip
    return Recipe(**(values | changes))


def phantom_plan(runs: Path, tmp_path: Path, **options: Any) -> Recipe:
    """A recipe of the shipped default's step 2 in miniature."""
    recipe = plan(runs, tmp_path)
    data = {"source": recipe.data["source"], "tokenizer": str(runs / "phantom" / "tokenizer")}
    network = {"vocabulary": 25, "spatial_positions": 16, "dim": 32, "depth": 2, "heads": 2, "ecg": {"dim": 16, "depth": 1}}
    data |= {"latents": 6}
    return Recipe(**{**vars(recipe), "task": "masked-video", "data": data, "network": network, "options": options})


def loss_of(task: Task, name: str = "loss", seed: int = 999) -> float:
    torch.manual_seed(seed)
    with torch.no_grad():
        return float(np.mean([float(task.losses(task.batch(seed + i, 0, 1), 0)[name]) for i in range(4)]))


def test_the_paper_s_transformer_learns_with_its_critic_and_draws(runs: Path, tmp_path: Path) -> None:
    task = make_task(plan(runs, tmp_path, options={"critic": "token"}, steps=80))
    before, doubt = loss_of(task), loss_of(task, "critic")
    train(task, task.recipe, tmp_path / "run", progress=False)
    assert loss_of(task) < 0.6 * before
    assert loss_of(task, "critic") < doubt
    strip = task.sample(0)
    assert strip is not None
    assert strip.shape == (4 * 128, 11 * 128)
    transformer = load_network(MaskedTransformer, tmp_path / "run" / "weights" / "transformer")
    assert load_critic(tmp_path / "run" / "weights" / "critic", transformer).config == transformer.config


@pytest.mark.parametrize("kind", ["token", "self"])
def test_the_phantom_s_transformer_gets_a_critic_that_knows_real_tokens(runs: Path, tmp_path: Path, kind: str) -> None:
    task = make_task(phantom_plan(runs, tmp_path, critic=kind, drop_all=0.0))
    train(task, task.recipe, tmp_path / "run", progress=False)
    networks = task.networks()
    batch = task.batch(500, 0, 1)
    transformer = networks["transformer"]
    flat = torch.zeros(int(batch["hidden"].sum()), 1, 25)
    ids = task.token_ids(batch)
    shown = with_guesses(ids, batch["hidden"], flat)

    def condition(network: MaskedTransformer) -> Any:
        return network.condition(len(shown))

    with torch.no_grad():
        scores = networks["critic"](transformer, shown, batch["times_s"], batch["is_first"], condition)
    real = (shown == ids).all(-1)
    assert float(scores[real].mean()) > float(scores[~real].mean())


def test_a_token_critic_leaves_the_transformer_s_training_as_it_is(runs: Path, tmp_path: Path) -> None:
    trained = []
    for kind in ("none", "token"):
        task = make_task(plan(runs, tmp_path, options={"critic": kind}, steps=3))
        train(task, task.recipe, tmp_path / kind, progress=False)
        trained.append(task.networks()["transformer"].state_dict())
    for name, tensor in trained[0].items():
        assert torch.equal(tensor, trained[1][name]), name


def test_a_resumed_run_ends_as_an_uninterrupted_one(runs: Path, tmp_path: Path) -> None:
    ends = []
    for parts in ((4,), (2, 4)):
        for steps in parts:
            task = make_task(plan(runs, tmp_path, options={"critic": "self"}, steps=steps))
            train(task, task.recipe, tmp_path / str(len(parts)), resume=True, progress=False)
        ends.append({name: network.state_dict() for name, network in task.networks().items()})
    for name, weights in ends[0].items():
        for key, tensor in weights.items():
            assert torch.equal(tensor, ends[1][name][key]), (name, key)


def test_the_ecg_reaches_the_transformer_on_the_clock(runs: Path, tmp_path: Path) -> None:
    task = make_task(plan(runs, tmp_path, options={"drop": 0.0, "ecg_mask": 0.0}, batch_size=3))
    assert isinstance(task, EchoPulseTransformerTask)
    for weight in task.transformer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    batch = task.batch(0, 0, 1)
    start, length = batch["ecg_start_s"], 4.0
    assert bool((start <= 1e-6).all())
    assert bool((start + length >= 30 / 32 - 0.01).all())  # the video lies within the ECG's window
    tokens = task._context(batch, batch["keep"])
    assert tokens.values.shape == (3, 12 * 20, 24)
    changed = [loss_of_batch(task, batch | change) for change in ({}, {"ecg_start_s": start + 0.2}, {"ecg": -batch["ecg"]})]
    assert len(set(changed)) == 3
    hidden = {"keep": torch.zeros(3, dtype=torch.bool)}
    assert loss_of_batch(task, batch | hidden) == pytest.approx(loss_of_batch(task, batch | hidden | {"ecg": -batch["ecg"]}))


def loss_of_batch(task: Task, batch: dict[str, torch.Tensor]) -> float:
    with torch.no_grad():
        return float(task.losses(batch, 0)["loss"])


def test_the_ecg_s_patches_and_whole_conditions_are_hidden_as_often_as_asked(runs: Path, tmp_path: Path) -> None:
    batch = make_task(plan(runs, tmp_path, options={"drop": 0.3, "ecg_mask": 0.6}, batch_size=300)).batch(0, 0, 1)
    assert float(batch["keep"].float().mean()) == pytest.approx(0.7, abs=0.09)
    assert float(batch["patches"].float().mean()) == pytest.approx(0.7, abs=0.05)
    given = (~batch["hidden"][:, 0]).all(1).float().mean()
    assert float(given) >= 0.4
    assert torch.equal(batch["times_s"][0], torch.tensor([0.0, 4.5, 10.5, 16.5, 22.5, 28.5]) / 32)


def test_the_text_form_trains_on_sentences(runs: Path, tmp_path: Path) -> None:
    transformers, tokenizers = pytest.importorskip("transformers"), pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "<unk>": 1, "percent": 2, "fraction": 3}, "<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        tmp_path / "t5"
    )
    config = transformers.T5Config(vocab_size=4, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    task = make_task(
        plan(runs, tmp_path, data={"text_encoder": str(tmp_path / "t5"), "ecg_encoder": None}, options={"condition": "text"})
    )
    before = loss_of(task)
    train(task, task.recipe, tmp_path / "run", progress=False)
    assert loss_of(task) < before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": {"vocabulary": 8192}}, "expects 8192 codes"),
        ({"network": {"spatial_positions": 256}}, "expects 256 tokens a latent frame"),
        ({"network": {"max_latents": 5}}, "at most 5 latent frames"),
        ({"network": {"context_dim": 768}}, "width 768"),
        ({"data": {"frames": 10}}, "1 plus a multiple of the time patch 2"),
        ({"data": {"frame_step": 5}}, "lasts 1.25 s, but a window needs 1.56 s"),
        ({"data": {"leads": ["II", "V9"]}}, "V9"),
        ({"data": {"ecg_encoder": None}}, "must name the folder of a trained ST-MEM"),
        ({"data": {"source": "no/such/folder"}}, "no/such/folder is no folder"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence_before_any_compute(
    runs: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        make_task(plan(runs, tmp_path, **changes))
    assert not (tmp_path / "ids").exists()


def test_an_ecg_shorter_than_the_encoder_s_window_is_one_sentence(runs: Path, tmp_path: Path) -> None:
    long = StMemConfig(seq_len=2250, patch_size=75, width=24, depth=1, heads=2, head_dim=12, mlp_dim=48)
    save_network(StMem(long), tmp_path / "st_mem")
    with pytest.raises(InputError, match=r"needs 9 s from -2\.00 s on, but the ECG covers -2\.00 to 2\.\d\d s"):
        make_task(plan(runs, tmp_path, data={"ecg_encoder": str(tmp_path / "st_mem")}))


def test_a_phantom_transformer_of_another_codebook_is_one_sentence(runs: Path, tmp_path: Path) -> None:
    recipe = phantom_plan(runs, tmp_path)
    with pytest.raises(InputError, match="expects 1000 codes"):
        make_task(Recipe(**{**vars(recipe), "network": {**recipe.network, "vocabulary": 1000}}))
    assert not (tmp_path / "ids").exists()


def test_an_ecg_window_lies_within_the_ecg_and_covers_the_video() -> None:
    ecg = Ecg(np.zeros((1, 1000), np.float32), 100.0, ("II",), -2.0)  # -2 .. 8 s
    rng = np.random.default_rng(0)
    for first in np.linspace(-2.0, 7.0, 30):
        start = ecg_start(ecg, float(first), float(first) + 1.0, 4.0, rng)
        assert -2.0 <= start <= first
        assert first + 1.0 <= start + 4.0 <= 8.0 + 1e-9
    assert ecg_start(ecg, 0.0, 1.0, 12.0, rng) == -2.0


def test_the_paper_s_recipe_has_the_paper_s_numbers() -> None:
    recipe = load_recipe("echopulse-transformer")
    paper = MaskedTransformerConfig.paper()
    assert config_from_dict(MaskedTransformerConfig, config_to_dict(paper) | dict(recipe.network)) == paper
    assert (recipe.batch_size, recipe.steps, recipe.learning_rate, recipe.betas) == (128, 4_000_000, 1e-4, (0.9, 0.99))
    assert (recipe.ema_decay, recipe.ema_every, recipe.weight_decay) == (0.995, 10, 0.0)
    small = load_recipe("echopulse-transformer-small")
    assert small.task == recipe.task
    for one in (recipe, small):
        settings(EchoPulseTransformerOptions, one.options)
        assert settings(WindowData, one.data).frames == 11
