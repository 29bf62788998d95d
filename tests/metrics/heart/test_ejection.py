import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from echogen.metrics.heart import ejection

PAIRS = arrays(float, (2, 8), elements=st.floats(5, 85, width=32)).filter(lambda p: np.ptp(p[1]) > 0.1)


@given(PAIRS)
def test_identities(pair):
    got, truth = pair
    error = got - truth
    assert ejection.rmse(got, truth) ** 2 == pytest.approx(ejection.bias(got, truth) ** 2 + error.var(), abs=1e-6)
    assert ejection.mae(got, truth) <= ejection.rmse(got, truth) + 1e-9
    assert ejection.r2(got, truth) == pytest.approx(1 - ejection.rmse(got, truth) ** 2 / truth.var(), rel=1e-6, abs=1e-9)
    low, high = ejection.limits_of_agreement(got, truth)
    assert (low + high) / 2 == pytest.approx(ejection.bias(got, truth), abs=1e-6)


def test_r2_is_about_identity_and_not_about_a_fitted_line():
    truth = np.array([25.0, 40.0, 55.0, 70.0])
    assert ejection.r2(truth, truth) == 1
    assert ejection.r2(np.full(4, truth.mean()), truth) == pytest.approx(0)
    assert ejection.r2(truth + 20, truth) < 0
    assert ejection.r2(0.5 * truth, truth) < 0
    assert np.isnan(ejection.r2(truth, np.full(4, 50.0)))


def test_report_has_intervals_that_hold_their_value_and_repeat():
    random = np.random.default_rng(0)
    truth = random.uniform(20, 75, 60)
    got = truth + random.normal(1.0, 4.0, 60)
    report = ejection.ejection_report(got, truth, seed=3)
    assert report == ejection.ejection_report(got, truth, seed=3)
    assert report.r2_interval[0] < report.r2 < report.r2_interval[1]
    assert report.mae_interval[0] < report.mae < report.mae_interval[1]
    assert report.mae == pytest.approx(3.3, abs=0.8)
    assert report.bias == pytest.approx(1.0, abs=1.2)
    assert report.n == 60
