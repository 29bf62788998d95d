"""SAM 2 from a local folder: random weights of a tiny size, so what is tested is the way in and out, not the masks' sense."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from echogen import InputError
from echogen.measurement.sam2 import Sam2Segmenter, prompt_of
from echogen.metrics.heart.volumes import area_ef_percent
from echogen.records import STRUCTURES

SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM 2 of about a hundred thousand weights that looks at 64 x 64 pixels."""
    import torch
    from transformers import Sam2VideoConfig, Sam2VideoModel

    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "image_size": [SIDE, SIDE],
            "hidden_size": 8,
            "num_attention_heads": 1,
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 1, 1, 1],
            "window_size_per_stage": [4, 4, 4, 2],
            "global_attention_blocks": [3],
            "window_positional_embedding_background_size": [4, 4],
        },
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 128,
    }
    torch.manual_seed(0)
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 8},
        mask_decoder_config={
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        image_size=SIDE,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
        num_maskmem=3,
    )
    place = tmp_path_factory.mktemp("sam2")
    model = Sam2VideoModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(50.0)  # it always takes the object to be there
    model.save_pretrained(place)
    return place


def frames(count: int = 4) -> np.ndarray:
    rows, columns = np.mgrid[:48, :40]
    radius = np.linspace(14, 9, count)[:, None, None]
    return np.where((rows - 20) ** 2 + (columns - 18) ** 2 < radius**2, 20, 180).astype(np.uint8)


@pytest.mark.parametrize(
    "prompt", [{"box": (4, 6, 32, 34)}, {"points": [(18, 20)]}, {"box": (4, 6, 32, 34), "points": [(18, 20)]}]
)
def test_masks_have_the_shape_of_the_video(folder: Path, prompt: dict) -> None:
    segmenter, video = Sam2Segmenter(folder), frames()
    masks = segmenter(video, **prompt)
    assert masks.shape == video.shape
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) <= {0, STRUCTURES["lv"]}
    assert masks.any()
    assert 0 <= area_ef_percent(masks) <= 100
    np.testing.assert_array_equal(segmenter(video, **prompt), masks)


def test_a_prompt_in_the_middle_goes_both_ways(folder: Path) -> None:
    segmenter, video = Sam2Segmenter(folder), frames(5)
    both = segmenter(video, mask=video[2] < 100, at=2)
    onwards = segmenter(video[2:], mask=video[2] < 100)
    back = segmenter(video[2::-1], mask=video[2] < 100)
    np.testing.assert_array_equal(both[3:], onwards[1:])
    np.testing.assert_array_equal(both[:2], back[:0:-1])
    elsewhere = segmenter(video, box=(25, 30, 38, 46), at=2)
    assert (elsewhere != both).any()


def test_without_a_ventricle_there_is_no_ef() -> None:
    assert np.isnan(area_ef_percent(np.zeros((3, 8, 8), dtype=np.uint8)))


def test_a_mask_becomes_a_box_and_a_centre() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:9, 10:20] = True
    box, centre = prompt_of(mask)
    assert box.tolist() == [10, 5, 20, 9]
    assert centre.tolist() == [[15.0, 7.0]]


def test_what_is_missing_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="needs a local folder"):
        Sam2Segmenter(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    with pytest.raises(InputError, match="does not hold SAM 2 for video"):
        Sam2Segmenter(tmp_path)
    segmenter = Sam2Segmenter(folder)
    with pytest.raises(InputError, match="needs a box or points"):
        segmenter(frames())
    with pytest.raises(InputError, match="no left ventricle"):
        segmenter(frames(), mask=np.zeros((48, 40), dtype=bool))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"install echogen\[text\]"):
        Sam2Segmenter(folder)
