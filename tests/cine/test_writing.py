import os

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from echogen import Cine, Ecg, InputError
from echogen.cine import EcgStrip, filmstrip, read_cine, resample_frames, write
from echogen.cine.strip import CURSOR, R_MARK, TRACE, heart_rate_at


def moving_cine(times_s, height=64, width=64, **facts):
    """A smooth blob that swings, a little different in every frame."""
    rows, columns = np.indices((height, width))
    middle = height / 2 + height / 4 * np.sin(2 * np.pi * np.asarray(times_s))
    blob = np.exp(-((rows[None] - middle[:, None, None]) ** 2 + (columns[None] - width / 2) ** 2) / (2 * (height / 6) ** 2))
    ripple = 20 * (1 + np.sin(columns[None] / 5 + np.arange(len(times_s))[:, None, None]))
    return Cine((200 * blob + ripple).astype(np.uint8), np.asarray(times_s, dtype=float), **facts)


def ticking_ecg(seconds=20.0, rate_hz=250.0, period_s=0.8):
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    phase = (times - 0.4) % period_s
    spike = np.exp(-((np.minimum(phase, period_s - phase) / 0.012) ** 2))
    return Ecg(np.stack([0.5 * spike, spike]).astype(np.float32), rate_hz, ("I", "II")), np.arange(0.4, seconds, period_s)


TIMES = {
    "32": np.arange(40) / 32.0,
    "47.3": np.arange(40) / 47.3,
    "29.97": np.arange(40) * 1001 / 30000,
    "late start": 7.25 + np.arange(40) / 32.0,
    "uneven": np.cumsum(np.random.default_rng(1).uniform(0.012, 0.06, 40)),
}


@pytest.mark.parametrize("kind", TIMES)
def test_npz_is_exact_and_mp4_keeps_times_to_a_millisecond(tmp_path, kind):
    cine = moving_cine(TIMES[kind], mm_per_pixel=1.25, view="A4C")
    write(cine, tmp_path / "a.npz")
    same = read_cine(tmp_path / "a.npz")
    np.testing.assert_array_equal(same.frames, cine.frames)
    np.testing.assert_array_equal(same.times_s, cine.times_s)
    assert (same.mm_per_pixel, same.view) == (1.25, "A4C")
    write(cine, tmp_path / "a.mp4")
    near = read_cine(tmp_path / "a.mp4")
    assert np.abs(near.times_s - (cine.times_s - cine.times_s[0])).max() < 1e-3
    assert np.abs(near.frames.astype(int) - cine.frames).mean() < 2.0
    assert abs((near.frames.astype(float) - cine.frames).mean()) < 0.3
    assert near.duration_s == pytest.approx(cine.duration_s, abs=1e-3)


@pytest.mark.parametrize("kind", ["32", "47.3", "29.97", "late start"])
def test_avi_keeps_uniform_times_and_grey_levels(tmp_path, kind):
    cine = moving_cine(TIMES[kind])
    write(cine, tmp_path / "a.avi")
    near = read_cine(tmp_path / "a.avi")
    assert np.abs(near.times_s - (cine.times_s - cine.times_s[0])).max() < 1e-3
    assert np.abs(near.frames.astype(int) - cine.frames).mean() < 1.5


def test_avi_of_uneven_times_shows_every_moment_at_its_time(tmp_path):
    cine = moving_cine(TIMES["uneven"])
    write(cine, tmp_path / "a.avi")
    near = read_cine(tmp_path / "a.avi")
    assert near.duration_s == pytest.approx(cine.duration_s, abs=0.03)
    middle = len(near.frames) // 2
    closest = np.abs(cine.times_s - cine.times_s[0] - near.times_s[middle]).argmin()
    assert np.abs(near.frames[middle].astype(int) - cine.frames[closest]).mean() < 15


@settings(max_examples=15)
@given(fps=st.floats(8, 49), count=st.integers(2, 60))
def test_gif_grey_levels_are_exact_and_times_do_not_drift(tmp_path_factory, fps, count):
    cine = moving_cine(np.arange(count) / fps, height=16, width=16)
    path = tmp_path_factory.mktemp("gif") / "a.gif"
    write(cine, path)
    same = read_cine(path)
    np.testing.assert_array_equal(same.frames, cine.frames)
    assert np.abs(same.times_s - cine.times_s).max() <= 0.005 + 1e-9


