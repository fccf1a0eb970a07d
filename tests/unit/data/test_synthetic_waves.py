from types import SimpleNamespace

import numpy as np
import pytest

from ecg.data import synthetic_heart as waves
from ecg.data.synthetic_shapes import place_waves, sum_heart_vector

LEADS = waves.LEAD_VECTORS


def make_patient(conduction, axis, height=1.2, findings=()):
    return SimpleNamespace(
        conduction=conduction, axis=axis, height=height, findings=set(findings), leads=LEADS, style=None
    )


def compute_lead_signals(parts, samples=400):
    """Return a shape in leads I, II and V1 to V6: (8, samples), 0 to 1.1 durations."""
    time = np.linspace(0, 1.1, samples)
    bumps = np.exp(-0.5 * ((time[:, None] - parts[:, 0]) / parts[:, 1]) ** 2)
    return LEADS @ (bumps @ parts[:, 2:]).T


def test_heart_vector_is_the_sum_of_all_bumps():
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.uniform(-0.5, 4.5, 50), rng.uniform(0.001, 0.1, 50), rng.normal(size=(50, 3))])
    time = np.arange(2000) / 500
    expected = np.exp(-0.5 * ((time[:, None] - table[:, 0]) / table[:, 1]) ** 2) @ table[:, 2:]
    np.testing.assert_allclose(sum_heart_vector(table, 2000, 500), expected, atol=5e-3)  # bumps are 1 mV


def test_heart_vector_does_not_depend_on_the_sampling_frequency():
    rng = np.random.default_rng(1)
    table = np.column_stack([rng.uniform(0.5, 1.5, 20), rng.uniform(0.01, 0.05, 20), rng.normal(size=(20, 3))])
    fine, coarse = sum_heart_vector(table, 2000, 1000), sum_heart_vector(table, 500, 250)
    np.testing.assert_allclose(fine[::4], coarse, atol=5e-3)


def test_place_stretches_a_shape_to_each_duration():
    parts = np.array([[0.5, 0.1, 1.0, 2.0, 3.0], [1.0, 0.2, 4.0, 5.0, 6.0]])
    placed = place_waves(parts, [10.0, 20.0], [1.0, 2.0])
    expected = [[10.5, 0.1, 1, 2, 3], [11.0, 0.2, 4, 5, 6], [21.0, 0.2, 1, 2, 3], [22.0, 0.4, 4, 5, 6]]
    np.testing.assert_allclose(placed, expected)


@pytest.mark.parametrize(
    ("conduction", "axis"), [("normal", 60), ("normal", 0), ("normal", -50), ("RAD", 120), ("LBBB", 10), ("LAnFB", -60)]
)
def test_the_electrical_axis_is_that_of_the_settings(conduction, axis):
    for seed in range(5):
        leads = compute_lead_signals(
            waves.draw_qrs_complex(make_patient(conduction, axis), np.random.default_rng(seed))
        )
        first, second = leads[:2].sum(axis=1)
        assert np.degrees(np.arctan2(2 * second - first, np.sqrt(3) * first)) == pytest.approx(axis, abs=12)


@pytest.mark.parametrize("conduction", waves.CONDUCTION)
def test_the_tallest_limb_lead_has_the_height_of_the_settings(conduction):
    parts = waves.draw_qrs_complex(make_patient(conduction, 45, height=0.4), np.random.default_rng(0))
    first, second = compute_lead_signals(parts)[:2]
    limbs = [first, second, second - first, (first + second) / 2, first - second / 2, second - first / 2]
    assert max(np.ptp(lead) for lead in limbs) == pytest.approx(0.4, rel=0.02)


def test_normal_r_waves_grow_towards_v5_and_s_waves_are_deepest_before_v4():
    leads = compute_lead_signals(waves.draw_qrs_complex(make_patient("normal", 50), np.random.default_rng(2)))
    tall, deep = leads[2:].max(axis=1), -leads[2:].min(axis=1)
    assert np.all(np.diff(tall[:4]) > 0) and deep[1:3].min() > deep[3:].max()
    assert deep[0] > 2 * tall[0] and tall[4] > 2 * deep[4]  # rS in V1, R in V5


def test_right_bundle_branch_block_ends_rightwards_and_forwards():
    leads = compute_lead_signals(waves.draw_qrs_complex(make_patient("RBBB", 50), np.random.default_rng(3)))
    late = leads[:, 240:300].mean(axis=1)  # 0.66 to 0.82 of the complex
    assert late[2] > 0.3 and late[0] < -0.15 and late[7] < -0.3  # R' in V1, S in I and V6
    v1 = leads[2]
    assert v1[20:100].max() > 0.1 and v1[60:220].min() < -0.1  # r and S before it


def test_left_bundle_branch_block_is_notched_with_opposite_t_waves():
    rng = np.random.default_rng(4)
    patient = make_patient("LBBB", 20)
    qrs = waves.draw_qrs_complex(patient, rng)
    complexes, t_waves = compute_lead_signals(qrs), compute_lead_signals(waves.draw_t_wave(patient, qrs, rng))
    for lead, sign in ((0, 1), (6, 1), (7, 1), (2, -1), (3, -1)):
        assert sign * complexes[lead].sum() > 0 and -sign * t_waves[lead].sum() > 0
    assert complexes[7].min() > -0.1  # no q
    slope = np.sign(np.diff(complexes[7][complexes[7] > 0.3]))
    assert np.sum(np.diff(slope) < 0) == 2  # two peaks in V6


def test_t_waves_are_upright_unless_a_diagnosis_inverts_them():
    upright, inverted, flat = [0, 1, 4, 5, 6, 7], [0, 1, 3, 4, 5, 6], [0, 1, 5, 6, 7]
    for seed in range(8):
        rng = np.random.default_rng(seed)
        t = {
            name: compute_lead_signals(waves.draw_t_wave(make_patient("normal", 50, findings=[name]), None, rng))
            for name in ("", "TInv", "TAb")
        }
        assert t[""][upright].max(axis=1).min() > 0.07 and t[""][upright].min() > -0.03
        assert np.sum(t["TInv"][inverted].min(axis=1) < -0.1) >= 2
        assert t["TAb"][flat].sum(axis=1).max() < 0.35 * t[""][flat].sum(axis=1).min() + 10


def test_low_voltage_is_low_in_the_t_wave_too():
    rng = np.random.default_rng
    normal, low = (waves.draw_t_wave(make_patient("normal", 50, findings=f), None, rng(5)) for f in ((), ("LQRSV",)))
    np.testing.assert_allclose(low[:, 2:], 0.6 * normal[:, 2:])
