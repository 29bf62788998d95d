"""The picture at the top of the README: python benchmarks/filmstrip.py -> docs/images/filmstrip.webp."""

from __future__ import annotations

import echogen
from common import DOCS, arguments, recordings, save_picture
from echogen.cine import filmstrip
from echogen.ecg import find_landmarks


def main() -> None:
    options = arguments(__doc__ or "", seed=12, ef=60)
    heart = echogen.Generator.from_pretrained(options.model)
    ecg = echogen.read_ecg(next(r.path for r in recordings() if "pydicom" in r.name))
    marks = find_landmarks(ecg)
    start = float(marks.r_s[1]) - 0.1
    cine = heart(ecg, start_s=start, seconds=1.2, ef_percent=float(options.ef), view="A4C", seed=options.seed)
    save_picture(filmstrip(cine, ecg, r_s=marks.r_s, label="synthetic"), DOCS / "images" / "filmstrip.webp")


if __name__ == "__main__":
    main()
