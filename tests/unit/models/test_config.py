import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from ecg.data.batches import DEFAULT_VIEW, REPEATED, View, Window
from ecg.data.leads import LEAD_SETS
from ecg.data.resampling import Preprocessing
from ecg.models.config import ModelError, network_entry, read_config, write_config
from ecg.models.dcnet import DCNetSettings
from ecg.models.decision import Rule
from ecg.models.ensemble import Member
from ecg.models.resnets import LeadWeightedSettings, LiSettings, NetworkSettings, RhythmSettings

RULE = Rule(np.linspace(0, 1, 26), False, (("AF", "NSR"),), "NSR")
OTHER = View(Preprocessing(500, None, True), Window(4992, REPEATED, 250))
GENERAL, SPECIAL, GATE = ("groups", "general"), ("groups", "special"), ("groups", "gate")


def said(settings, leads=LEAD_SETS[2], view=DEFAULT_VIEW, output_activation="sigmoid"):
    return network_entry(Member(leads, settings, None, output_activation, view), "0" * 64)


@pytest.fixture
def path(tmp_path):
    """The description of a model of three groups for two leads."""
    path, lead = tmp_path / "2_leads.json", ("II",)
    general = [said(NetworkSettings()), said(LeadWeightedSettings(), view=OTHER), said(DCNetSettings(), lead)]
    groups = {
        "general": {"classes": ["STE", "AF", "NSR"], "members": general},
        "special": {"classes": ["NSR"], "members": [said(RhythmSettings(depth=18), output_activation="softmax")]},
        "gate": {"classes": [], "members": [said(LiSettings())]},
    }
    path.write_text(write_config(2, "mine", RULE, groups))
    return path


