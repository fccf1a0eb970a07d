import json

import numpy as np
import pytest

from ecg.data.class_files import load_weights
from ecg.data.labels import CHALLENGE_CLASSES, CLASS_INDEX
from ecg.evaluation.calibration import Calibration
from ecg.evaluation.expected_credit import expected_credit
from ecg.models.decision import DECISIONS, Rule, read_rule, write_rule

EVERY = np.arange(26)


def test_what_is_predicted_follows_from_probabilities_and_thresholds():
    rng = np.random.default_rng(0)
    probabilities, thresholds = rng.random((50, 26)), rng.uniform(0.8, 1, 26)
    plain = Rule(thresholds).decide(probabilities, EVERY)
    np.testing.assert_array_equal(plain, probabilities >= thresholds)
    empty = ~plain.any(axis=1)
    assert 0 < empty.sum() < 50
    rule = Rule(thresholds, fallback="NSR")
    declared = rule.decide(probabilities, EVERY)
    np.testing.assert_array_equal(declared[~empty], plain[~empty])
    assert all(list(np.flatnonzero(row)) == [CLASS_INDEX["NSR"]] for row in declared[empty])
    np.testing.assert_array_equal(declared, [rule.decide(row, EVERY) for row in probabilities])


def test_classes_that_are_not_known_are_not_predicted():
    columns = CHALLENGE_CLASSES.indices(["AF", "TAb"])
    answers = Rule(np.full(26, 0.5)).decide(np.array([[0.9, 0.1], [0.2, 0.5]]), columns)
    assert answers.shape == (2, 26)
    np.testing.assert_array_equal(np.argwhere(answers), [[0, CLASS_INDEX["AF"]], [1, CLASS_INDEX["TAb"]]])


@pytest.mark.parametrize("empty", [None, "NSR"])
def test_what_implies_another_is_predicted_with_it(empty):
    columns = CHALLENGE_CLASSES.indices(["TInv", "TAb", "NSR"])
    rule = Rule(np.full(26, 0.5), pairs=(("TInv", "TAb"),), fallback=empty)
    answers = rule.decide(np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.1], [0.6, 0.1, 0.6]]), columns)
    expected = [{"TInv", "TAb"}, {"TAb"}, {empty} - {None}, {"TInv", "TAb", "NSR"}]
    assert [{name for name in ("TInv", "TAb", "NSR") if row[CLASS_INDEX[name]]} for row in answers] == expected
    assert answers.sum() == sum(map(len, expected))


def test_of_exclusive_classes_the_most_probable_is_predicted_if_it_is_scored():
    columns = CHALLENGE_CLASSES.indices(["NSR", "STD", "AF", "STE"])
    probabilities = np.array([[0.3, 0.2, 0.4, 0.1], [0.3, 0.4, 0.2, 0.1], [0.9, 0.0, 0.1, 0.0]], np.float32)
    answers = Rule(np.full(26, 0.99), decision="argmax").decide(probabilities, columns)
    np.testing.assert_array_equal(np.argwhere(answers), [[0, CLASS_INDEX["AF"]], [2, CLASS_INDEX["NSR"]]])
    declared = Rule(np.full(26, 0.99), decision="argmax", fallback="NSR").decide(probabilities, columns)
    np.testing.assert_array_equal(
        np.argwhere(declared), [[0, CLASS_INDEX["AF"]], [1, CLASS_INDEX["NSR"]], [2, CLASS_INDEX["NSR"]]]
    )


def random_rule(seed, **changes):
    """A rule by expected credit with a calibration, and probabilities of some classes with their indices."""
    rng = np.random.default_rng(seed)
    columns = np.sort(rng.permutation(28)[:20])
    calibration = Calibration(rng.uniform(0.5, 2), tuple(rng.normal(-0.5, 1, 26).tolist()))
    rule = Rule(rng.random(26), "expected_credit", calibration=calibration, **changes)
    return rule, rng.random((40, 20)).astype(np.float32) ** 4, columns


@pytest.mark.parametrize("seed", range(3))
def test_no_single_change_of_classes_by_expected_credit_gives_more(seed):
    rule, probabilities, columns = random_rule(seed)
    probabilities[::3, 4] = 0  # as of a class that the chosen networks do not predict
    outputs, scored = rule.decide(probabilities, columns), columns[columns < 26]
    wide = np.zeros((40, 26))
    wide[:, scored] = probabilities[:, columns < 26]
    assert outputs.any(axis=1).all() and not outputs[wide == 0].any()
    intercepts = np.array(rule.calibration.intercepts)
    with np.errstate(divide="ignore"):
        odds = (wide / (1 - wide)) ** rule.calibration.slope * np.exp(intercepts)
    credit = expected_credit(odds / (1 + odds), outputs, load_weights()[1])
    for column in scored:
        changed = outputs.copy()
        changed[:, column] ^= True
        allowed = wide[:, column] > 0
        gains = expected_credit(odds / (1 + odds), changed, load_weights()[1]) - credit
        # A class that was chosen early may be one that a set is better without; to add one is never better.
        assert (gains[allowed & ~outputs[:, column]] < 1e-9).all()


