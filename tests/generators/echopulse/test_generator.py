"""A generator's promises, on tiny networks: one clock, one loop, conditions that act, folders that load again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from echogen import Cine, Ecg, InputError
from echogen.ecg_window.analysis import analyse_ecg
from echogen.ecg_window.spec import EcgWindowSpec
from echogen.ecg_window.stream import EcgStream
from echogen.generators import EchoPulse, Generator
from echogen.generators.base import ECG_FUTURE_S, ECG_PAST_S, SHIPPED
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.echopulse.token_guesser import Guess
from echogen.generators.echopulse.window_request import WindowRequest, encode_conditions, with_defaults
from echogen.generators.settings_file import read_settings, write_settings
from echogen.networks.config import config_from_dict
from echogen.networks.masked_transformer import Conditioning
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import Conditions


def pieces(ecg: Ecg, seconds: float) -> list[Ecg]:
    return [ecg.between(start, start + seconds) for start in np.arange(ecg.start_s, ecg.end_s - 1e-6, seconds)]


def test_frames_are_on_the_clock_of_the_ecg(tiny: EchoPulse, ecg: Ecg) -> None:
    cine = tiny(ecg, start_s=1.5, seconds=3.0)
    assert len(cine.frames) == 96
    np.testing.assert_allclose(cine.times_s, 1.5 + np.arange(96) / 32.0, atol=1e-9)


def test_stream_of_pieces_equals_the_call(tiny: EchoPulse, ecg: Ecg) -> None:
    whole = tiny(ecg, seconds=4.0, ef_percent=50, seed=3)
    parts = list(tiny.stream(pieces(ecg, 0.7), seconds=4.0, ef_percent=50, seed=3))
    assert len(parts) > 2
    np.testing.assert_array_equal(np.concatenate([p.frames for p in parts]), whole.frames)
    np.testing.assert_allclose(np.concatenate([p.times_s for p in parts]), whole.times_s, atol=1e-9)


def test_a_longer_video_begins_with_the_shorter_one(tiny: EchoPulse, ecg: Ecg) -> None:
    np.testing.assert_array_equal(tiny(ecg, seconds=5.0).frames[:64], tiny(ecg, seconds=2.0).frames)


def test_without_seconds_the_stream_goes_on_to_the_end(tiny: EchoPulse, ecg: Ecg) -> None:
    parts = list(tiny.stream(ecg.between(0.0, 3.3)))
    assert parts[-1].times_s[-1] == pytest.approx(3.3, abs=1.5 / 32)
    assert parts[-1].times_s[-1] < 3.3


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"ef_percent": 25.0}, {"view": "A2C"}, {"sex": "f"}, {"guidance": 5.0}, {"guidance": 1.0}, {"steps": 4}],
)
def test_every_setting_changes_the_video(tiny: EchoPulse, ecg: Ecg, change: dict[str, float]) -> None:
    base = {"seconds": 1.0, "ef_percent": 60.0, "view": "A4C", "sex": "m"}
    assert not np.array_equal(tiny(ecg, **base).frames, tiny(ecg, **(base | change)).frames)


def test_the_ecg_changes_the_video_and_its_absence_is_allowed(tiny: EchoPulse, ecg: Ecg) -> None:
    late = replace(ecg, start_s=ecg.start_s - 0.3)
    with_ecg = tiny(ecg, start_s=1.0, seconds=1.0).frames
    assert not np.array_equal(with_ecg, tiny(late, start_s=1.0, seconds=1.0).frames)
    assert not np.array_equal(with_ecg, tiny(None, start_s=1.0, seconds=1.0).frames)


def test_a_heart_asked_to_be_ahead_hears_a_later_part_of_the_ecg(tiny: EchoPulse, ecg: Ecg) -> None:
    conditions = Conditions(ecg=ecg, ef_percent=60.0)

    def encoded(start_s: float, ahead_s: float = 0.0) -> Conditioning:
        times_s = start_s + np.arange(33) / 32.0
        request = WindowRequest(conditions, analyse_ecg(ecg), times_s, True, (60.0, 26.0), ahead_s=ahead_s)
        return encode_conditions(tiny.transformer, request, [conditions], tiny.device)

    later, now, ahead = encoded(1.125), encoded(1.0), encoded(1.0, ahead_s=0.125)
    torch.testing.assert_close(ahead, later)
    assert not torch.equal(ahead.modulation, now.modulation)


def test_a_first_frame_is_kept_as_tokens(tiny: EchoPulse, ecg: Ecg) -> None:
    rng = np.random.default_rng(0)
    image = Cine(rng.integers(0, 255, (1, 128, 128)).astype(np.uint8), np.zeros(1))
    kept = tiny.first_frame.encode(image)
    assert kept is not None
    assert kept.shape == (1, 1, 16, 1)
    assert not np.array_equal(tiny(ecg, seconds=1.0, reference=image).frames, tiny(ecg, seconds=1.0).frames)
    with pytest.raises(InputError, match="128 x 128"):
        tiny(ecg, seconds=1.0, reference=Cine(np.zeros((1, 64, 64), np.uint8), np.zeros(1)))


def test_the_older_name_of_the_reference_goes_on_working(tiny: EchoPulse, ecg: Ecg, tmp_path: Path) -> None:
    image = Cine(np.full((1, 128, 128), 90, np.uint8), np.zeros(1))
    with pytest.warns(DeprecationWarning, match="reference"):
        older = tiny(ecg, seconds=0.5, frames=image)  # type: ignore[call-arg]
    np.testing.assert_array_equal(older.frames, tiny(ecg, seconds=0.5, reference=image).frames)
    tiny.save_pretrained(tmp_path / "heart")
    assert "frames" in json.loads((tmp_path / "heart" / "generator.json").read_text())["takes"]
    assert Generator.from_pretrained(tmp_path / "heart", "cpu").takes == tiny.takes >= {"reference"}


def test_shipped_settings_are_written_as_they_were_read_with_the_sizes_of_its_windows(tmp_path: Path) -> None:
    read = read_settings(SHIPPED / "phantom-128")
    write_settings(tmp_path, read.pop("system"), config_from_dict(EchoPulseConfig, read))
    written = json.loads((tmp_path / "generator.json").read_text())
    assert written.pop("ecg_window") == {
        "before_s": 1.5, "after_s": 0.5, "rate_hz": 128.0, "patch_samples": 16,
        "frames_per_latent": 4, "seconds_per_latent": 0.125,
    }  # fmt: skip
    text = json.dumps(written, indent=2) + "\n"
    assert text.encode() == (SHIPPED / "phantom-128" / "generator.json").read_bytes()


def test_networks_of_other_windows_than_the_settings_are_refused(tiny: EchoPulse, ecg: Ecg, tmp_path: Path) -> None:
    networks = tiny.tokenizer, tiny.transformer, tiny.device
    for change, match in (({"frames_per_latent": 2}, "2 frames a latent"), ({"rate_hz": 64.0}, "64 ECG samples a second")):
        with pytest.raises(InputError, match=match):
            EchoPulse(replace(tiny.config, ecg_window=replace(tiny.config.ecg_window, **change)), *networks)
    longer = EchoPulse(replace(tiny.config, ecg_window=EcgWindowSpec(before_s=3.0)), *networks)
    longer.save_pretrained(tmp_path)
    again = Generator.from_pretrained(tmp_path)
    assert isinstance(again, EchoPulse)
    assert again.config.ecg_window == EcgWindowSpec(before_s=3.0)
    assert not np.array_equal(longer(ecg, start_s=4.0, seconds=0.5).frames, tiny(ecg, start_s=4.0, seconds=0.5).frames)


def test_a_first_frame_is_imagined_where_none_is_given(tiny: EchoPulse, ecg: Ecg) -> None:
    usual = tiny.config
    assert usual.first is not None
    conditions = with_defaults(Conditions(ecg=ecg, ef_percent=60.0), 0, usual)
    request = WindowRequest(conditions, analyse_ecg(ecg), np.arange(33) / 32.0, True, (60.0, 26.0))

    def guessed(seed: int, guidance: float = 2.5) -> np.ndarray:
        assert usual.first is not None
        return tiny.first_frame.guess(request, seed, replace(usual.first, guidance=guidance)).numpy()

    assert guessed(0).shape == (1, 1, 16, 1)
    assert guessed(0).max() < tiny.transformer.config.mask_id
    np.testing.assert_array_equal(guessed(0), guessed(0))
    assert not np.array_equal(guessed(0), guessed(1))
    assert not np.array_equal(guessed(0), guessed(0, guidance=8.0))
    without = EchoPulse(replace(usual, first=None), tiny.tokenizer, tiny.transformer, tiny.device)
    assert not np.array_equal(tiny(ecg, seconds=1.0).frames, without(ecg, seconds=1.0).frames)


def test_a_first_frame_is_drawn_anew_until_it_is_clear(ecg: Ecg) -> None:
    generator = Generator.from_pretrained("phantom-128", "cpu")
    assert isinstance(generator, EchoPulse)
    assert generator.config.first is not None
    quick = replace(generator.config.first, steps=3, latents=1, candidates=3)
    conditions = with_defaults(Conditions(ecg=ecg, ef_percent=60.0), 0, generator.config)
    request = WindowRequest(conditions, analyse_ecg(ecg), np.arange(65) / 32.0, True, (60.0, 26.0))
    guess, contrast = generator.first_frame.guess, generator.first_frame.wall_contrast
    gained: list[float] = []
    for seed in range(4):
        settings = [replace(quick, candidates=1), replace(quick, clear=-1.0), replace(quick, clear=9.0)]
        one, content, picky = (guess(request, seed, each) for each in settings)
        assert torch.equal(one, content)
        assert contrast(picky) >= contrast(one)
        gained += [contrast(picky) - contrast(one)]
        # As soon as one is as clear as asked for, no other is drawn.
        assert torch.equal(one, guess(request, seed, replace(quick, clear=contrast(one))))
    assert max(gained) > 0.0


def test_the_cavity_comes_from_the_first_frame_or_the_seed(tiny: EchoPulse, ecg: Ecg) -> None:
    def cavity(seed: int, reference: Cine | None = None) -> tuple[float, float]:
        conditions = with_defaults(Conditions(ecg=ecg, ef_percent=60.0, reference=reference), seed, tiny.config)
        request = WindowRequest(conditions, analyse_ecg(ecg), np.arange(33) / 32.0, True)
        found = tiny.cavity_sizer.size(request, seed, tiny.first_frame.encode(reference), tiny.config.usual_cavity)
        assert found is not None
        return found

    image = Cine(np.random.default_rng(0).integers(0, 255, (1, 128, 128)).astype(np.uint8), np.zeros(1))
    drawn = np.array([cavity(seed) for seed in range(40)])
    np.testing.assert_allclose(drawn.mean(0), [59.2, 26.5], rtol=0.05)
    assert drawn.std(0).min() > 1.5
    assert np.corrcoef(drawn.T)[0, 1] > 0.2
    assert cavity(0, image) == cavity(1, image)
    no_ef = WindowRequest(Conditions(ecg=ecg), analyse_ecg(ecg), np.arange(33) / 32.0, True)
    assert tiny.cavity_sizer.size(no_ef, 0, None, tiny.config.usual_cavity) is None


def test_a_folder_loads_to_the_same_generator(tiny: EchoPulse, ecg: Ecg, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "one")
    first = Generator.from_pretrained(tmp_path / "one")
    first.save_pretrained(tmp_path / "two")
    second = Generator.from_pretrained(tmp_path / "two")
    assert first.weights_hash == second.weights_hash
    np.testing.assert_array_equal(first(ecg, seconds=1.0).frames, second(ecg, seconds=1.0).frames)


def test_damaged_folders_are_one_sentence(tiny: EchoPulse, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no generator 'phantom-129'"):
        Generator.from_pretrained("phantom-129")
    tiny.save_pretrained(tmp_path / "whole")
    for name, text, match in (
        ("generator.json", "{", "damaged"),
        ("generator.json", '{"system": "other"}', "nor an installed package knows"),
        ("tokenizer/model.safetensors", "x", "whole safetensors"),
        ("transformer/config.json", "{}", "does not describe"),
    ):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", folder)
        (folder / name).write_text(text)
        with pytest.raises(InputError, match=match):
            Generator.from_pretrained(folder)


def test_networks_that_do_not_belong_together_are_refused(tiny: EchoPulse, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer/config.json").read_text())
    config["quantizer"]["levels"] = [7, 5]
    (tmp_path / "tokenizer/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"do not (belong together|fit)"):
        Generator.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"seconds": 20.0}, "at most 10.00 s"),
        ({"seconds": 0.0}, "between 0 and"),
        ({"start_s": -1.0, "seconds": 1.0}, "cannot start"),
        ({"seconds": 1.0, "ef_percent": 5.0}, "from 15 to 80"),
        ({"seconds": 1.0, "ef_percent": 150.0}, "between 0 and 100"),
        ({"seconds": 1.0, "view": "PLAX"}, "view"),
        ({"seconds": 1.0, "guidance": -1.0}, "guidance"),
        ({"seconds": 1.0, "steps": 0}, "steps"),
    ],
)
def test_mistakes_are_one_sentence(tiny: EchoPulse, ecg: Ecg, asked: dict[str, float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        tiny(ecg, **asked)


def test_a_stream_with_a_gap_is_refused(tiny: EchoPulse, ecg: Ecg) -> None:
    with pytest.raises(InputError, match="gap"):
        list(tiny.stream([ecg.between(0.0, 1.0), ecg.between(2.0, 9.0)], seconds=3.0))


def test_memory_of_a_stream_is_bounded(tiny: EchoPulse, ecg: Ecg) -> None:
    def forever() -> list[Ecg]:
        return [replace(ecg, start_s=10.0 * i) for i in range(12)]

    source = EcgStream(iter(forever()))
    for start in np.arange(0.0, 100.0, 1.5):
        part = source.around(start - ECG_PAST_S, start + 1.0 + ECG_FUTURE_S)
        assert part is not None
        assert part.start_s <= max(0.0, start - ECG_PAST_S) + 0.01
        assert source.kept_s < 25.0


def test_a_decoder_that_knows_the_cavity_settles_it(tiny: EchoPulse, ecg: Ecg) -> None:
    tokenizer = VideoTokenizer(replace(tiny.tokenizer.config, cavity_cells=64))
    tokenizer.load_state_dict({**tokenizer.state_dict(), **tiny.tokenizer.state_dict()})
    assert tokenizer.cavity is not None
    torch.manual_seed(2)
    torch.nn.init.normal_(tokenizer.cavity.weight, std=0.3)
    knowing = EchoPulse(tiny.config, tokenizer, tiny.transformer, torch.device("cpu"))
    whole = knowing(ecg, seconds=3.0, ef_percent=50, seed=3)
    joined = [part.frames for part in knowing.stream(pieces(ecg, 0.7), seconds=3.0, ef_percent=50, seed=3)]
    np.testing.assert_array_equal(np.concatenate(joined), whole.frames)
    assert not np.array_equal(whole.frames, tiny(ecg, seconds=3.0, ef_percent=50, seed=3).frames)
    # Without an ECG nothing is expected of it.
    np.testing.assert_array_equal(*(each(None, seconds=1.0, seed=3).frames for each in (knowing, tiny)))


@pytest.mark.parametrize("live", [False, True])
def test_every_later_window_sees_the_first_frame_again(tiny: EchoPulse, ecg: Ecg, live: bool) -> None:
    guesses: list[Guess] = []
    maker = EchoPulse(tiny.config, tiny.tokenizer, tiny.transformer, tiny.device, observer=guesses.append)
    made = maker(ecg, start_s=3.0, seconds=4.0, live=live, seed=1)
    np.testing.assert_allclose(made.times_s, 3.0 + np.arange(128) / 32.0, atol=1e-9)
    first_frame, *windows = guesses
    assert len(windows) > 2
    for window in windows:
        assert window.query.kept is not None
        assert torch.equal(window.query.kept[:, :1], first_frame.tokens)
    assert windows[-1].query.given == 1 + (maker.config.live if live else maker.config).prefix


def test_the_first_window_is_as_without_a_reminder(tiny: EchoPulse, ecg: Ecg) -> None:
    forgetful = EchoPulse(replace(tiny.config, reminded=False), tiny.tokenizer, tiny.transformer, tiny.device)
    with_it, without = (maker(ecg, start_s=3.0, seconds=3.0, seed=1).frames for maker in (tiny, forgetful))
    first = 1 + 4 * (tiny.config.latents - 1)
    np.testing.assert_array_equal(with_it[:first], without[:first])
    assert not np.array_equal(with_it, without)