def test_what_is_said_of_a_model_is_read_again(path):
    system, rule, groups = read_config(path, 2)
    assert system == "mine" and replace(rule, thresholds=None) == replace(RULE, thresholds=None)
    np.testing.assert_array_equal(rule.thresholds, RULE.thresholds)
    assert {name: classes for name, (classes, _) in groups.items()} == {
        "general": ("STE", "AF", "NSR"), "special": ("NSR",), "gate": ()}  # fmt: skip
    assert [
        (one.leads, one.settings, one.view, one.output_activation) for _, members in groups.values() for one in members
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


def member(number, *place):
    return (*GENERAL, "members", number, *place)


@pytest.mark.parametrize(
    ("value", "place", "reason"),
    [
        ([3, 4], (*GENERAL, "classes"), "classes of general is"),
        (["NSR"] * 65, (*GENERAL, "classes"), "classes of general is"),
        (["NSR", "AF"], (*GENERAL, "classes"), None),
        (["AF", "STD"], (*SPECIAL, "classes"), r"classes of special is \('AF', 'STD'\), expected some of STE, AF"),
        (["NSR"], (*GATE, "classes"), "classes of gate is"),
        ("NSR", (*SPECIAL, "classes"), "classes of special is"),
        ([], (*GATE, "members"), "networks of gate is"),
        ([said(NetworkSettings())] * 64, (*GATE, "members"), None),
        ([said(NetworkSettings())] * 65, (*GATE, "members"), "networks of gate is .* expected 1 to 64"),
        ({}, (*GATE, "members"), "networks of gate is"),
        (["V2"], member(0, "leads"), r"leads is \('V2',\), expected some of I, II"),
        (["I", "II"] * 33, member(0, "leads"), "leads is"),
        (0, member(1, "window", "length"), "a window of 0 samples"),
        (-1, member(1, "window", "length"), "length is -1, expected 1 to 65,536 or null"),
        (2**16 + 1, member(1, "window", "length"), "length is 65537"),
        (None, member(1, "window", "length"), "a window of None samples, filled with 'repeated', overlap 250"),
        (2497, member(1, "window", "overlap"), "overlap 2497"),
        (2496, member(1, "window", "overlap"), None),
        (2497, member(1, "window", "slack"), "slack 2497"),
        (40, member(1, "window", "slack"), None),
        ([0.5, 250], member(1, "preparation", "band"), "the pass band .* is not within what 500 Hz hold"),
        ([0.5, "40"], member(1, "preparation", "band"), "band is"),
        ([0.5, 40.0], member(1, "preparation", "band"), None),
        (500.0, member(1, "preparation", "rate"), "rate is 500.0"),
        (True, member(1, "preparation", "rate"), "rate is True"),
        ([["AF"]], ("rule", "pairs"), "pairs is"),
        ([["AF", "NSR", "AF"]], ("rule", "pairs"), "pairs is"),
        ([["AF", "STE"]], ("rule", "pairs"), "pairs is"),
        ([], ("rule", "pairs"), None),
        ([["AF", "SB"]], ("rule", "pairs"), "pairs is .*, expected a list of pairs of AF, NSR"),
        ("STE", ("rule", "fallback"), "fallback is 'STE', expected null or one of AF, NSR"),
        ("SB", ("rule", "fallback"), "fallback is 'SB', expected null or one of AF, NSR"),
        ("AF", ("rule", "fallback"), None),
        (1, ("rule", "exclusive"), "exclusive is 1, expected true or false"),
        ({}, ("rule", "thresholds"), "the list of thresholds"),
        ({}, ("rule",), "the list of the rule's parts"),
    ],
)
def test_what_no_model_has_is_refused_with_its_reason(path, value, place, reason):
    edit(path, value, *place)
    if reason is None:
        read_config(path, 2)
    else:
        with pytest.raises(ModelError, match=reason):
            read_config(path, 2)


@pytest.mark.parametrize(
    ("settings", "name", "value", "reason"),
    [
        (LiSettings(), "stages", [1] * 64, None),
        (LiSettings(), "stages", [1] * 65, "stages is .*, expected 1 to 65,536, 64 at most"),
        (LiSettings(), "stages", [256], None),
        (LiSettings(), "stages", [200, 57], "number of blocks is 257, expected 256 at the most"),
        (LiSettings(), "stages", [2**16], "number of blocks is 65536"),
        (LiSettings(), "stages", [0, 1], "stages is"),
        (LiSettings(), "peaks", True, "peaks is True, expected false"),
        (LiSettings(), "cell", 32, "the list of LiSettings's parts"),
        (LeadWeightedSettings(), "widths", [4] * 64, None),
        (LeadWeightedSettings(), "widths", [4] * 65, "widths is"),
        (LeadWeightedSettings(), "widths", [2**17], "widths is"),
        (LeadWeightedSettings(), "dropout", 1.0, "dropout is 1.0"),
        (DCNetSettings(), "plain", 63, None),
        (DCNetSettings(), "plain", 64, "number of blocks is 260"),
        (DCNetSettings(), "filters", [1] * 65, "filters is"),
        (DCNetSettings(), "filters", [], "filters is"),
        (RhythmSettings(), "depth", 152, None),
        (RhythmSettings(), "depth", 20, "depth is 20, expected one of 18, 34, 50, 101, 152"),
        (RhythmSettings(), "depth", 152.0, "depth is 152.0"),
        (RhythmSettings(), "squeeze", "yes", "squeeze is 'yes', expected true or false"),
        (NetworkSettings(), "kernels", [5] * 64, None),
        (NetworkSettings(), "kernels", [5] * 65, "kernels is"),
        (NetworkSettings(), "squeeze_ratio", None, None),
    ],
)
def test_networks_are_of_bounded_size_before_they_are_built(path, settings, name, value, reason):
    edit(path, said(settings), *member(0))
    edit(path, value, *member(0, "settings", name))
    if reason is None:
        found = read_config(path, 2).groups["general"][1][0].settings
        assert json.loads(json.dumps(asdict(found))) == json.loads(json.dumps(asdict(settings) | {name: value}))
    else:
        with pytest.raises(ModelError, match=reason):
            read_config(path, 2)


def test_the_groups_come_in_their_order(path):
    """For the files of weights are numbered by it."""
    saved = json.loads(path.read_text())
    edit(path, dict(reversed(saved["groups"].items())), "groups")
    with pytest.raises(ModelError, match="the list of groups is .*'gate', 'special', 'general'.*, expected general or"):
        read_config(path, 2)
