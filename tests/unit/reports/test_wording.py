from dataclasses import fields, is_dataclass, replace

import pytest

from ecg.commands.holdout import Protocol
from ecg.data.batches import REPEATED, View, Window
from ecg.data.resampling import Preprocessing
from ecg.models.resnets import SOURCE_GATE, LiSettings, NetworkSettings
from ecg.reports.wording import differing, in_words
from ecg.systems.label_cleaning import CleaningSettings, ConflatedClasses, PartiallyLabelledSource
from ecg.systems.recipes import ABLATIONS, CAI2021, RECIPES, SYSTEMS, Gate

LI, RHYTHM = SYSTEMS["li2021"], SYSTEMS["se_resnet_rhythm"]
# Of Settings, what is the same for all that are compared, or only a name.
BESIDE = {"system", "seed", "title", "lead_sets", "keep_stages", "hours", "jobs"}


def others(value):
    """Values that one of a setting may have in its place."""
    texts = {"asymmetric": "margin", "searched": "halves", "float32": "bfloat16", "adam": "sgd", "mish": "relu",
             "zeros": REPEATED, "CPSC": "PTB"}  # fmt: skip
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, str):
        return [texts[value]]
    if isinstance(value, int):
        return [value + 1]
    return [value + 0.1 if value < 0.9 else value - 0.1]  # momenta are below 1


