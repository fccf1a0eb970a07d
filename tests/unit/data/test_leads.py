from itertools import combinations

import numpy as np
import pytest

from ecg.data.leads import (
    LEAD_SETS,
    LEADS,
    LIMB,
    derivation_weights,
    find_lead_set,
    find_lead_sets,
    lead_indices,
    standard_name,
)

PAIRS = list(combinations(LIMB, 2))
CHEST = LEADS[6:]


def test_standard_leads_get_their_standard_names():
    for written, name in (("AVR", "aVR"), ("avl", "aVL"), ("ii", "II"), ("v6", "V6"), ("vx", "vx"), ("Resp", "Resp")):
        assert standard_name(written) == name
    assert {standard_name(change(lead)) for lead in LEADS for change in (str.upper, str.lower)} == set(LEADS)


OTHER_NAMES = {
    "I": ("DI", "di", "Lead I", "LEAD_I", "lead-i", "LeadI", "MDC_ECG_LEAD_I", "mdc_ecg_lead_i", "ECG I", "EKG I"),
    "II": ("DII", "Dii", "Lead II", "Lead  II", "MDC_ECG_LEAD_II", "ECG lead II", "\N{ROMAN NUMERAL TWO}", " II "),
    "III": ("DIII", "Lead III", "MDC_ECG_LEAD_III", "ECG_LEAD_III"),
    "aVR": ("Lead aVR", "lead avr", "Lead-aVR", "MDC_ECG_LEAD_AVR", "MDC_ECG_LEAD_aVR", "ECG aVR"),
    "aVL": ("LeadAVL", "MDC_ECG_LEAD_AVL"),
    "aVF": ("Lead_aVF", "MDC_ECG_LEAD_AVF"),
    **{f"V{n}": (f"C{n}", f"c{n}", f"Lead V{n}", f"Lead C{n}", f"MDC_ECG_LEAD_V{n}", f"ECG V{n}") for n in range(1, 7)},
}
# Inverted and derived leads, other electrode positions, numbered channels, other signals.
OTHER_LEADS = (
    *("-aVR", "aVR-", "\N{MINUS SIGN}aVR", "INV aVR", "aVRneg", "MDC_ECG_LEAD_AVRneg", "Lead -aVR", "Lead --aVR"),
    *("Lead - I", "ECG -aVR", "ECG-V1", "-I", "I-", "+I", "MDC_ECG_LEAD_dI", "MDC_ECG_LEAD_DII", "MDC_ECG_LEAD_dV1"),
    *("dV1", "daVR", "V1-V2", "II-III", "I+II", "V1R", "V4R", "V7", "V8", "V9", "V", "C", "C0", "C7", "C4R", "C1A"),
    *("CM5", "CC5", "CR1", "CB5", "MCL1", "MLI", "MLII", "MLIII", "MDC_ECG_LEAD_ML", "MDC_ECG_LEAD_V", "D", "DIV"),
    *("DaVR", "DV1", "D1", "D2", "D3", "L1", "LI", "1", "Lead 1", "Lead 2", "lead3", "ECG1", "ECG 1", "ECG lead 2"),
    *("ECG", "EKG", "Lead", "Lead ", "ECG lead", "MDC_ECG_LEAD_", "MDC_ECG_LEAD_C1", "mdc ecg lead I", "Lead Lead I"),
    *("X", "Y", "Z", "vx", "ES", "AS", "AI", "RESP", "leading", "LeadI V1", "I II", "VI", "IV", "IIII", "avg", "", " "),
)


@pytest.mark.parametrize("name", LEADS)
def test_other_names_of_the_standard_leads_are_known(name):
    assert {written: standard_name(written) for written in OTHER_NAMES[name]} == dict.fromkeys(OTHER_NAMES[name], name)


@pytest.mark.parametrize("name", OTHER_LEADS)
def test_other_leads_are_not_taken_for_standard_ones(name):
    assert standard_name(name) == name


def test_leads_by_other_names_fill_the_lead_sets():
    assert find_lead_sets([OTHER_NAMES[lead][0] for lead in LEADS]) == find_lead_sets(LEADS)
    assert find_lead_sets(("MDC_ECG_LEAD_AVL", "Lead aVF", "c2")) == find_lead_sets(("aVL", "aVF", "V2"))
    assert find_lead_sets(("-aVR", "II", "D1")) == ()


def test_lead_sets_are_the_challenges():
    assert {count: len(leads) for count, leads in LEAD_SETS.items()} == {12: 12, 6: 6, 4: 4, 3: 3, 2: 2}
    for leads in LEAD_SETS.values():
        assert sorted(leads, key=LEADS.index) == list(leads)


