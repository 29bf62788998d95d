"""The left ventricle through a video by SAM 2, from a prompt on one frame: how ECHOPulse's paper reads its EF.

SAM 2 (Ravi et al. 2024) never learned what a ventricle is: it follows whatever the prompt names. ECHOPulse (section 4.2) takes
EF = (LV_ED - LV_ES) / LV_ED of its masks, an EF by area (`metrics.volumes.area_ef_percent`). That is no EF by volume: volume goes
with the area squared over the length, so an area that shrinks by 40 % is a volume that shrinks by about 55 %, and both frames are
the extremes of one clip instead of the beats' means. Compare an area EF with area EFs only.

The resizing and scaling of SAM 2's own image processor are done here, because that one needs torchvision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from echogen.arrays import ByteArray, Mask
from echogen.errors import InputError
from echogen.records import STRUCTURES

#: Mean and spread of the pictures that SAM 2 was trained on, in three colours.
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: SAM 2's labels of points: inside the object, and the two corners of a box.
_INSIDE, _TOP_LEFT, _BOTTOM_RIGHT = 1, 2, 3
_OBJECT = 1


class Sam2Segmenter:
    """SAM 2 for video from a local folder in the form of `transformers` (config.json, model.safetensors).

    directory: for example a download of facebook/sam2.1-hiera-tiny. Raises `InputError` where `transformers` is not installed or
    the folder does not hold SAM 2.
    """

    def __init__(self, directory: str | Path, device: str | torch.device = "cpu") -> None:
        directory = Path(directory)
        config = directory / "config.json"
        if not config.is_file():
            raise InputError(
                f"SAM 2 needs a local folder with its config.json and model.safetensors, but {directory} is none; download "
                "facebook/sam2.1-hiera-tiny and name its folder."
            )
        try:
            from transformers import Sam2VideoModel
        except ImportError as error:
            raise InputError("SAM 2 needs the package transformers; install echogen[text].") from error
        try:
            kind = json.loads(config.read_text(encoding="utf-8"))["model_type"]
            if kind != "sam2_video":
                raise ValueError(f"a model of type {kind}")
            model: Any = Sam2VideoModel.from_pretrained(directory, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{directory} does not hold SAM 2 for video (model_type sam2_video); get the folder again."
            ) from error
        self.device = torch.device(device)
        self._model = model.to(self.device).eval().requires_grad_(False)
        size = model.config.image_size
        self.size = int(size if isinstance(size, int) else size[0])

    def __call__(
        self,
        frames: ByteArray,
        *,
        mask: Mask | None = None,
        box: ArrayLike | None = None,
        points: ArrayLike | None = None,
        at: int = 0,
    ) -> ByteArray:
        """The ventricle in every frame: (T, H, W) uint8, `STRUCTURES["lv"]` or 0.

        frames: (T, H, W) uint8. The prompt lies on frame `at`: a mask (H, W), of which the box and the centre are used; or a box
        (4,) x1, y1, x2, y2 and points (n, 2) x, y inside the ventricle, in pixels, of which one may be missing. From there it is
        followed to the end, and back to the start. Raises `InputError` without a prompt, or for one that is empty.
        """
        if mask is not None:
            box, points = prompt_of(mask)
        if box is None and points is None:
            raise InputError("SAM 2 needs a box or points on the ventricle in one frame; give one of them.")
        corners = np.asarray([] if box is None else box, dtype=np.float64).reshape(-1, 2)
        inside = np.asarray([] if points is None else points, dtype=np.float64).reshape(-1, 2)
        labels = [_TOP_LEFT, _BOTTOM_RIGHT][: len(corners)] + [_INSIDE] * len(inside)
        places = np.concatenate([corners, inside]) * (self.size / np.array([frames.shape[2], frames.shape[1]]))
        prompt = {
            "point_coords": torch.tensor(places, dtype=torch.float32)[None, None],
            "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
        }
        found = np.zeros(frames.shape, dtype=np.uint8)
        for order in (range(at, len(frames)), range(at, -1, -1)):
            if len(order) > 1 or order.step == 1:
                self._follow(frames, order, prompt, found)
        return found

    @torch.inference_mode()
    def _follow(self, frames: ByteArray, order: Sequence[int], prompt: dict[str, Tensor], found: ByteArray) -> None:
        """Fill in the masks of frames in the order that they are given; the prompt belongs to the first of them."""
        from transformers import Sam2VideoInferenceSession

        session: Any = Sam2VideoInferenceSession(
            video=None, inference_device=self.device, inference_state_device=self.device, dtype=torch.float32
        )
        session.add_point_inputs(session.obj_id_to_idx(_OBJECT), 0, prompt)
        session.obj_with_new_inputs = [_OBJECT]
        for step, index in enumerate(order):
            logits = self._model(session, frame_idx=step, frame=self._pixels(frames[index])).pred_masks
            session.processed_frames.pop(step)  # what it needs of a frame is in its memory by now
            large = functional.interpolate(logits.float(), frames.shape[1:], mode="bilinear", align_corners=False)
            found[index] = np.where((large[0, 0] > 0).cpu().numpy(), STRUCTURES["lv"], 0)

    def _pixels(self, frame: ByteArray) -> Tensor:
        """(1, 3, size, size) as SAM 2 saw pictures in training."""
        grey = torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).float()[None, None] / 255.0
        grey = functional.interpolate(grey, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        mean, spread = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (_MEAN, _SPREAD))
        return (grey.expand(-1, 3, -1, -1) - mean) / spread


def prompt_of(mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(box (4,) x1, y1, x2, y2; centre (1, 2) x, y) of a mask (H, W), in pixels. Raises `InputError` for an empty one."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise InputError("There is no left ventricle in the frame that should prompt SAM 2; give a box or another frame.")
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)
    return box, np.array([[columns.mean() + 0.5, rows.mean() + 0.5]])
