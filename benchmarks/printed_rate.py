"""Accuracy of heart rates read from the text of a picture: python benchmarks/printed_rate.py -> docs/drawn_ecg.md.

With --build, the network that tells characters apart is trained anew first, on the fonts of this machine.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.cine.drawn_rate import CHARACTERS, WEIGHTS, normal_letter, printed_rates

Letter = NDArray[np.bool_]

FONTS = Path("/usr/share/fonts")
#: Fonts that the reader is judged on and that its network never saw; it learned from the others of these kinds.
UNSEEN = ("NimbusSans-Bold", "NimbusSansNarrow-Regular", "NotoSansMono-Regular", "LiberationMono-Bold", "DejaVuSansCondensed")
UNSEEN += ("URWGothic-Demi", "NimbusSans-BoldItalic", "LiberationSans-Regular")
KINDS = ("DejaVuSans", "LiberationSans", "LiberationMono", "NimbusSans", "URWGothic", "NotoSans", "NotoMono", "NimbusMonoPS")
#: Learned fonts that are shown beside.
SHOWN = ("DejaVuSans", "DejaVuSans-Bold", "LiberationSans-Bold")
SIZES = (9, 10, 11, 12, 14, 17, 22, 40)
#: Pictures of each letter in each size, and hidden units, steps, batch size and step size of the training.
VARIANTS, HIDDEN, STEPS, BATCH, STEP_SIZE = 2, 128, 12_000, 256, 2e-3


def font_file(name: str) -> Path:
    """The file of a font by its name."""
    return next(path for path in sorted(FONTS.rglob(f"{name}.*")) if path.suffix in (".ttf", ".otf"))


def learned() -> list[str]:
    """Names of the fonts that the network learns from."""
    names = {path.stem for path in FONTS.rglob("*.*tf") if path.stem.startswith(KINDS) and "Math" not in path.stem}
    return sorted(name for name in names if name not in UNSEEN and font_file(name).suffix in (".ttf", ".otf"))


def drawn(text: str, font: ImageFont.FreeTypeFont, mode: str, choose: np.random.Generator) -> Letter | None:
    """The pixels of letters within their box, a little wider, narrower or slanted; mode "1" draws without grey edges."""
    side = round(4 * font.size)
    image = Image.new(mode, (side, side))
    ImageDraw.Draw(image).text((side // 4, side // 4), text, fill=255, font=font)
    slant, wide = choose.normal(0, 0.06), choose.uniform(0.8, 1.25)
    image = image.convert("L").transform(
        (side, side), Image.Transform.AFFINE, (1 / wide, slant, 0, 0, 1, 0), Image.Resampling.BILINEAR
    )
    if choose.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(choose.uniform(0.3, 0.8)))
    grey = np.asarray(image)
    ink = grey > choose.uniform(0.35, 0.65) * grey.max()
    # Grains of a packed picture at the edges of the letter.
    ink = ink ^ (ndimage.binary_dilation(ink) & (choose.random(ink.shape) < 0.01))
    labels, count = ndimage.label(ink, structure=np.ones((3, 3)))
    if count == 0:
        return None
    largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    return (labels == largest)[ndimage.find_objects(labels)[largest - 1]]


def no_letter(choose: np.random.Generator, font: ImageFont.FreeTypeFont) -> Letter | None:
    """A piece of ink that is no letter: tissue, part of a letter, or two letters in touch."""
    kind = choose.integers(3)
    if kind == 0:
        smooth = ndimage.gaussian_filter(choose.normal(size=(40, 40)), tuple(choose.uniform(1.0, 5.0, 2)))
        labels, count = ndimage.label(smooth > choose.uniform(0.0, 1.0) * smooth.std())
        return None if count == 0 else (labels == 1)[ndimage.find_objects(labels)[0]]
    pair = "".join(choose.choice(list(CHARACTERS), 2))
    if kind == 1:
        letters = [letter for character in pair if (letter := drawn(character, font, "L", choose)) is not None]
        if len(letters) < 2:
            return None
        height = max(len(letter) for letter in letters)
        return np.concatenate([np.pad(letter, ((height - len(letter), 0), (0, 0))) for letter in letters], axis=1)
    letter = drawn(pair[0], font, "L", choose)
    if letter is None or letter.shape[1] < 5:
        return None
    part = letter[:, : round(letter.shape[1] * choose.uniform(0.35, 0.65))]
    return part if choose.random() < 0.5 else part[:, ::-1]


def build() -> None:
    """Train the network that tells characters apart on letters drawn in the fonts of this machine, and write its weights."""
    choose = np.random.default_rng(0)
    pictures, labels = [], []
    for name in learned():
        for size in SIZES:
            font = ImageFont.truetype(font_file(name), size)
            pieces = [
                (c, drawn(character, font, mode, choose)) for c, character in enumerate(CHARACTERS) for mode in "L1" * VARIANTS
            ]
            pieces += [(len(CHARACTERS), no_letter(choose, font)) for _ in range(60 * VARIANTS)]
            kept = [(label, piece) for label, piece in pieces if piece is not None and piece.any() and len(piece) > 3]
            labels += [label for label, _ in kept]
            pictures += [normal_letter(piece) for _, piece in kept]
    inputs, targets = torch.from_numpy(np.stack(pictures)), torch.tensor(labels)
    torch.manual_seed(0)
    first, last = torch.nn.Linear(inputs.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, len(CHARACTERS) + 1)
    network = torch.nn.Sequential(first, torch.nn.ReLU(), last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=STEP_SIZE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        batch = torch.randint(len(inputs), (BATCH,))
        noisy = inputs[batch] + 0.01 * torch.randn(BATCH, inputs.shape[1])
        loss = torch.nn.functional.cross_entropy(network(noisy), targets[batch], label_smoothing=0.02)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 2000 == 0:
            print(len(inputs), step, f"{loss.item():.3f}", flush=True)
    arrays = {"weights_1": first.weight.T, "offset_1": first.bias, "weights_2": last.weight.T, "offset_2": last.bias}
    stored: dict[str, Any] = {name: value.detach().numpy().astype(np.float16) for name, value in arrays.items()}
    np.savez_compressed(WEIGHTS, **stored)
    print(WEIGHTS.stat().st_size // 1024, "kB")


def picture(name: str, rate: int, choose: random.Random) -> NDArray[np.uint8]:
    """One frame with a printed heart rate, other text and noise, (1, 320, 480, 3)."""
    size = choose.choice((11, 12, 14, 16, 20, 26))
    font = ImageFont.truetype(font_file(name), size)
    image = Image.new("RGB", (480, 320), (6, 6, 8))
    pen = ImageDraw.Draw(image)
    pen.fontmode = choose.choice("1L")
    colour = choose.choice(((235, 235, 235), (170, 170, 170), (230, 220, 60), (90, 230, 110)))
    place = (choose.randint(8, 60), choose.randint(8, 40))
    for text, down in choose.choice(
        (
            ((f"{rate} bpm", 0.0),),
            ((f"{rate}BPM", 0.0),),
            ((f"HR= {rate}bpm", 0.0),),
            ((f"HR {rate}", 0.0),),
            ((f"{rate}", 0.0), ("BPM", 1.25)),
            ((f"{rate}", 0.0), ("HR", 1.25)),
        )
    ):
        pen.text((place[0], place[1] + round(down * size)), text, fill=colour, font=font)
    pen.text((place[0], place[1] + 3 * size), "FR 56Hz 20cm", fill=colour, font=font)
    pen.text((place[0], place[1] + 4.5 * size), "Gn 77  50 mm/s", fill=colour, font=font)
    if choose.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(0.6))
    noise = np.random.default_rng(rate).normal(0, 6, (320, 480, 1))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", action="store_true", help="train the network anew")
    parser.add_argument("--pictures", type=int, default=100, help="pictures of each font")
    options = parser.parse_args()
    if options.build:
        build()
    rows = []
    for name in (*SHOWN, *UNSEEN):
        choose = random.Random(name)
        right = wrong = 0
        for _ in range(options.pictures):
            rate = choose.randint(35, 190)
            read = printed_rates(picture(name, rate, choose))
            right, wrong = right + (read is not None and read[1] == rate), wrong + (read is not None and read[1] != rate)
        rows.append([name, "no" if name in UNSEEN else "yes", str(right), str(options.pictures - right - wrong), str(wrong)])
        print(rows[-1], flush=True)
    note = (
        f"{options.pictures} pictures of each font, 480 x 320 pixels: a heart rate in one of six layouts, letters of 11 to 26 "
        "pixels with and without grey edges, in four colours, a third of them blurred, other text beside. "
        "Command: `python benchmarks/printed_rate.py`.\n\n"
    )
    head = ["font", "learned", "right", "not read", "wrong"]
    write_section(DOCS / "drawn_ecg.md", "Printed heart rates", note + table(head, rows))


if __name__ == "__main__":
    main()