def test_expected_credit_obeys_own_weights_and_is_followed_by_pairs_and_fallback():
    identity = tuple(map(tuple, np.eye(26).tolist()))
    rule, probabilities, columns = random_rule(0)
    strict, _, _ = random_rule(0, weights=identity)
    assert strict.decide(probabilities, columns).sum() < rule.decide(probabilities, columns).sum()
    nothing, _, _ = random_rule(0, weights=tuple(map(tuple, np.zeros((26, 26)).tolist())), fallback="NSR")
    assert nothing.decide(probabilities, columns).sum(axis=0)[CLASS_INDEX["NSR"]] == 40
    implied, _, _ = random_rule(0, pairs=(("AF", "TAb"),))
    outputs, plain = implied.decide(probabilities, columns), rule.decide(probabilities, columns)
    added = plain[:, CLASS_INDEX["AF"]] | plain[:, CLASS_INDEX["TAb"]]
    np.testing.assert_array_equal(outputs[:, CLASS_INDEX["TAb"]], added)


def test_a_single_recording_is_decided_as_in_a_batch():
    rule, probabilities, columns = random_rule(5)
    outputs = rule.decide(probabilities, columns)
    np.testing.assert_array_equal(outputs, [rule.decide(row, columns) for row in probabilities])
    np.testing.assert_array_equal(outputs.reshape(8, 5, 26), rule.decide(probabilities.reshape(8, 5, 20), columns))


def test_only_thresholds_that_decide_are_applied():
    thresholds = np.linspace(0.2, 0.8, 26)
    applied = {decision: Rule(thresholds, decision).applied_thresholds for decision in DECISIONS}
    np.testing.assert_array_equal(applied["thresholds"], thresholds)
    assert (applied["half"] == 0.5).all()
    assert np.isnan(applied["argmax"]).all() and np.isnan(applied["expected_credit"]).all()
    probabilities = np.random.default_rng(0).random((50, 26))
    np.testing.assert_array_equal(Rule(thresholds, "half").decide(probabilities, EVERY), probabilities >= 0.5)


def voting_rule(n_members=3, **changes):
    """A rule by vote, and probabilities (M, 40, 20) of some classes with their indices."""
    rng = np.random.default_rng(n_members)
    columns = np.sort(rng.permutation(28)[:20])
    rule = Rule(np.full(26, 0.5), "vote", member_thresholds=rng.random((n_members, 26)), **changes)
    return rule, rng.random((n_members, 40, 20)), columns


@pytest.mark.parametrize("n_members", [1, 2, 3, 4])
def test_a_class_is_predicted_if_more_than_half_of_the_networks_that_vote_predict_it(n_members):
    rule, members, columns = voting_rule(n_members)
    members[np.random.default_rng(0).random(members.shape[:2]) < 0.3] = np.nan
    outputs = rule.decide(np.zeros((40, 20)), columns, members)
    for row in range(40):
        voters = [m for m in range(n_members) if not np.isnan(members[m, row, 0])]
        for k in range(26):
            place = columns.tolist().index(k) if k in columns else None
            votes = [place is not None and members[m, row, place] >= rule.member_thresholds[m, k] for m in voters]
            assert outputs[row, k] == (sum(votes) > len(voters) / 2)
    alone = [rule.decide(np.zeros(20), columns, members[:, row]) for row in range(40)]
    np.testing.assert_array_equal(outputs, alone)


def test_a_vote_is_followed_by_pairs_and_fallback_and_needs_all_networks():
    rule, members, columns = voting_rule(pairs=(("AF", "TAb"),), fallback="NSR")
    outputs = rule.decide(members[0], columns, members)
    assert outputs[outputs[:, CLASS_INDEX["AF"]], CLASS_INDEX["TAb"]].all()
    assert outputs.any(axis=1).all() and np.isnan(rule.applied_thresholds).all()
    for wrong in (None, members[:2]):
        with pytest.raises(ValueError, match="expected the 3 that have thresholds"):
            rule.decide(members[0], columns, wrong)
    with pytest.raises(ValueError, match=r"member_thresholds: \(3, 25\), expected \(M, 26\)"):
        Rule(np.full(26, 0.5), "vote", member_thresholds=np.zeros((3, 25)))


def test_thresholds_of_voters_are_read_as_they_were_written():
    rule, members, columns = voting_rule()
    read = read_rule(json.loads(json.dumps(write_rule(rule))))
    np.testing.assert_array_equal(read.member_thresholds, rule.member_thresholds)
    np.testing.assert_array_equal(read.decide(members[0], columns, members), rule.decide(members[0], columns, members))


def test_a_rule_is_read_as_it_was_written_and_impossible_ones_are_refused():
    rule, probabilities, columns = random_rule(1, pairs=(("AF", "TAb"),), fallback="NSR")
    for written in (rule, Rule(rule.thresholds)):
        read = read_rule(write_rule(written))
        np.testing.assert_array_equal(read.thresholds, written.thresholds)
        assert (read.calibration, read.weights, read.pairs) == (written.calibration, written.weights, written.pairs)
        np.testing.assert_array_equal(read.decide(probabilities, columns), written.decide(probabilities, columns))
    for wrong in ({"decision": "guess"}, {"calibration": Calibration(1.0, (0.0,) * 25)}, {"weights": ((1.0,),)}):
        with pytest.raises(ValueError, match="expected"):
            Rule(np.full(26, 0.5), **wrong)