def test_gif_of_fast_video_keeps_the_heart_rate(tmp_path):
    cine = moving_cine(np.arange(200) / 100.0, height=16, width=16)
    write(cine, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        durations = []
        for index in range(image.n_frames):
            image.seek(index)
            durations.append(image.info["duration"])
    assert min(durations) >= 20
    assert sum(durations) == 2000


def test_mp4_is_what_browsers_play_and_odd_sizes_become_even(tmp_path):
    cine = moving_cine(TIMES["32"], height=63, width=77)
    write(cine, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 32
    near = read_cine(tmp_path / "a.mp4")
    assert near.frames.shape == (40, 64, 78)
    assert np.abs(near.frames[:, :63, :77].astype(int) - cine.frames).mean() < 2.5


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".gif"])
def test_video_with_ecg_is_wide_has_a_strip_and_the_cursor_moves(tmp_path, suffix):
    cine = moving_cine(np.arange(20) / 10.0 + 1.0)
    ecg, r_s = ticking_ecg()
    write(cine, tmp_path / f"a{suffix}", ecg=ecg, r_s=r_s, label="synthetic")
    read = read_cine(tmp_path / f"a{suffix}")
    assert read.frames.shape == (20, 480, 384)
    strip = EcgStrip(ecg, start_s=1.0, end_s=3.0, width=384, height=96)
    rows = slice(384 + strip.layout.trace_bottom - 6, 384 + strip.layout.trace_bottom)
    for index in (3, 10, 17):
        # Above the trace's floor the cursor is the brightest thing in these rows.
        brightest = read.frames[index, rows].astype(int).min(axis=0).argmax()
        assert abs(brightest - strip.cursor_column(float(cine.times_s[index]))) <= 1


def cursor_columns(picture, strip):
    inside = picture[strip.layout.trace_top : strip.layout.trace_bottom]
    return np.flatnonzero((inside == CURSOR).all(axis=(0, 2)))


@pytest.mark.parametrize("end_s", [3.5, 6.0, 17.0])
def test_the_cursor_stands_at_the_time_of_the_frame(end_s):
    ecg, r_s = ticking_ecg()
    strip = EcgStrip(ecg, start_s=0.5, end_s=end_s, width=400, height=100, r_s=r_s)
    span = min(end_s - 0.5, 6.0)
    for time in np.linspace(0.5, end_s - 0.01, 13):
        picture = strip.draw(float(time))
        assert picture.shape == (100, 400, 3)
        columns = cursor_columns(picture, strip)
        assert list(columns) == [strip.cursor_column(float(time))]
        # The R marks above the trace lie where their times are, counted from the cursor.
        top = picture[strip.layout.trace_top - 3].astype(int)
        marked = np.flatnonzero(np.abs(top - R_MARK).sum(axis=1) < 60)
        seconds = time + (marked - columns[0]) * span / 400
        assert marked.size
        assert np.abs(seconds[:, None] - r_s[None]).min(axis=1).max() < 5 * span / 400


def test_the_trace_peaks_where_the_ecg_does():
    ecg, r_s = ticking_ecg()
    strip = EcgStrip(ecg, start_s=0.0, end_s=4.0, width=800, height=120)
    picture = strip.draw().astype(int)
    trace = np.abs(picture - TRACE).sum(axis=2) < 120
    upper = trace[strip.layout.trace_top : strip.layout.trace_top + 20].any(axis=0)
    seconds = np.flatnonzero(upper) * 4.0 / 800
    assert {round((s - 0.4) / 0.8) for s in seconds} == {0, 1, 2, 3, 4}
    assert np.abs(seconds[:, None] - r_s[None]).min(axis=1).max() < 0.03


def test_heart_rate_is_that_of_the_beat_under_the_cursor():
    r_s = np.array([1.0, 2.0, 2.5])
    assert [heart_rate_at(r_s, t) for t in (0.2, 1.5, 2.2, 9.0)] == [60.0, 60.0, 120.0, 120.0]
    assert heart_rate_at(r_s[:1], 1.0) is None


