"""What the report of a blind test says, against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen.app.blind_test.report import chance_p, cohen_kappa, d_prime, fleiss_kappa, holm, report
from echogen.app.blind_test.session import Answer
from echogen.metrics.evaluation.figures import share_row


def answers(reader: str, real: str, said: str, *, repeats: str = "", confidence: int = 3) -> list[Answer]:
    """One answer a letter, r or g; repeats: what was said of the first clips when they came again."""
    first = [
        Answer(reader, index, f"clip-{index}", False, truth == "r", word == "r", confidence, 4, 2.0)
        for index, (truth, word) in enumerate(zip(real, said, strict=True))
    ]
    again = [
        Answer(reader, len(real) + index, f"clip-{index}", True, real[index] == "r", word == "r", confidence, 4, 2.0)
        for index, word in enumerate(repeats)
    ]
    return first + again


def test_wilson_interval() -> None:
    # 7 of 10: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n) with z = 1.95996
    z, p, n = 1.959963984540054, 0.7, 10
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n**2)
    row = share_row([True] * 7 + [False] * 3)
    assert (row.low, row.value, row.high, row.n) == pytest.approx(
        ((middle - half) / (1 + z * z / n), 0.7, (middle + half) / (1 + z * z / n), 10)
    )
    assert share_row([False] * 5).low == pytest.approx(0, abs=1e-12)
    assert math.isnan(share_row([]).value)


def test_binomial_test_against_chance() -> None:
    # 9 or 10 of 10, or as few: 2 (10 + 1) / 1024
    assert chance_p(9, 10) == pytest.approx(22 / 1024)
    assert chance_p(5, 10) == pytest.approx(1.0)
    assert math.isnan(chance_p(0, 0))


def test_holm() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_d_prime() -> None:
    # 8 of 9 hits and 1 of 9 false alarms: rates 0.85 and 0.15, z = 1.03643 each
    assert d_prime([1] * 8 + [0], [1] + [0] * 8) == pytest.approx(2 * 1.0364334, abs=1e-6)
    assert d_prime([1, 0], [0, 1]) == pytest.approx(0)
    assert math.isnan(d_prime([], [1]))


def test_cohen_kappa() -> None:
    # Both yes 20, both no 15, only the first 5, only the second 10: po 0.7, pe 0.5 (Cohen's textbook table)
    first = [1] * 20 + [1] * 5 + [0] * 10 + [0] * 15
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(second, first) == pytest.approx(0.4)
    assert cohen_kappa([0, 1, 1], [0, 1, 1]) == pytest.approx(1)
    assert math.isnan(cohen_kappa([1, 1], [1, 1]))
    assert math.isnan(cohen_kappa([], []))


def test_fleiss_kappa() -> None:
    # Three readers, four clips: P = (1 + 1/3 + 1/3 + 1) / 4 = 2/3; categories 1/2 each, Pe = 1/2
    assert fleiss_kappa([[3, 0], [2, 1], [1, 2], [0, 3]]) == pytest.approx(1 / 3)
    assert math.isnan(fleiss_kappa([[2, 0], [2, 0]]))
    assert math.isnan(fleiss_kappa(np.empty((0, 2))))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_kappa_does_not_depend_on_names_and_is_at_most_one(pairs: list[tuple[bool, bool]]) -> None:
    first, second = np.array(pairs).T
    kappa = cohen_kappa(first, second)
    assert math.isnan(kappa) or -1 - 1e-9 <= kappa <= 1 + 1e-9
    assert cohen_kappa(~first, ~second) == pytest.approx(kappa, nan_ok=True)


def test_a_reader() -> None:
    found = report(answers("ada", "rrrrgggg", "rrrggggr", repeats="rgr"))
    ada = found["readers"]["ada"]
    assert ada["accuracy"]["value"] == pytest.approx(6 / 8)
    assert ada["accuracy"]["n"] == 8
    assert ada["accuracy"]["p_against_chance"] == pytest.approx(2 * (1 + 8 + 28) / 256)
    assert ada["sensitivity"]["value"] == ada["specificity"]["value"] == pytest.approx(3 / 4)
    # z((3 + .5) / 5) - z((1 + .5) / 5) = 2 z(0.7)
    assert ada["d_prime"]["value"] == pytest.approx(2 * 0.5244005, abs=1e-6)
    assert ada["d_prime"]["low"] < ada["d_prime"]["value"] < ada["d_prime"]["high"]
    assert ada["with_oneself"]["agreement"] == pytest.approx(share_row([True, True, False]).to_json())
    assert ada["quality"]["real"]["value"] == 4
    assert ada["seconds"]["value"] == 2
    assert ada["accuracy_by_confidence"]["3"]["n"] == 8
    assert ada["accuracy_by_confidence"]["5"] == {"value": None, "low": None, "high": None, "n": 0}


def test_repeats_count_for_agreement_with_oneself_only() -> None:
    plain, repeated = (report(answers("ada", "rrgg", "rggg", repeats=again)) for again in ("", "grg"))
    assert plain["readers"]["ada"].pop("with_oneself")["agreement"]["n"] == 0
    assert repeated["readers"]["ada"].pop("with_oneself")["agreement"]["n"] == 3
    assert plain == repeated


def test_confidence_of_right_and_wrong_answers() -> None:
    sure = answers("ada", "rg", "rg", confidence=5)
    unsure = answers("bob", "rg", "gr", confidence=2)
    pooled = report(sure + unsure)["pooled"]
    assert pooled["confidence"]["right"]["value"] == 5
    assert pooled["confidence"]["wrong"]["value"] == 2
    assert pooled["accuracy"]["value"] == 0.5
    assert pooled["accuracy_by_confidence"]["5"]["value"] == 1
    assert pooled["accuracy_by_confidence"]["2"]["value"] == 0


def test_readers_who_agree_and_one_who_does_not() -> None:
    truth = "rgrgrgrg"
    others = answers("ada", truth, truth) + answers("bob", truth, truth) + answers("cy", truth, "grgrgrgr")
    found = report(others)
    kappas = {tuple(pair["readers"]): pair["kappa"]["value"] for pair in found["between_readers"]["pairs"]}
    assert kappas == pytest.approx({("ada", "bob"): 1.0, ("ada", "cy"): -1.0, ("bob", "cy"): -1.0})
    # Two of three agree on each clip: P = 1/3, Pe = 1/2
    assert found["between_readers"]["fleiss_kappa"]["value"] == pytest.approx(-1 / 3)
    assert found["between_readers"]["fleiss_kappa"]["n"] == 8
    assert found["pooled"]["accuracy"]["value"] == pytest.approx(2 / 3)


def test_readers_who_stopped_early_are_compared_on_what_both_saw() -> None:
    found = report(answers("ada", "rgrg", "rgrr") + answers("bob", "rg", "rg"))
    (pair,) = found["between_readers"]["pairs"]
    assert pair["agreement"]["n"] == pair["kappa"]["n"] == 2
    assert pair["agreement"]["value"] == 1
    assert found["between_readers"]["fleiss_kappa"]["n"] == 2


def test_each_clip_is_tested_against_chance() -> None:
    readers = [answers(f"reader-{index}", "rg", "rg" if index % 2 else "rr") for index in range(8)]
    clips = report([answer for given_ in readers for answer in given_])["clips"]
    assert [(clip["clip"], clip["truth"], clip["n"], clip["right"]) for clip in clips] == [
        ("clip-0", "real", 8, 8),
        ("clip-1", "generated", 8, 4),
    ]
    assert clips[0]["p_against_chance"] == pytest.approx(2 / 256)
    assert clips[0]["p_adjusted"] == pytest.approx(4 / 256)
    assert clips[1]["p_adjusted"] == 1


def test_one_reader_alone_has_no_agreement_with_others() -> None:
    found = report(answers("ada", "rg", "rg"))["between_readers"]
    assert found == {"pairs": [], "fleiss_kappa": {"value": None, "low": None, "high": None, "n": 0}}