@pytest.fixture(scope="module")
def potentials():
    """Limb leads computed from three electrodes: right arm, left arm, left foot."""
    right, left, foot = np.random.default_rng(0).normal(size=(3, 100))
    centre = (right + left + foot) / 3  # Wilson's; Goldberger's leads are 3/2 of an electrode against it
    augmented = {"aVR": 1.5 * (right - centre), "aVL": 1.5 * (left - centre), "aVF": 1.5 * (foot - centre)}
    return {"I": left - right, "II": foot - right, "III": foot - left} | augmented


@pytest.mark.parametrize("pair", PAIRS)
def test_any_two_limb_leads_give_the_other_four(pair, potentials):
    for wanted in LIMB:
        weights = derivation_weights(wanted, pair)
        assert weights.keys() == ({wanted} if wanted in pair else set(pair))
        computed = sum(weight * potentials[name] for name, weight in weights.items())
        np.testing.assert_allclose(computed, potentials[wanted], atol=1e-12)


def test_a_recorded_lead_is_not_derived():
    assert all(derivation_weights(lead, LEADS) == {lead: 1.0} for lead in LEADS)


def test_leads_one_and_two_are_preferred_then_the_pair_with_the_least_noise():
    assert derivation_weights("III", LEADS[:2] + LEADS[3:]) == {"I": -1.0, "II": 1.0}
    assert derivation_weights("aVF", set(LIMB) - {"aVF"}) == {"I": -0.5, "II": 1.0}
    for wanted in LIMB:
        recorded = [lead for lead in LIMB if lead not in (wanted, "I")]
        noise = {
            pair: np.sum(np.linalg.solve(np.transpose([LIMB[pair[0]], LIMB[pair[1]]]), LIMB[wanted]) ** 2)
            for pair in combinations(recorded, 2)
        }
        chosen = tuple(derivation_weights(wanted, recorded))
        assert noise[chosen] == pytest.approx(min(noise.values()))


def test_a_lead_that_does_not_follow_from_the_recorded_ones_has_no_weights():
    assert derivation_weights("V2", set(LEADS) - {"V2"}) == {}
    assert derivation_weights("I", ["II", "V1", "V2"]) == {}
    assert derivation_weights("Resp", LEADS) == {}
    assert derivation_weights("II", []) == {}


def test_the_leads_of_a_set_fill_that_set():
    assert [find_lead_set(leads) for leads in LEAD_SETS.values()] == list(LEAD_SETS)


@pytest.mark.parametrize("pair", PAIRS)
def test_two_limb_leads_suffice_for_six(pair):
    recorded = pair == ("I", "II")  # recorded leads are preferred to derived ones
    assert find_lead_set(pair) == (2 if recorded else 6)
    assert find_lead_set([*pair, "V2"]) == (3 if recorded else 4)
    assert find_lead_set([*pair, *CHEST]) == 12
    assert find_lead_set([*pair, *CHEST[:5]]) == (3 if recorded else 4)
    assert [find_lead_set(pair, [count]) for count in LEAD_SETS] == [0, 6, 0, 0, 2]


def test_a_chest_lead_counts_more_than_derived_limb_leads():
    assert find_lead_set([*LEADS[:6], "V2"]) == find_lead_set(LEADS[:11]) == 4
    assert find_lead_set([*LEADS[:6], "V1"]) == 6


def test_the_richest_set_is_found_in_any_case_and_order_and_among_the_given_sizes():
    assert find_lead_set(["v6", "V5", "AVF", "Resp", "v4", "V3", "v2", "V1", "ii", "II"]) == 12
    assert (
        find_lead_set(["II", "V2", "ECG", "II"])
        == find_lead_set(["ii", "II"])
        == find_lead_set(CHEST)
        == find_lead_set([])
        == 0
    )
    assert [find_lead_set(LEADS, sizes) for sizes in ([12, 6], [3, 4], [6, 2], (2,), ())] == [12, 4, 6, 2, 0]


def test_all_lead_sets_that_leads_fill_are_listed_the_richest_first():
    assert find_lead_sets(LEADS) == (12, 4, 3, 6, 2)
    assert find_lead_sets(("i", "II", "v2")) == (3, 4, 2, 6)  # the set of three needs no derived lead
    assert find_lead_sets(("aVL", "aVF", "MLII")) == (6, 2)
    assert find_lead_sets(("II", "V2")) == ()


def test_columns_of_a_lead_set_are_its_leads():
    for leads in LEAD_SETS.values():
        assert tuple(LEADS[column] for column in lead_indices(leads)) == leads