def test_filmstrip_shows_frames_in_order_over_their_ecg(tmp_path):
    times = np.arange(64) / 32.0
    cine = Cine(np.broadcast_to((np.arange(64) * 4).astype(np.uint8)[:, None, None], (64, 32, 32)).copy(), times)
    ecg, r_s = ticking_ecg()
    picture = filmstrip(cine, ecg, r_s=r_s)
    cells = picture[100, 96 :: 192 + 4, 0]
    assert len(cells) == 8
    assert (np.diff(cells.astype(int)) == 32).all()
    write(cine, tmp_path / "a.png", ecg=ecg, r_s=r_s)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert filmstrip(cine, count=3).shape == (192, 3 * 196 - 4, 3)
    assert filmstrip(Cine(cine.frames[:1], times[:1])).shape == (192, 192, 3)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".avi", ".npz", ".png"])
def test_single_frames_and_upper_case_suffixes_are_written(tmp_path, suffix):
    cine = moving_cine([0.5])
    write(cine, tmp_path / f"a{suffix.upper()}")
    assert len(read_cine(tmp_path / f"a{suffix.upper()}").frames) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix.upper()}"]


def test_scale_enlarges(tmp_path):
    write(moving_cine(TIMES["32"]), tmp_path / "a.avi", scale=3)
    assert read_cine(tmp_path / "a.avi").frames.shape == (40, 192, 192)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_colon_in_a_name_is_no_protocol(tmp_path, suffix, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(moving_cine(np.arange(3) / 25), f"10:30{suffix}")
    assert len(read_cine(f"10:30{suffix}").frames) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".avi"])
def test_nothing_is_left_when_encoding_fails_and_the_old_file_stays(tmp_path, suffix, monkeypatch):
    ecg, _ = ticking_ecg()
    cine = moving_cine(TIMES["32"])
    (tmp_path / f"old{suffix}").write_bytes(b"what was there")
    drawn = []
    draw = EcgStrip.draw

    def fails_later(self, time_s=None):
        drawn.append(time_s)
        if len(drawn) > 5:
            raise KeyboardInterrupt
        return draw(self, time_s)

    monkeypatch.setattr(EcgStrip, "draw", fails_later)
    for name in ("old", "new"):
        drawn.clear()
        with pytest.raises(KeyboardInterrupt):
            write(cine, tmp_path / f"{name}{suffix}", ecg=ecg)
        assert len(drawn) == 6
    assert [path.name for path in tmp_path.iterdir()] == [f"old{suffix}"]
    assert (tmp_path / f"old{suffix}").read_bytes() == b"what was there"


def test_what_cannot_be_written_is_refused_in_one_sentence(tmp_path):
    cine = moving_cine(TIMES["32"])
    ecg, _ = ticking_ecg()
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match=r"\.mp4, \.gif, \.avi, \.dcm, .*\.npz, \.png"):
        write(cine, tmp_path / "a.wmv")
    for arguments in (
        {"path": tmp_path / "nosuffix"},
        {"path": tmp_path / "folder.mp4"},
        {"path": tmp_path / "missing" / "a.mp4"},
        {"path": tmp_path / "a.mp4", "scale": 0},
        {"path": tmp_path / "a.mp4", "ecg": ecg, "lead": "V9"},
        {"path": tmp_path / "a.mp4", "ecg": Ecg(ecg.signal_mv, ecg.rate_hz, ecg.lead_names, start_s=100.0)},
    ):
        with pytest.raises(InputError) as caught:
            write(cine, **arguments)
        assert str(caught.value).endswith(".")
    with pytest.raises(InputError, match="too large"):
        write(Cine(np.zeros((2, 2, 9000), np.uint8), np.arange(2.0)), tmp_path / "wide.mp4")
    assert os.listdir(tmp_path) == ["folder.mp4"]


def test_resampling_is_exact_at_the_same_rate_and_linear_between():
    cine = moving_cine(np.arange(32) / 32.0)
    assert resample_frames(cine, 32.0) is cine
    double = resample_frames(cine, 64.0)
    assert double.frames.shape[0] == 64
    np.testing.assert_array_equal(double.frames[::2], cine.frames)
    between = (cine.frames[3].astype(float) + cine.frames[4]) / 2
    assert np.abs(double.frames[7] - between).max() <= 0.5
    uneven = moving_cine(TIMES["uneven"])
    even = resample_frames(uneven, 50.0)
    np.testing.assert_allclose(np.diff(even.times_s), 0.02, atol=1e-9)
    assert even.duration_s == pytest.approx(uneven.duration_s, abs=0.02)
    with pytest.raises(InputError):
        resample_frames(cine, 0.0)
