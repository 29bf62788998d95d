"""The paper's ECHOPulse as a generator, on tiny networks with random weights."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import Cine, Ecg, InputError, read_cine, read_ecg
from echogen.ecg.st_mem_input import st_mem_input
from echogen.ecg_window.spec import latent_times
from echogen.generators import EchoPulsePaper, EchoPulsePaperConfig, Generator, Sampling
from echogen.generators.base import Context
from echogen.generators.echopulse.ecg_excerpt import excerpt_start, known_leads
from echogen.generators.echopulse.paper import PaperState
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.quantizers import QuantizerConfig
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.networks.text import TextEncoder, ef_sentence
from echogen.networks.token_critic import make_critic
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.records import Conditions
from echogen.training.tasks import echopulse_transformer as task

CPU = torch.device("cpu")
FPS = 32.0 / 3.0
WORDS = ("<pad>", "</s>", "<unk>", "An", "echocardiogram", "with", "an", "ejection", "fraction", "of", "percent", ".", "30", "65")
TOKENIZER = VideoTokenizerConfig(
    image_size=32, channels_in=3, channels_out=3, patch=8, time_patch=2, dim=16, heads=2, spatial_depth_encoder=1,
    temporal_depth_encoder=1, temporal_depth_decoder=1, spatial_depth_decoder=1, quantizer=QuantizerConfig(levels=(5, 5)),
    seconds_per_latent=0.1875,
)  # fmt: skip
TRANSFORMER = MaskedTransformerConfig(
    vocabulary=25, spatial_positions=16, max_latents=6, dim=16, depth=2, heads=2, cross_attention_every=1, adaptive_norm=False,
    ecg=None, context_dim=12,
)  # fmt: skip
ST_MEM = StMemConfig(seq_len=1000, patch_size=50, width=12, depth=1, heads=2, head_dim=6, mlp_dim=24)


def loud(network: Any) -> Any:
    """The network with weights at which everything it is told matters."""
    for weight in network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.4)
    return network


def networks(**sizes: Any) -> tuple[VideoTokenizer, MaskedTransformer, StMem]:
    torch.manual_seed(0)
    tokenizer = loud(VideoTokenizer(TOKENIZER))
    return tokenizer, loud(MaskedTransformer(replace(TRANSFORMER, **sizes))), loud(StMem(ST_MEM))


def paper_generator(critic: str = "none", *, sizes: Any = None, **changes: Any) -> EchoPulsePaper:
    tokenizer, transformer, encoder = networks(**(sizes or {}))
    made = make_critic(critic, transformer)
    config = EchoPulsePaperConfig(**{"steps": 3, **changes})
    return EchoPulsePaper(config, tokenizer, transformer, encoder, CPU, None if made is None else loud(made))


@pytest.fixture(scope="module")
def generator() -> EchoPulsePaper:
    return paper_generator()


@pytest.fixture(scope="module")
def image() -> Cine:
    return Cine(np.random.default_rng(0).integers(0, 255, (1, 32, 32)).astype(np.uint8), np.zeros(1))


def test_frames_follow_each_other_and_kept_ones_come_once(generator: EchoPulsePaper, ecg: Ecg) -> None:
    cine = generator(ecg, start_s=1.0, seconds=3.0)
    assert cine.frames.shape == (32, 32, 32)
    np.testing.assert_allclose(cine.times_s, 1.0 + np.arange(32) / FPS, atol=1e-9)
    parts = list(generator.stream(ecg, start_s=1.0, seconds=3.0))
    assert [len(part.frames) for part in parts] == [11, 8, 8, 5]


@pytest.fixture
def decoded(generator: EchoPulsePaper, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The tokens that the generator draws, window after window, and what it draws from them."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    decode = generator.tokenizer.decode_ids

    def watched(ids: torch.Tensor, first: bool = True) -> torch.Tensor:
        seen.append((ids, decode(ids, first)))
        return seen[-1][1]

    monkeypatch.setattr(generator.tokenizer, "decode_ids", watched)
    return seen


def test_every_window_is_whole_and_begins_with_the_last_frames_of_the_one_before(
    generator: EchoPulsePaper, ecg: Ecg, decoded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bool] = []
    forward = generator.transformer.forward

    def watched(ids: torch.Tensor, times: torch.Tensor, head: torch.Tensor, asked: Any) -> torch.Tensor:
        heads.append(bool(head.all()))
        np.testing.assert_allclose(times[0], latent_times(np.arange(11) / FPS, True, 2), atol=1e-5)
        return forward(ids, times, head, asked)

    monkeypatch.setattr(generator.transformer, "forward", watched)
    cine = generator(ecg, seconds=2.5)
    assert heads
    assert all(heads)
    assert [(ids.shape, video.shape[1]) for ids, video in decoded] == [((1, 6, 16, 1), 11)] * 3
    for (_, before), (after, _) in itertools.pairwise(decoded):
        with torch.no_grad():
            grey = before[:, -3:].float().mean(2, keepdim=True).clamp(0, 1).expand(-1, -1, before.shape[2], -1, -1)
            assert torch.equal(after[:, :2], generator.tokenizer.tokenize(grey.transpose(1, 2)))
    new = [video[0, 3 * (window > 0) :].float().mean(1).clamp(0, 1) for window, (_, video) in enumerate(decoded)]
    np.testing.assert_array_equal(cine.frames, (torch.cat(new) * 255 + 0.5).byte().numpy()[: len(cine.frames)])


def test_the_last_frames_are_kept_as_the_tokenizer_knows_frames(generator: EchoPulsePaper, ecg: Ecg, decoded: Any) -> None:
    _, context = generator.window(Conditions(ecg=ecg), Context(0, 0.0), Sampling())
    prime = context.state.prime
    drawn = decoded[0][1][0, -3:].float()
    assert drawn.max() > 1 or drawn.min() < 0
    assert torch.equal(prime, drawn.mean(1, keepdim=True).clamp(0, 1).expand_as(drawn))
    other = replace(context, state=PaperState(prime.flip(0)))
    after = [generator.window(Conditions(ecg=ecg), each, Sampling())[0].frames for each in (context, other)]
    assert not np.array_equal(*after)


def test_stream_of_pieces_equals_the_call(generator: EchoPulsePaper, ecg: Ecg) -> None:
    whole = generator(ecg, seconds=9.9, seed=3)
    pieces = [ecg.between(start, start + 0.7) for start in np.arange(0.0, 10.0 - 1e-6, 0.7)]
    parts = list(generator.stream(pieces, seconds=9.9, seed=3))
    np.testing.assert_array_equal(np.concatenate([part.frames for part in parts]), whole.frames)
    np.testing.assert_allclose(np.concatenate([part.times_s for part in parts]), whole.times_s, atol=1e-9)


@pytest.fixture(scope="module")
def nine_seconds() -> EchoPulsePaper:
    """One whose encoder sees 9 s."""
    tokenizer, transformer, _ = networks()
    encoder = loud(StMem(replace(ST_MEM, seq_len=2250, patch_size=75)))
    return EchoPulsePaper(EchoPulsePaperConfig(steps=1), tokenizer, transformer, encoder, CPU)


def test_an_encoder_that_sees_nine_seconds_reaches_the_end_of_ten(nine_seconds: EchoPulsePaper, ecg: Ecg) -> None:
    generator = nine_seconds
    whole = generator(ecg)
    assert whole.times_s[-1] > 10.0 - 1.5 / FPS
    parts = list(generator.stream([ecg.between(0.0, 4.0), ecg.between(4.0, 10.0)]))
    np.testing.assert_array_equal(np.concatenate([part.frames for part in parts]), whole.frames)
    with pytest.raises(InputError, match="needs 9 s"):
        generator(ecg.between(0.0, 8.5), seconds=1.0)


@pytest.mark.parametrize("start_s", [40.0, 40.5, 44.3, 52.0, 61.7, 69.5])
def test_of_a_long_ecg_a_window_is_given_all_that_its_encoder_would_take(
    nine_seconds: EchoPulsePaper, monkeypatch: pytest.MonkeyPatch, start_s: float
) -> None:
    ecg = Ecg(np.random.default_rng(0).normal(size=(1, 7500)).astype(np.float32), 250.0, ("II",), 40.0)  # 40 .. 70 s
    seen: list[tuple[Ecg, float, float]] = []
    window = nine_seconds.window

    def watched(asked: Conditions, context: Context, sampling: Sampling) -> Any:
        first_s = context.next_s - (3 if context.index else 0) / FPS
        assert asked.ecg is not None
        seen.append((asked.ecg, first_s, first_s + 10 / FPS))
        return window(asked, context, sampling)

    monkeypatch.setattr(nine_seconds, "window", watched)
    nine_seconds(ecg, start_s=start_s, seconds=min(2.0, 70.0 - start_s))
    for part, first_s, last_s in seen:
        begin = excerpt_start(ecg, first_s, last_s, 9.0)
        assert excerpt_start(part, first_s, last_s, 9.0) == pytest.approx(begin, abs=1 / 250)
        assert part.start_s <= begin + 1 / 250
        assert part.end_s >= begin + 9.0 - 1 / 250


@pytest.mark.parametrize(("start_s", "seconds"), [(0, 4), (0, 0.5), (4.2, 1), (9.3, 0.7)])
def test_generate_reads_as_much_of_a_file_as_the_encoder_needs(
    nine_seconds: EchoPulsePaper, echogen: Any, dicom_ecg_path: Path, tmp_path: Path, start_s: float, seconds: float
) -> None:
    nine_seconds.save_pretrained(tmp_path / "model")
    generator = Generator.from_pretrained(tmp_path / "model", device="cpu")
    more = ("--model", tmp_path / "model", "--device", "cpu", "--ecg-start", start_s, "--seconds", seconds)
    outcome = echogen("generate", dicom_ecg_path, "-o", tmp_path / "a.npz", *more)
    assert outcome.code == 0, outcome.err
    expected = generator(read_ecg(dicom_ecg_path), start_s=start_s, seconds=seconds)
    np.testing.assert_array_equal(read_cine(tmp_path / "a.npz").frames, expected.frames)


@pytest.mark.parametrize("change", [{"seed": 1}, {"guidance": 1.0}, {"guidance": 8.0}, {"steps": 6}, {"start_s": 1.2}])
def test_every_setting_changes_the_video(generator: EchoPulsePaper, ecg: Ecg, change: dict[str, float]) -> None:
    base = {"seconds": 1.0, "start_s": 1.0}
    assert not np.array_equal(generator(ecg, **base).frames, generator(ecg, **(base | change)).frames)


def test_the_ecg_changes_the_video_on_the_clock_and_its_absence_is_allowed(generator: EchoPulsePaper, ecg: Ecg) -> None:
    here = generator(ecg, start_s=4.0, seconds=1.0).frames
    late = replace(ecg, start_s=-0.3)
    assert not np.array_equal(here, generator(late, start_s=4.0, seconds=1.0).frames)
    assert not np.array_equal(here, generator(None, start_s=4.0, seconds=1.0).frames)
    moved = generator(replace(ecg, start_s=50.0), start_s=54.0, seconds=1.0)
    np.testing.assert_array_equal(here, moved.frames)


def test_without_any_condition_guidance_is_that_of_the_null_condition(generator: EchoPulsePaper, ecg: Ecg) -> None:
    unguided = generator(None, seconds=1.0).frames
    np.testing.assert_array_equal(unguided, generator(None, seconds=1.0, guidance=9.0).frames)
    np.testing.assert_array_equal(generator(ecg, seconds=1.0, guidance=0.0).frames, unguided)


def test_the_encoder_sees_what_it_saw_in_training(generator: EchoPulsePaper, ecg: Ecg, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    encode = generator.encoder.forward

    def watched(*inputs: Any) -> Any:
        seen.append(inputs)
        return encode(*inputs)

    monkeypatch.setattr(generator.encoder, "forward", watched)
    generator(ecg, start_s=5.0, seconds=1.5, guidance=1.0)
    first, second = seen
    for (signal, begin, leads), frame_s, last_s in ((first, 5.0, 5.0 + 10 / FPS), (second, 5.0 + 8 / FPS, 5.0 + 18 / FPS)):
        start = 0.5 * (frame_s + last_s - 4.0)
        part = st_mem_input(ecg, start, samples=1000)
        np.testing.assert_allclose(signal[0].numpy(), part.signal, atol=1e-5)
        assert float(begin) == pytest.approx(part.start_s - frame_s, abs=1e-6)
        assert tuple(leads) == tuple(range(12))


def test_the_excerpt_is_the_middle_of_what_training_draws_from() -> None:
    ecg = Ecg(np.zeros((1, 1000), np.float32), 100.0, ("II",), -2.0)  # -2 .. 8 s
    rng = np.random.default_rng(0)
    for first in (-2.0, -1.5, 0.0, 3.0, 6.9):
        drawn = [task.ecg_start(ecg, first, first + 1.0, 4.0, rng) for _ in range(300)]
        middle = excerpt_start(ecg, first, first + 1.0, 4.0)
        assert min(drawn) - 1e-9 <= middle <= max(drawn) + 1e-9
        assert middle == pytest.approx(np.mean(drawn), abs=0.25)


def test_the_usual_settings_are_those_of_training() -> None:
    config, data, options = EchoPulsePaperConfig(), task.WindowData(tokenizer=""), task.EchoPulseTransformerOptions()
    assert (config.frames, config.fps, config.leads) == (data.frames, task.FPS / data.frame_step, data.leads)
    assert (config.steps, config.guidance) == (options.steps, options.guidance)
    assert config.prime == 1 + (options.prefix - 1) * VideoTokenizerConfig.paper().time_patch


def test_fewer_leads_are_left_out_and_unknown_ones_refused(generator: EchoPulsePaper, ecg: Ecg) -> None:
    lead_ii = Ecg(ecg.signal_mv[1:2], ecg.rate_hz, ("MLII",))
    here = generator(lead_ii, seconds=1.0).frames
    assert not np.array_equal(here, generator(ecg, seconds=1.0).frames)
    np.testing.assert_array_equal(here, paper_generator(leads=("II",))(ecg, seconds=1.0).frames)
    assert known_leads(ecg, ("V1", "I")) == ["V1", "I"]
    with pytest.raises(InputError, match="the ECG has ECG1"):
        generator(Ecg(ecg.signal_mv[:1], ecg.rate_hz, ("ECG1",)), seconds=1.0)


def test_a_first_frame_is_kept_as_its_tokens(generator: EchoPulsePaper, ecg: Ecg, image: Cine, decoded: Any) -> None:
    with torch.no_grad():
        ids = generator.tokenizer.tokenize(torch.from_numpy(image.frames).float().div(255).expand(3, 1, 32, 32).unsqueeze(0))
    made = generator(ecg, seconds=1.0, reference=image)
    assert torch.equal(decoded[0][0][:, :1], ids)
    assert not np.array_equal(made.frames[1:], generator(ecg, seconds=1.0).frames[1:])
    with pytest.raises(InputError, match="32 x 32 pixels, not 64 x 48"):
        generator(ecg, seconds=1.0, reference=Cine(np.zeros((1, 64, 48), np.uint8), np.zeros(1)))


@pytest.mark.parametrize(("order", "critic"), [("halton", "none"), ("critic", "token"), ("critic", "self")])
def test_each_order_makes_a_video_of_its_own_again_and_again(
    generator: EchoPulsePaper, ecg: Ecg, order: str, critic: str, tmp_path: Path
) -> None:
    maker = paper_generator(critic, order=order)
    made = maker(ecg, seconds=1.5).frames
    np.testing.assert_array_equal(made, maker(ecg, seconds=1.5).frames)
    assert not np.array_equal(made, generator(ecg, seconds=1.5).frames)
    maker.save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path, device="cpu")
    assert isinstance(loaded, EchoPulsePaper)
    assert type(loaded.critic) is type(maker.critic)


def test_a_told_ef_view_and_sex_change_the_video_where_the_network_takes_them(ecg: Ecg) -> None:
    generator = paper_generator(sizes={"adaptive_norm": True}, takes=("ecg", "ef_percent", "view", "sex"))
    base = {"seconds": 1.0, "ef_percent": 60.0, "view": "A4C", "sex": "m"}
    made = generator(ecg, **base)
    assert made.view == "A4C"
    for change in ({"ef_percent": 25.0}, {"view": "A2C"}, {"sex": "f"}, {"guidance": 1.0}):
        assert not np.array_equal(made.frames, generator(ecg, **(base | change)).frames)
    with pytest.raises(InputError, match="from 15 to 80"):
        generator(ecg, seconds=1.0, ef_percent=90.0)


def test_a_folder_loads_to_the_same_generator(generator: EchoPulsePaper, ecg: Ecg, tmp_path: Path) -> None:
    generator.save_pretrained(tmp_path / "one")
    first = Generator.from_pretrained(tmp_path / "one", device="cpu")
    first.save_pretrained(tmp_path / "two")
    second = Generator.from_pretrained(tmp_path / "two", device="cpu")
    assert first.weights_hash == second.weights_hash
    np.testing.assert_array_equal(first(ecg, seconds=1.5).frames, second(ecg, seconds=1.5).frames)
    settings = json.loads((tmp_path / "one" / "generator.json").read_text())
    assert settings["system"] == "echopulse-paper"


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(path)
    config = transformers.T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(path)
    return path


def text_generator(t5: Path, *, takes: tuple[str, ...] = ("text", "ef_percent", "reference"), **sizes: Any) -> EchoPulsePaper:
    tokenizer, transformer, _ = networks(context_dim=16, **sizes)
    config = EchoPulsePaperConfig(steps=3, takes=takes, text_encoder=str(t5))
    return EchoPulsePaper(config, tokenizer, transformer, TextEncoder(t5), CPU)


def test_an_ef_is_told_in_the_sentence_of_training_and_a_text_as_it_is(t5: Path, ecg: Ecg, tmp_path: Path) -> None:
    generator = text_generator(t5)

    def made(**asked: Any) -> Any:
        return generator.window(Conditions(**asked), Context(0, 0.0), Sampling())[0].frames

    low = made(ef_percent=30.0)
    np.testing.assert_array_equal(low, made(text=ef_sentence(30)))
    np.testing.assert_array_equal(low, generator(None, seconds=1.0, ef_percent=30.0).frames)
    np.testing.assert_array_equal(low, generator(None, seconds=1.0, text=ef_sentence(30)).frames)
    assert not np.array_equal(low, generator(None, seconds=1.0, text="An echocardiogram .").frames)
    assert not np.array_equal(low, made(ef_percent=65.0))
    assert not np.array_equal(low, made())
    with pytest.raises(InputError, match="a text or an EF, not both"):
        generator(None, seconds=1.0, text="An echocardiogram .", ef_percent=30.0)
    with pytest.raises(InputError, match="does not take the condition ecg"):
        generator(ecg, seconds=1.0)
    generator.save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path, device="cpu")
    assert isinstance(loaded, EchoPulsePaper)
    assert isinstance(loaded.encoder, TextEncoder)
    assert loaded(None, seconds=2.0, ef_percent=30.0).frames.shape[0] == 21


def test_an_ef_is_also_told_as_a_number_where_the_network_takes_one(t5: Path) -> None:
    generator = text_generator(t5, adaptive_norm=True)
    asked = [Conditions(text="An echocardiogram .", ef_percent=ef) for ef in (30.0, 65.0)]
    made = [generator.window(each, Context(0, 0.0), Sampling())[0].frames for each in asked]
    assert not np.array_equal(*made)


def test_generate_makes_a_video_from_a_sentence_without_an_ecg(
    t5: Path, echogen: Any, dicom_ecg_path: Path, tmp_path: Path
) -> None:
    text_generator(t5).save_pretrained(tmp_path / "model")
    generator = Generator.from_pretrained(tmp_path / "model", device="cpu")
    asked = (
        "-o",
        tmp_path / "a.npz",
        "--model",
        tmp_path / "model",
        "--device",
        "cpu",
        "--seconds",
        2,
        "--text",
        ef_sentence(30),
    )
    outcome = echogen("generate", *asked)
    assert outcome.code == 0, outcome.err
    expected = generator(None, seconds=2.0, text=ef_sentence(30))
    np.testing.assert_array_equal(read_cine(tmp_path / "a.npz").frames, expected.frames)
    document = json.loads((tmp_path / "a.json").read_text())
    assert (document["ecg"], document["settings"]["text"], document["r_s"]) == (None, ef_sentence(30), [])
    refused = echogen("generate", dicom_ecg_path, *asked)
    assert refused.code == 2
    assert "does not take the condition ecg" in refused.err


@pytest.mark.parametrize(
    ("sizes", "changes", "match"),
    [
        ({"vocabulary": 30}, {}, "makes 25 codes but the transformer expects 30"),
        ({"spatial_positions": 9}, {}, "makes 16 tokens a latent frame"),
        ({"groups": 2}, {}, "makes 1 codes a position"),
        ({"max_latents": 5}, {}, "at most 5 latent frames, but a window has 6"),
        ({"context_dim": 16}, {}, "width 12 but the transformer expects 16"),
        ({"cross_attention_every": 0}, {}, "another system"),
        ({}, {"frames": 10}, "multiple of the time patch 2"),
        ({}, {"prime": 2}, "1 plus a multiple of the time patch 2, not 2"),
        ({}, {"prime": 11}, "a window of 11 begins with .prime. must be fewer"),
        ({}, {"prime": 0}, "at least one"),
        ({}, {"order": "critic"}, "no critic"),
        ({}, {"order": "random"}, "confidence, halton, critic"),
        ({}, {"leads": ("II", "V9")}, "not V9"),
        ({}, {"takes": ("ecg", "ef_percent")}, "have not learned the condition ef_percent"),
        ({}, {"text_encoder": "t5"}, "text_encoder"),
    ],
)
def test_what_does_not_belong_together_is_one_sentence(sizes: dict[str, int], changes: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        paper_generator(sizes=sizes, **changes)


def test_a_tokenizer_that_draws_motion_is_refused() -> None:
    _, transformer, encoder = networks()
    tokenizer = VideoTokenizer(replace(TOKENIZER, channels_in=1))
    with pytest.raises(InputError, match="sees 1 channels but draws 3"):
        EchoPulsePaper(EchoPulsePaperConfig(), tokenizer, transformer, encoder, CPU)
