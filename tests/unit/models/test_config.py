import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from ecg.data.batches import DEFAULT_VIEW, REPEATED, View, Window
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEAD_SETS
from ecg.data.resampling import Preprocessing
from ecg.evaluation.calibration import Calibration
from ecg.models.config import (
    FORMAT,
    FORMAT_WITHOUT_CLASSES,
    ModelError,
    _digest,
    network_entry,
    read_config,
    write_config,
)
from ecg.models.decision import Rule
from ecg.models.ensemble import Member
from ecg.models.network_settings import DCNetSettings, LeadWeightedSettings, LiSettings, NetworkSettings, RhythmSettings

WEIGHTS = tuple(map(tuple, np.random.default_rng(0).normal(size=(26, 26)).tolist()))
CALIBRATION = Calibration(0.7, tuple(np.random.default_rng(1).normal(size=26).tolist()))
RULE = Rule(np.linspace(0, 1, 26), "expected_credit", (("AF", "NSR"),), "NSR", CALIBRATION, WEIGHTS)
OTHER = View(Preprocessing(500, None, True), Window(4992, REPEATED, 250))
GENERAL, SPECIAL = ("groups", "general"), ("groups", "special")


def entry(settings, leads=LEAD_SETS[2], view=DEFAULT_VIEW, output_activation="sigmoid"):
    return network_entry(Member(leads, settings, None, output_activation, view), "0" * 64)


@pytest.fixture
def path(tmp_path):
    """The description of a model of three groups for two leads."""
    path, lead = tmp_path / "2_leads.json", ("II",)
    general = [entry(NetworkSettings()), entry(LeadWeightedSettings(), view=OTHER), entry(DCNetSettings(), lead)]
    groups = {
        "general": {"classes": ["STE", "AF", "NSR"], "members": general},
        "special": {"classes": ["NSR"], "members": [entry(RhythmSettings(depth=18), output_activation="softmax")]},
        "gate": {"classes": [], "members": [entry(LiSettings())]},
    }
    path.write_text(write_config(2, "mine", RULE, groups))
    return path


def test_a_description_is_read_as_it_was_written(path):
    system, rule, groups = read_config(path, 2)
    assert system == "mine" and replace(rule, thresholds=None) == replace(RULE, thresholds=None)
    np.testing.assert_array_equal(rule.thresholds, RULE.thresholds)
    assert {name: classes for name, (classes, _) in groups.items()} == {
        "general": ("STE", "AF", "NSR"), "special": ("NSR",), "gate": ()}  # fmt: skip
    assert [
        (member.leads, member.settings, member.view, member.output_activation)
        for _, members in groups.values()
        for member in members
    ] == [
        (("I", "II"), NetworkSettings(), DEFAULT_VIEW, "sigmoid"),
        (("I", "II"), LeadWeightedSettings(), OTHER, "sigmoid"),
        (("II",), DCNetSettings(), DEFAULT_VIEW, "sigmoid"),
        (("I", "II"), RhythmSettings(depth=18), DEFAULT_VIEW, "softmax"),
        (("I", "II"), LiSettings(), DEFAULT_VIEW, "sigmoid"),
    ]


def test_a_threshold_that_is_no_number_is_not_written():
    with pytest.raises(ValueError, match="JSON compliant"):
        write_config(2, "mine", Rule(np.full(26, np.nan)), {})


def edit(path, value, *place):
    """Put a value into a description, and the digest that belongs to it."""
    saved = json.loads(path.read_text())
    held = saved
    for name in place[:-1]:
        held = held[name]
    held[place[-1]] = value
    del saved["digest"]
    saved["digest"] = hashlib.sha256(json.dumps(saved, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(saved))


@pytest.mark.parametrize(
    ("value", "path_in_file", "reason"),
    [
        (0, ("window", "length"), "a window of 0 samples"),
        (None, ("window", "length"), "a window of None samples, filled with 'repeated', overlap 250"),
        (2497, ("window", "overlap"), "overlap 2497"),
        (2496, ("window", "overlap"), None),
        (2497, ("window", "slack"), "slack 2497"),
        (40, ("window", "slack"), None),
        ([0.5, 250], ("preparation", "band"), "the pass band .* is not within what 500 Hz hold"),
        ([0.5, "40"], ("preparation", "band"), "no valid description"),
        ([0.5, 40.0], ("preparation", "band"), None),
        (1.0, ("settings", "dropout"), "dropout is 1.0"),
        ({}, ("settings",), None),
        ({"cell": 32}, ("settings",), "unexpected keyword argument 'cell'"),
        ("gelu", ("output_activation",), "output_activation is 'gelu', expected sigmoid or softmax"),
        ("gelu", ("settings", "activation"), "activation is 'gelu', expected one of mish, relu"),
        ("resnet", ("kind",), "no valid description of a model: KeyError: 'resnet'"),
    ],
)
def test_what_a_dataclass_refuses_is_refused_with_its_reason(path, value, path_in_file, reason):
    edit(path, value, *GENERAL, "members", 1, *path_in_file)
    if reason is None:
        read_config(path, 2)
    else:
        with pytest.raises(ModelError, match=f"2_leads.json: .*{reason}"):
            read_config(path, 2)


def test_an_unknown_depth_and_no_blocks_are_refused(path):
    edit(path, 20, *SPECIAL, "members", 0, "settings", "depth")
    with pytest.raises(ModelError, match="depth is 20, expected one of 18, 34, 50, 101, 152"):
        read_config(path, 2)
    edit(path, 18, *SPECIAL, "members", 0, "settings", "depth")
    edit(path, [], *GENERAL, "members", 2, "settings", "filters")
    with pytest.raises(ModelError, match="0 blocks"):
        read_config(path, 2)


def test_an_edited_description_and_an_older_one_are_refused(path):
    saved = json.loads(path.read_text())
    saved["rule"]["fallback"] = None
    path.write_text(json.dumps(saved))
    with pytest.raises(ModelError, match="2_leads.json: digest is .* by its content"):
        read_config(path, 2)
    path.write_text(json.dumps(saved | {"format": FORMAT - 2}))
    with pytest.raises(ModelError, match=f"2_leads.json: format is {FORMAT - 2}, expected {FORMAT}"):
        read_config(path, 2)


def test_a_description_without_classes_has_those_of_the_challenge(path):
    """Models were saved so before their classes were part of them."""
    edit(path, FORMAT_WITHOUT_CLASSES, "format")
    saved = json.loads(path.read_text())
    del saved["class_table"], saved["digest"]
    path.write_text(json.dumps(saved | {"digest": _digest(saved)}))
    assert read_config(path, 2).rule.classes == CHALLENGE_CLASSES


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda table: table.pop("scored"), "KeyError"),
        (lambda table: table["scored"].pop(), "weights: expected 25 rows of 25 numbers"),
        (lambda table: table["scored"][0].update(codes=["1"]), "classes is .*, expected"),
        (lambda table: table["scored"][0].update(codes=[]), "AF: expected a code"),
        (lambda table: table["weights"].pop(), "weights: expected 26 rows of 26 numbers"),
    ],
)
def test_a_damaged_table_of_classes_is_refused(path, change, reason):
    saved = json.loads(path.read_text())
    change(saved["class_table"])
    path.write_text(json.dumps(saved))
    with pytest.raises(ModelError, match=f"2_leads.json: .*{reason}"):
        read_config(path, 2)


def test_the_groups_come_in_their_order(path):
    """Files of weights are numbered by it."""
    saved = json.loads(path.read_text())
    edit(path, dict(reversed(saved["groups"].items())), "groups")
    assert list(read_config(path, 2).groups) == ["general", "special", "gate"]
