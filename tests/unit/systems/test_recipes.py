import ast
import json
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from result_helpers import stage_titles as titles_of

from ecg.data.batches import Window
from ecg.data.labels import ABBREVIATIONS, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.resampling import Preprocessing
from ecg.models.config import network_entry, read_config, write_config
from ecg.models.decision import Rule
from ecg.models.ensemble import Member
from ecg.systems.label_cleaning import CleaningSettings
from ecg.systems.plan import planned_networks
from ecg.systems.recipes import ABLATIONS, CAI2021, RECIPES, SYSTEMS, VARIANTS, Gate, Settings
from ecg.training.losses import CreditLoss

CHEST = ("V1", "V2", "V3", "V4", "V5", "V6")
LI, ZHAO, XIE, RHYTHM, NEJEDLY = (
    SYSTEMS[name] for name in ("li2021", "zhao2022", "xie2022", "se_resnet_rhythm", "nejedly2021")
)
NINE = ("NSR", "AF", "IAVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE")


def test_the_systems_are_the_default_five_from_the_literature_and_all_without_their_parts():
    assert list(SYSTEMS) == ["cai2021", "li2021", "zhao2022", "xie2022", "se_resnet_rhythm", "nejedly2021",
                             "apprentice"]  # fmt: skip
    parts = ("focal", "no-masks", "no-relabelling", "no-filter", "relu", "no-se", "halves")
    assert list(ABLATIONS) == [f"cai2021-{part}" for part in parts]
    assert list(VARIANTS) == [*(f"li2021-no-{part}" for part in ("masks", "peaks", "rules", "gate")), "xie2022-plain",
                              "se_resnet_rhythm-no-se", "nejedly2021-no-attention"]  # fmt: skip
    assert {**SYSTEMS, **ABLATIONS, **VARIANTS} == RECIPES
    assert all(name == member.system for name, member in RECIPES.items())
    assert CAI2021 == Settings()


@pytest.mark.parametrize(
    ("name", "classes", "exclusive"),
    [
        ("cai2021", TRAINED_CLASSES, False),
        ("li2021", ABBREVIATIONS, False),
        ("zhao2022", tuple(name for name in ABBREVIATIONS if name not in ("BBB", "PRWP")), False),
        ("xie2022", NINE, True),
        ("se_resnet_rhythm", ("NSR", "AF", "AFL", "IAVB", "SB", "STach", "PVC"), True),
        ("nejedly2021", ABBREVIATIONS, False),
    ],
)
def test_classes_are_those_of_the_papers(name, classes, exclusive):
    system = SYSTEMS[name]
    assert (system.classes, system.exclusive) == (classes, exclusive)
    counts = {"cai2021": 22, "li2021": 26, "zhao2022": 24, "xie2022": 9, "se_resnet_rhythm": 7, "nejedly2021": 26}
    assert len(classes) == counts[name]
    assert system.output_activation == ("softmax" if exclusive else "sigmoid")


def test_signals_are_prepared_and_cut_as_in_the_papers():
    seen = {name: [(view.preparation, view.window) for view in system.views] for name, system in SYSTEMS.items()}
    assert seen.pop("apprentice") == seen["cai2021"]
    assert seen == {
        "cai2021": [(Preprocessing(250, (0.5, 45.0), False), Window(None, "zeros", 0))],
        "li2021": [
            (Preprocessing(500, None, False), Window(4992, "zeros", 0, 32)),
            (Preprocessing(250, None, False), Window(4992, "zeros", 0, 32)),
            (Preprocessing(500, None, False), Window(7488, "zeros", 0, 32)),
        ],
        "zhao2022": [(Preprocessing(257, None, True), Window(4096, "zeros", 256))],
        "xie2022": [(Preprocessing(250, None, False), Window(7500, "repeated", 0))],
        "se_resnet_rhythm": [(Preprocessing(200, None, False), Window(2000, "repeated", 0))],
        "nejedly2021": [
            (
                Preprocessing(500, (1.0, 47.0), kind="butterworth"),
                Window(8192, "zeros in front", first_only=True, standardised=True),
            )
        ],
    }
    assert [view.title for view in LI.views] == ["500 Hz, 10 s", "250 Hz, 20 s", "500 Hz, 15 s"]
    assert LI.preparations == [Preprocessing(500, None), Preprocessing(250, None)]