def changed(settings, unscored=()):
    """All ways in which one of the numbers, texts and switches of settings, nested, is another."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if each.name in unscored:
            continue
        if is_dataclass(value):
            ways = list(changed(value))
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            ways = [(one, *value[1:]) for one in changed(value[0])]
        elif isinstance(value, tuple) and value and isinstance(value[0], int | float):
            ways = [(value[0] + 1, *value[1:])]
        elif value is None or isinstance(value, tuple):
            continue
        else:
            ways = others(value)
        for way in ways:
            yield replace(settings, **{each.name: way})


WINDOW = Window(2500, overlap=250)
SEEN = replace(CAI2021, views=(View(Preprocessing(), WINDOW),), gate=Gate(classes=("AF", "NSR")))
WAYS = [
    *changed(replace(SEEN, folds=None), {*BESIDE, "cleaning", "exclusive", "peaks", "source_masks", "network", "gate"}),
    *(replace(SEEN, network=way) for way in changed(SEEN.network)),
    *(replace(SEEN, gate=replace(SEEN.gate, **way)) for way in (
        {"source": "PTB"}, {"classes": ("AF",)}, {"network": replace(SOURCE_GATE, width=16)},
        {"network": replace(SOURCE_GATE, activation="mish")})),
    replace(SEEN, folds=5), replace(SEEN, exclusive=True, gate=None), replace(SEEN, gate=None),
    replace(SEEN, source_masks=True), replace(SEEN, implies=(("LBBB", "AF"),)), replace(SEEN, fallback="NSR"),
    replace(SEEN, answer_pairs=(("TInv", "TAb"),)), replace(SEEN, leads_used=((4, ("I", "II", "V2")),)),
    replace(SEEN, classes=("AF", "NSR"), cleaning=CleaningSettings(masks=False)), replace(SEEN, proxy_least=None),
    replace(SEEN, cleaning=CleaningSettings(masks=False)), replace(SEEN, cleaning=CleaningSettings(conflated_classes=())),
    replace(SEEN, cleaning=CleaningSettings((ConflatedClasses(("Georgia",)),))),
    replace(SEEN, cleaning=CleaningSettings(partially_labelled=(PartiallyLabelledSource(labelled=("AF",)),))),
    replace(SEEN, training=replace(SEEN.training, first_rate=None)),
    replace(SEEN, training=replace(SEEN.training, drops=(20,))),
]  # fmt: skip


def test_no_setting_that_decides_what_comes_out_is_kept_back():
    assert len(WAYS) > 50
    for way in WAYS:
        assert len(differing([SEEN, replace(way, system="other")])) > 1, way


def test_sizes_of_the_branch_for_peaks_are_told_where_there_is_one():
    for peaks, rows in ((True, 1), (False, 0)):
        network = LiSettings(peaks=peaks)
        pair = [replace(LI, network=network, peaks=peaks and 0.1, pretraining=None) for network in
                (network, replace(network, peak_units=9))]  # fmt: skip
        assert len(differing(pair)) == 1 + rows


def test_training_for_peaks_alone_is_told_by_what_differs():
    assert in_words(LI)["first training, for peaks alone"] == "epochs at most 20, patience 5"
    assert in_words(CAI2021)["first training, for peaks alone"] == "none"
    alike = Protocol(epochs=10).settings(LI)
    assert in_words(alike)["first training, for peaks alone"] == "as for the labels"


def test_no_batch_is_said_to_be_larger_at_the_least_than_at_the_most():
    assert in_words(Protocol(batch=8).settings(CAI2021))["recordings in a batch"].startswith("8, ")
    assert in_words(CAI2021)["recordings in a batch"].startswith("16 to 256, ")


def test_what_is_not_decided_by_a_system_is_not_told():
    other = replace(CAI2021, system="other", seed=1, hours=2.0, jobs=3, keep_stages=True, title="{}")
    assert differing([CAI2021, other]) == [("setting", "cai2021", "other")]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("focal", {"loss": ("focal in round 1, asymmetric in round 2", "focal in both rounds")}),
        ("no-masks", {
            "labels masked": ("those that round 1 is sure are wrong", "none"),
            "loss": ("focal in round 1, asymmetric in round 2", "asymmetric")}),
        ("no-relabelling", {"labels cleaned by a network": (
            "AFL or AF in Ningbo; classes omitted by CPSC, which labels AF, IAVB, LBBB, NSR, PAC, PVC, RBBB", "none")}),
        ("no-filter", {"signals": ("250 Hz, 0.5 to 45 Hz, whole recordings", "250 Hz, unfiltered, whole recordings")}),
        ("relu", {"activation": ("Mish", "ReLU")}),
        ("no-se", {
            "network": ("SE-ResNet, two fully connected layers", "ResNet, two fully connected layers"),
            "squeeze-and-excitation": ("ratio 16", "none")}),
        ("halves", {
            "thresholds": ("those that maximise the metric, means over 100 resamples", "0.5 for every class")}),
    ],
)  # fmt: skip
def test_an_ablation_is_told_in_a_row_or_two(name, expected):
    (head, *rows) = differing([CAI2021, ABLATIONS[f"cai2021-{name}"]])
    assert head == ("setting", "cai2021", f"cai2021-{name}")
    assert {row[0]: row[1:] for row in rows} == expected


def test_systems_are_told_in_words():
    told = {name: in_words(settings) for name, settings in SYSTEMS.items()}
    assert told["cai2021"]["classes"] == "22: all that are scored but BBB, Brady, LPR, PRWP"
    assert told["xie2022"]["classes"] == "9: NSR, AF, IAVB, LBBB, RBBB, PAC, PVC, STD, STE"
    assert told["li2021"]["leads used"] == "I, II, V1, V2, V3, V4, V5, V6 of 12; I, II of 6; I, II, V2 of 4"
    assert told["se_resnet_rhythm"]["leads used"] == "II of 12, 6, 4, 3, 2"
    assert told["se_resnet_rhythm"]["signals"] == "200 Hz, unfiltered, 10 s (2000 samples), padded by repetition"
    assert told["zhao2022"]["signals"].endswith(
        "16 s (4096 samples), padded with zeros, pieces overlap by 1 s (256 samples)"
    )
    assert told["zhao2022"]["learning rate"] == "0.003, divided by 10 at epoch 21, divided by 10 at epoch 41"
    assert told["li2021"]["learning rate"] == "rising for 3 epochs to 0.0006, falling by half a cosine"
    assert told["li2021"]["rules for answers"] == "TAb where TInv; NSR where nothing else"
    assert told["li2021"]["labels implied by others"] == "BBB where LBBB or RBBB"
    assert [each["network"] for each in told.values()] == [
        "SE-ResNet, two fully connected layers", "SE-ResNet", "SE-ResNet, told age and sex",
        "DCNet, leads as the rows of an image", "pre-activation SE-ResNet"]  # fmt: skip
    assert "depth 18" in in_words(replace(RHYTHM, network=replace(RHYTHM.network, depth=18)))["sizes of the network"]


@pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES)
def test_no_word_is_pythons(settings):
    for word in in_words(settings).values():
        assert not any(mark in word for mark in ("None", "True", "False", "('", "{", "}", "_", "[")), word
        assert word and isinstance(settings.network, NetworkSettings) == (
            "two fully connected" in in_words(settings)["network"]
        )
