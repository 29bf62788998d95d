"""Shards in the canonical picture: what training sees of them is what it sees of the recorded pictures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.data import get_testdata_file

from echogen.datasets.canonical_samples import in_canonical_picture
from echogen.datasets.shards import Sample, ShardFolder
from echogen.records import UNLABELLED, Cine
from echogen.training.source.canonical import CanonicalPictures


def test_prepared_pictures_are_those_that_training_makes(tmp_path: Path, echogen: Callable[..., Any]) -> None:
    recorded = tmp_path / "export"
    recorded.mkdir()
    (recorded / "a.dcm").write_bytes(Path(str(get_testdata_file("examples_ybr_color.dcm"))).read_bytes())
    options = ("--fps", "30", "--workers", "1")
    assert echogen("prepare", recorded, "-o", tmp_path / "whole", *options).code == 0
    assert echogen("prepare", recorded, "-o", tmp_path / "sector", "--canonical", *options).code == 0
    whole, sector = (ShardFolder(tmp_path / name)[0] for name in ("whole", "sector"))
    assert sector.cine is not None
    assert sector.cine.frames.shape[1:] == (128, 128)
    seen = CanonicalPictures().of(whole)
    assert seen.cine is not None
    assert np.array_equal(seen.cine.frames, sector.cine.frames)
    assert whole.key == sector.key
    assert CanonicalPictures().of(sector) is sector
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).glob("*.tar")) for name in ("whole", "sector")]
    assert sizes[1] < sizes[0] / 4


def test_masks_and_pixel_size_come_along(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:300, :400]
    fan = (np.hypot(rows - 10, columns - 200) < 270) & (np.abs(np.arctan2(columns - 200, rows - 10)) < 0.7)
    rng = np.random.default_rng(0)
    frames = np.where(fan, rng.integers(40, 200, (4, 300, 400)), 0).astype(np.uint8)
    masks = np.full(frames.shape, UNLABELLED, np.uint8)
    masks[1] = np.hypot(rows - 150, columns - 200) < 50
    sample = in_canonical_picture(Sample("a", Cine(frames, np.arange(4) / 30, mm_per_pixel=0.5), masks=masks))
    assert sample.cine is not None
    assert sample.masks is not None
    assert sample.cine.mm_per_pixel is not None
    assert (sample.masks[[0, 2, 3]] == UNLABELLED).all()
    area_mm2 = (sample.masks[1] == 1).sum() * sample.cine.mm_per_pixel**2
    assert abs(area_mm2 / ((masks[1] == 1).sum() * 0.25) - 1.0) < 0.05


def test_a_video_without_a_sector_is_rejected_with_the_reason(tmp_path: Path, echogen: Callable[..., Any]) -> None:
    (tmp_path / "export").mkdir()
    noise = np.random.default_rng(1).integers(0, 255, (6, 200, 200)).astype(np.uint8)
    np.savez(tmp_path / "export/a.npz", frames=noise, times_s=np.arange(6) / 30)
    done = echogen("prepare", tmp_path / "export", "-o", tmp_path / "out", "--canonical", "--workers", "1")
    assert done.code == 2
    assert "does not look like an echocardiogram" in json.loads((tmp_path / "out/manifest.jsonl").read_text())["rejected"]