def test_leads_are_reduced_as_in_the_papers():
    assert {count: LI.leads_of(count) for count in LEAD_SETS} == {
        12: ("I", "II", *CHEST), 6: ("I", "II"), 4: ("I", "II", "V2"), 3: ("I", "II", "V2"), 2: ("I", "II"),
    }  # fmt: skip
    assert {RHYTHM.leads_of(count) for count in LEAD_SETS} == {("II",)}
    for system in (CAI2021, ZHAO, XIE, NEJEDLY):
        assert {count: system.leads_of(count) for count in LEAD_SETS} == LEAD_SETS
    assert {system.configurations for system in (CAI2021, ZHAO, XIE, RHYTHM)} == {()}
    assert LI.configurations == (("I", "II", *CHEST), ("I", "II"), ("I", "II", "V2"))
    assert NEJEDLY.configurations == (
        LEADS, ("I", "II", *CHEST), LEADS[:6], ("I", "II", "III", "V2"), ("I", "II", "V2"), ("I", "II")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("training", "rates"),
    [
        (CAI2021.training, {0: 1e-4, 1: 1e-4, 2: 1e-3, 30: 1e-3, 60: 1e-3}),
        (LI.training, {0: 2e-4, 1: 4e-4, 2: 6e-4, 3: 6e-4, 49: 6e-4 * (1 + np.cos(np.pi * 46 / 47)) / 2}),
        (LI.peak_training, {0: 2e-4, 2: 6e-4, 19: 6e-4 * (1 + np.cos(np.pi * 16 / 17)) / 2}),
        (ZHAO.training, {0: 3e-3, 19: 3e-3, 20: 3e-4, 39: 3e-4, 40: 3e-5, 60: 3e-5}),
        (XIE.training, {0: 1e-4, 30: 1e-4, 60: 1e-4}),
        (RHYTHM.training, {0: 1e-4, 30: 1e-4, 60: 1e-4}),
        (NEJEDLY.training, {0: 1e-3, 19: 1e-3, 20: 1e-4, 39: 1e-4, 40: 1e-5, 49: 1e-5}),
    ],
)
def test_learning_rates_are_the_papers(training, rates):
    assert {epoch: training.rate_in(epoch) for epoch in rates} == pytest.approx(rates)


def test_the_cosine_falls_without_a_jump_after_three_epochs_of_warm_up():
    rates = [LI.training.rate_in(epoch) for epoch in range(51)]
    assert np.argmax(rates) in (2, 3) and rates[50] == pytest.approx(0)
    assert (np.diff(rates[:3]) > 0).all() and (np.diff(rates[3:]) < 0).all()


def test_losses_optimizers_batches_and_epochs_are_the_papers():
    facts = {
        name: (
            system.loss,
            system.training.optimizer,
            system.training.batch,
            system.training.epochs,
            system.training.patience,
        )
        for name, system in SYSTEMS.items()
    }
    assert facts == {
        "cai2021": ("asymmetric", "adam", 256, 100, 4),
        "li2021": ("margin", "adamw", 256, 50, 5),
        "zhao2022": ("cross-entropy", "adam", 64, 50, 50),
        "xie2022": ("categorical", "sgd", 8, 100, 100),
        "se_resnet_rhythm": ("categorical", "adam", 64, 100, 10),
        "nejedly2021": ("credit", "clipped_adam", 128, 50, 50),
        "apprentice": ("cross-entropy", "adam", 256, 100, 4),
    }
    assert XIE.training.momentum == 0.5 and XIE.training.batch_for(20) == 8
    assert (LI.peaks, ZHAO.folds) == (0.1, 5)
    assert {system.folds for system in SYSTEMS.values()} == {None, 5}
    assert [system.splits for system in SYSTEMS.values()] == [None] * 5 + [3, None]
    training = NEJEDLY.training
    assert (training.l2, training.clip_norm, training.criterion, training.averaging) == (1e-4, 10.0, "AUPRC", 0.0)
    assert CreditLoss.batch == training.batch
    assert {system.training.criterion for system in SYSTEMS.values()} == {"loss", "AUPRC"}


def test_labels_are_what_the_papers_make_of_them():
    assert LI.implies == (("LBBB", "BBB"), ("RBBB", "BBB"))
    assert [name for name, system in SYSTEMS.items() if system.source_masks] == ["li2021"]
    for system in (LI, ZHAO, XIE, RHYTHM, NEJEDLY):
        assert system.cleaning.rules == () and not system.cleaning.masks
    (omission,) = LI.cleaning.partially_labelled
    assert (omission.sources, set(omission.labelled)) == (
        ("CPSC",), {"AF", "IAVB", "LBBB", "NSR", "PAC", "RBBB"})  # fmt: skip
    assert CAI2021.cleaning == CleaningSettings()


def test_predictions_are_by_the_papers_rules():
    assert LI.gate.source == "CPSC" and set(LI.gate.classes) == {"AF", "IAVB", "LBBB", "NSR", "PAC", "RBBB"}
    assert (LI.answer_pairs, LI.fallback) == ((("TInv", "TAb"),), "NSR")
    assert [system.decision for system in SYSTEMS.values()] == [
        "thresholds", "half", "thresholds", "argmax", "argmax", "vote", "expected_credit"]  # fmt: skip
    assert [name for name, system in SYSTEMS.items() if system.gate] == ["li2021"]


def test_every_system_predicts_every_lead_set():
    assert {system.lead_sets for system in RECIPES.values()} == {(12, 6, 4, 3, 2)}


def members_of(settings, count):
    """Members of all groups as they are saved, and the classes of each group; there are no networks in them."""
    groups = {}
    for plan in planned_networks(replace(settings, lead_sets=(count,))):
        network = settings.gate.network if plan.group == "gate" else settings.network
        if getattr(network, "peaks", False):
            network = replace(network, peaks=False)  # a saved network answers alone
        activation = "sigmoid" if plan.group == "gate" else settings.output_activation
        groups.setdefault(plan.group, []).append(Member(plan.leads, network, None, activation, plan.view))
    classes = {"general": settings.classes, "special": settings.gate.classes if settings.gate else (), "gate": ()}
    return groups, classes


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_comes_to_can_be_described_and_read_again(name, tmp_path):
    settings = RECIPES[name]
    for count in LEAD_SETS:
        groups, classes = members_of(settings, count)
        rule = Rule(np.linspace(0, 1, 26), settings.decision, settings.answer_pairs, settings.fallback)
        description = {
            group: {
                "classes": list(classes[group]),
                "members": [network_entry(member, "0" * 64) for member in members],
            }
            for group, members in groups.items()
        }
        path = tmp_path / f"{count}_leads.json"
        path.write_text(write_config(count, name, rule, description))
        read = read_config(path, count)
        assert read.system == name and replace(read.rule, thresholds=None) == replace(rule, thresholds=None)
        np.testing.assert_array_equal(read.rule.thresholds, rule.thresholds)
        get_fields = attrgetter("leads", "settings", "view", "output_activation")
        assert {group: (names, list(map(get_fields, members))) for group, (names, members) in read.groups.items()} == {
            group: (classes[group], list(map(get_fields, members))) for group, members in groups.items()
        }


def flat(value, above=""):
    """Nested dicts, and tuples of them, as one dict, by names such as 'views.0.preparation.band'."""
    if isinstance(value, tuple) and value and all(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {above[:-1]: value}
    return {name: system for key, part in value.items() for name, system in flat(part, f"{above}{key}.").items()}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cai2021-focal", {"loss": "focal"}),
        ("cai2021-no-masks", {"cleaning.masks": False}),
        (
            "cai2021-no-relabelling",
            {"cleaning.conflated_classes.0.relabel": False, "cleaning.partially_labelled.0.relabel": False},
        ),
        ("cai2021-no-filter", {"views.0.preparation.band": None}),
        ("cai2021-relu", {"network.activation": "relu"}),
        ("cai2021-no-se", {"network.squeeze_ratio": None}),
        ("cai2021-halves", {"decision": "half"}),
        ("li2021-no-masks", {"source_masks": False}),
        ("li2021-no-peaks", {"network.peaks": False, "peaks": None, "peak_training": None}),
        ("li2021-no-rules", {"answer_pairs": (), "fallback": None}),
        ("li2021-no-gate", {"gate": None}),
        ("xie2022-plain", {"network.deformable": False}),
        ("se_resnet_rhythm-no-se", {"network.squeeze": False}),
    ],
)
def test_a_system_without_a_part_differs_in_what_its_name_says_and_nothing_else(name, changes):
    base, variant = asdict(SYSTEMS[name.split("-")[0]]), asdict(RECIPES[name])
    for left in [key for key, value in changes.items() if value is None and isinstance(base.get(key), dict)]:
        base[left] = "whole"  # and not its parts
    base, variant = flat(base), flat(variant)
    assert base.keys() == variant.keys()
    different = {key: value for key, value in variant.items() if value != base[key]}
    assert different == changes | {"system": name}


def test_excluded_parts_train_no_networks():
    li, titles = SYSTEMS["li2021"], {name: titles_of(system) for name, system in VARIANTS.items()}
    every = titles_of(li)
    assert titles["li2021-no-masks"] == titles["li2021-no-rules"] == every
    assert titles["li2021-no-peaks"] == [title for title in every if not title.endswith("peaks")]
    assert titles["li2021-no-gate"] == [title for title in every if "CPSC" not in title]
    assert len(every) == 39 and len(titles["li2021-no-peaks"]) == 21 and len(titles["li2021-no-gate"]) == 18
    for name in ("xie2022-plain", "se_resnet_rhythm-no-se"):
        assert titles[name] == titles_of(SYSTEMS[name.split("-")[0]])


@pytest.mark.parametrize(
    ("name", "sizes", "kind"),
    [
        ("xie2022", {"filters": (4,)}, "DeformableConv2D"),
        ("se_resnet_rhythm", {"depth": 18, "width": 2}, "Multiply"),  # of what squeeze-and-excitation weighs
    ],
)
def test_the_network_without_a_part_is_the_other_but_for_that(name, sizes, kind):
    variant = {"xie2022": "xie2022-plain", "se_resnet_rhythm": "se_resnet_rhythm-no-se"}[name]
    kinds = [
        {type(layer).__name__ for layer in replace(RECIPES[item].network, **sizes).build(3, None, 9, "softmax").layers}
        for item in (name, variant)
    ]
    assert kind in kinds[0] and kind not in kinds[1] and kinds[1] < kinds[0] | {"Conv2D"}


def test_a_recipe_is_data_that_json_can_hold():
    """By which a training is told from another."""
    for member in RECIPES.values():
        assert json.loads(json.dumps(asdict(member)))["system"] == member.system
    assert len({json.dumps(asdict(member)) for member in RECIPES.values()}) == len(RECIPES)


DECIDING = {ast.If: "test", ast.IfExp: "test", ast.While: "test", ast.comprehension: "ifs", ast.Match: "subject",
            ast.Compare: None, ast.match_case: "pattern", ast.Subscript: "slice"}  # fmt: skip


def systems_decided_by(tree):
    """Lines of a syntax tree in which the name of a recipe, or what is called system, decides; which of them it is."""
    for node in ast.walk(tree):
        if type(node) in DECIDING:
            part = getattr(node, DECIDING[type(node)] or "", node)
            for item in part if isinstance(part, list) else [part]:
                # What is called system is looked at as a whole: not one of its other parts, and not given the name.
                attributes = [system.value for system in ast.walk(item) if isinstance(system, ast.Attribute)]
                for system in ast.walk(item):
                    if isinstance(system, ast.Constant) and system.value in [*RECIPES]:
                        yield system.lineno, "a recipe's name"
                    is_name = (
                        isinstance(system, ast.Name) and system.id == "system" and isinstance(system.ctx, ast.Load)
                    )
                    if (
                        is_name
                        and system not in attributes
                        or isinstance(system, ast.Attribute)
                        and system.attr == "system"
                    ):
                        yield system.lineno, "a system"


@pytest.mark.parametrize(
    "line", ["if a.system == b: c", "x = 1 if system else 2", "t[a.system]", "[a for a in b if a.system.endswith('x')]",
             "if a == 'li2021': b", "match a.system:\n case _: b", "match a:\n case 'xie2022': b"],
)  # fmt: skip
def test_what_decides_by_a_system_is_seen(line):
    assert [*systems_decided_by(ast.parse(line))]
    assert not [*systems_decided_by(ast.parse("f(a.system, system='li2021') if system.peaks else g(a.system)"))]


def test_what_is_done_is_decided_by_no_systems_name():
    """Outside the list of recipes; those that compare and report may tell the work of one system from another's.

    The classifier takes a name or settings.
    """
    decisions = set()
    for path in sorted((Path(__file__).parents[3] / "ecg").rglob("*.py")):
        if path.stem != "recipes":
            decisions |= {(path.stem, what) for _, what in systems_decided_by(ast.parse(path.read_text()))}
    exempt = ("bootstrap", "classifier", "compare", "comparison_charts", "comparison_report", "fold_runs")
    assert decisions <= {(module, "a system") for module in exempt}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fallback": "nsr"}, "fallback"),
        ({"fallback": "BBB"}, "fallback is 'BBB', expected None or one of AF, AFL, LBBB"),
        ({"answer_pairs": (("LBBB", "BBB"),)}, "pairs have BBB, expected some of AF, AFL, LBBB"),
        ({"hours": 0}, "hours"),
        ({"hours": float("nan")}, "hours"),
        ({"loss": "hinge"}, "loss: expected one of .*'hinge'"),
        ({"decision": "guessed"}, "decision: expected .*'guessed'"),
        ({"weights": ((1.0, 0.0), (0.0, 1.0))}, "weights: expected 26 rows of 26 numbers"),
        ({"folds": 1}, "folds: expected an integer from 2"),
        ({"splits": 0}, "splits: expected an integer from 1"),
        ({"gate": Gate(), "decision": "vote"}, "gate: not possible if networks vote"),
        ({"loss": "credit"}, "loss: 'credit' needs a network with a second head"),
        ({"peaks": 0.1}, "need a network that predicts wave peaks"),
        ({"peak_training": CAI2021.training}, "need a network that predicts wave peaks"),
        ({"network": LI.network}, "need a network that predicts wave peaks"),
        ({"classes": ("AF", "NSR")}, "round 1 can mask labels only if"),
        (
            {"classes": ("AF", "NSR"), "cleaning": CleaningSettings(masks=False), "gate": Gate()},
            "IAVB, LBBB, PAC, RBBB",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused_at_once(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_a_gate_predicts_scored_classes_alone():
    with pytest.raises(ValueError, match="gate: STD not among the classes of the system"):
        replace(SYSTEMS["xie2022"], exclusive=False, gate=Gate(classes=("AF", "STD")))


def test_the_strongest_system_is_the_default_with_other_parts():
    """Its networks, their preprocessing and the cleaning of labels are the default's."""
    apprentice = SYSTEMS["apprentice"]
    assert replace(
        apprentice, system="cai2021", title=CAI2021.title, pretraining=None, loss=CAI2021.loss, folds=None,
        decision=CAI2021.decision, proxy_least=CAI2021.proxy_least,
    ) == CAI2021  # fmt: skip
    assert (apprentice.folds, apprentice.decision) == (5, "expected_credit")
    assert apprentice.pretraining.kind.clean and not apprentice.pretraining.kind.cpsc_omits


def test_the_scripts_train_the_method_of_the_paper():
    import team_code

    assert team_code.SYSTEM == "cai2021" and RECIPES["apprentice"].system == "apprentice"
