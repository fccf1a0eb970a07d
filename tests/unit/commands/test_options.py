import argparse
import re
from dataclasses import replace

import pytest

from ecg.commands import option_types
from ecg.commands.options import add_settings
from ecg.commands.settings import (
    adds_labels,
    find_systems,
    merge_labelled_classes,
    set_labelled_classes,
    training_settings,
)
from ecg.data.class_files import WEIGHTS, load_weights
from ecg.data.leads import LEAD_SETS
from ecg.models.decision import DECISIONS
from ecg.models.network_settings import SOURCE_GATE
from ecg.systems.explanations import METHODS
from ecg.systems.label_cleaning import CleaningSettings, ConflatedClasses, PartiallyLabelledSource
from ecg.systems.recipes import ABLATIONS, RECIPES, SYSTEMS, Gate, Settings


def settings(flags=""):
    """The settings that flags of training come to."""
    parser = argparse.ArgumentParser()
    add_settings(parser)
    return training_settings(parser.parse_args(flags.split()))


@pytest.mark.parametrize("name", RECIPES)
def test_a_system_is_its_recipe_where_nothing_else_is_given(name):
    assert settings(f"--system {name}") == RECIPES[name]


def test_the_method_is_the_system_where_none_is_given():
    assert settings() == Settings()


def test_flags_change_their_settings_and_no_others():
    flags = "--seed 0 --leads 2 12 2 --width 16 --epochs 3 --averaging 0.5 --resamples 0 --jobs 1 --keep-stages"
    method = Settings()
    assert settings(flags) == replace(
        method, seed=0, lead_sets=(2, 12), resamples=0, keep_stages=True,
        network=replace(method.network, width=16), training=replace(method.training, epochs=3, averaging=0.5),
    )  # fmt: skip


def test_folds_take_the_place_of_splits_and_splits_that_of_folds():
    for flags, parts in (("nejedly2021 --folds 5", (5, None)), ("zhao2022 --splits 2", (None, 2)),
                         ("nejedly2021", (None, 3)), ("zhao2022", (5, None))):  # fmt: skip
        changed = settings(f"--system {flags}")
        assert (changed.folds, changed.splits) == parts
    with pytest.raises(ValueError, match="2 folds and 3 splits"):
        settings("--folds 2 --splits 3")
    with pytest.raises(ValueError, match="gate: not possible if networks vote"):
        settings("--system nejedly2021 --gate")


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ("--hours 1.5", {"hours": 1.5}),
        ("--fallback NSR", {"fallback": "NSR"}),
        ("--fallback nsr --precision Float32 --system CAI2021", {"fallback": "NSR"}),
        ("--folds 3", {"folds": 3}),
        ("--splits 3", {"splits": 3}),
        ("--decision vote --splits 2", {"decision": "vote", "splits": 2}),
        ("--source-masks", {"source_masks": True}),
        ("--gate", {"gate": Gate()}),
        ("--no-source-masks", {}),
        ("--imply TInv=TAb --imply SB=NSR", {"answer_pairs": (("TInv", "TAb"), ("SB", "NSR"))}),
        ("--leads 12 6 4 3 2", {"lead_sets": tuple(LEAD_SETS)}),
        ("--batch 8", {"training": replace(Settings().training, batch=8)}),
        ("--decision expected_credit", {"decision": "expected_credit"}),
        (f"--decision HALF --weights {WEIGHTS}", {"decision": "half"}),  # the file has the Challenge's weights
        ("--precision bfloat16", {"training": replace(Settings().training, precision="bfloat16")}),
    ],
)
def test_a_flag_changes_that_alone(flags, changes):
    assert settings(flags) == replace(Settings(), **changes)


def test_own_weights_are_read_from_a_file(tmp_path):
    path = tmp_path / "own.csv"
    names, weights = load_weights()
    weights[3] *= 2
    path.write_text("\n".join([f",{','.join(names)}", *(f"{name},{','.join(map(str, row))}"
                                for name, row in zip(names, weights.tolist(), strict=True))]))  # fmt: skip
    changed = settings(f"--system xie2022 --weights {path}")
    assert changed == replace(RECIPES["xie2022"], weights=tuple(map(tuple, weights.tolist())))
    path.write_text("AF,NSR")
    with pytest.raises(ValueError, match="own.csv: no row of 'NSR'"):
        settings(f"--weights {path}")
    with pytest.raises(ValueError, match="missing.csv: cannot be read: No such file"):
        settings(f"--weights {tmp_path / 'missing.csv'}")


def test_the_decisions_of_the_command_line_are_those_of_rules():
    assert option_types.DECISIONS == DECISIONS
    assert option_types.EXPLANATIONS == tuple(METHODS)


def test_the_help_names_every_system():
    parser = argparse.ArgumentParser()
    add_settings(parser)
    (action,) = (action for action in parser._actions if action.dest == "system")
    assert set(SYSTEMS) <= set(re.findall(r"\w+", action.help))


def test_other_settings_of_a_system_stay_if_options_change_its_training():
    for name in ("li2021", "zhao2022"):
        recipe = RECIPES[name]
        changed = settings(f"--system {name} --epochs 2 --gate --source-masks")
        assert changed.gate == (recipe.gate or Gate()) and changed.source_masks
        assert changed == replace(
            recipe, gate=changed.gate, source_masks=True, training=replace(recipe.training, epochs=2),
            peak_training=recipe.peak_training and replace(recipe.peak_training, epochs=2),
        )  # fmt: skip


def test_the_depth_is_that_of_the_rhythm_network_and_the_width_that_of_networks_that_have_one():
    assert settings("--system se_resnet_rhythm --depth 18").network == replace(
        RECIPES["se_resnet_rhythm"].network, depth=18
    )
    assert settings("--system li2021 --width 8").network == replace(RECIPES["li2021"].network, width=8)
    for flags in ("--depth 18", "--system zhao2022 --width 8", "--system xie2022 --depth 18 --width 8"):
        with pytest.raises(ValueError, match="its network has no "):
            settings(flags)
    with pytest.raises(ValueError, match="depth is 19, expected one of 18, 34, 50, 101, 152"):
        settings("--system se_resnet_rhythm --depth 19")


def test_systems_are_compared_in_the_order_of_their_names_each_once():
    assert find_systems(["xie2022", "cai2021", "xie2022"]) == (RECIPES["xie2022"], RECIPES["cai2021"])
    assert find_systems(["ablations"]) == (RECIPES["cai2021"], *ABLATIONS.values()) and len(ABLATIONS) == 7
    assert find_systems(["zhao2022", "ablations", "cai2021-relu"]) == (
        RECIPES["zhao2022"],
        *find_systems(["ablations"]),
    )
    with pytest.raises(ValueError, match="received 'vgg'"):
        find_systems(["ablations", "vgg"])


def test_a_training_takes_one_system():
    with pytest.raises(ValueError, match="expected a system, one of cai2021, .*, received 'ablations'"):
        settings("--system ablations")


def test_source_masks_are_those_of_the_recipe_by_default():
    for name in ("li2021", "xie2022"):
        masks = [
            settings(f"--system {name}{flag}").source_masks for flag in ("", " --source-masks", " --no-source-masks")
        ]
        assert masks == [name == "li2021", True, False]


def test_what_is_predicted_is_checked_against_the_classes_of_the_system():
    assert settings("--system li2021 --fallback BBB --imply LBBB=BBB").fallback == "BBB"
    assert settings("--system se_resnet_rhythm --fallback STach").fallback == "STach"
    for flags, known in (
        ("--fallback BBB", "AF, AFL, LBBB"),
        ("--imply LBBB=BBB", "AF, AFL, LBBB"),
        ("--system xie2022 --fallback SB", "NSR, AF, IAVB, LBBB, RBBB, PAC, PVC$"),
        ("--system xie2022 --imply AF=SB", "NSR, AF, IAVB, LBBB, RBBB, PAC, PVC$"),
        ("--system se_resnet_rhythm --fallback TInv", "NSR, AF, AFL, IAVB, SB, STach, PVC$"),
    ):
        with pytest.raises(ValueError, match=f"(fallback is|pairs have) .*, expected .* of {known}"):
            settings(flags)


@pytest.mark.parametrize(
    "flags",
    ["li2021 --no-masks", "zhao2022 --no-relabel-cpsc", "xie2022 --no-relabel-flutter", "xie2022 --resamples 0",
     "cai2021-halves --resamples 5",
     "cai2021 --resamples 5 --decision argmax", "cai2021-no-masks --no-masks"],
)  # fmt: skip
def test_an_option_without_effect_on_a_system_is_reported(flags):
    system, option, *_ = flags.split()
    with pytest.raises(ValueError, match=f"^{system} has nothing that {option} could change$"):
        settings(f"--system {flags}")


def test_the_gates_network_is_as_wide_as_the_others():
    for flags in ("--system li2021 --width 8", "--gate --width 8"):
        assert settings(flags).gate == Gate(network=replace(SOURCE_GATE, width=8))


def test_a_source_named_for_several_systems_gets_the_classes_that_each_system_predicts():
    given = [("Mine", ("AF", "SB", "BBB"))]
    for name, classes in (("li2021", ("AF", "SB", "BBB")), ("cai2021", ("AF", "SB")), ("xie2022", ("AF",))):
        recipe = RECIPES[name]
        *known, mine = set_labelled_classes(recipe, given, adds_labels(recipe)).cleaning.partially_labelled
        assert tuple(known) == recipe.cleaning.partially_labelled
        assert mine == PartiallyLabelledSource(("Mine",), classes, relabel=name == "cai2021")


def test_a_system_that_there_is_not_is_reported_with_those_that_there_are():
    with pytest.raises(ValueError, match=f"expected a system, one of {', '.join(RECIPES)}, received 'vgg'"):
        settings("--system vgg")
    assert ABLATIONS.keys() < RECIPES.keys()


@pytest.mark.parametrize(
    "flags",
    ["--leads 5", "--seed -1", "--width 0", "--depth 0", "--epochs x", "--jobs 0", "--averaging 1", "--averaging -0.1",
     "--hours 0", "--hours inf", "--hours x", "--batch 0", "--batch 1.5", "--precision half", "--decision majority",
     "--folds 1", "--splits 0", "--imply TInv", "--omission Mine",
     "--omission Mine=", "--lumping =AF,AFL", "--lumping Mine=AF,,AFL"],
)  # fmt: skip
def test_flags_that_make_no_sense_are_usage_errors(capsys, flags):
    with pytest.raises(SystemExit) as ended:
        settings(flags)
    assert ended.value.code == 2
    assert flags.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "cleaning"),
    [
        ("--no-relabel-flutter", CleaningSettings(conflated_classes=(ConflatedClasses(relabel=False),))),
        ("--no-relabel-cpsc", CleaningSettings(partially_labelled=(PartiallyLabelledSource(relabel=False),))),
        ("--no-masks", CleaningSettings(masks=False)),
        (
            "--lumping Mine=SB,NSR",
            CleaningSettings(conflated_classes=(ConflatedClasses(), ConflatedClasses(("Mine",), ("SB", "NSR")))),
        ),
        (
            "--omission X=AF --omission Y=AF,NSR --no-relabel-cpsc",
            CleaningSettings(
                partially_labelled=(
                    PartiallyLabelledSource(relabel=False),
                    PartiallyLabelledSource(("X",), ("AF",)),
                    PartiallyLabelledSource(("Y",), ("AF", "NSR")),
                )
            ),
        ),
    ],
)
def test_flags_of_label_cleaning_change_that_alone(flags, cleaning):
    assert settings(flags) == Settings(cleaning=cleaning)


@pytest.mark.parametrize("name", ["li2021", "zhao2022", "xie2022", "se_resnet_rhythm", "cai2021-no-relabelling"])
def test_where_a_recipe_relabels_nothing_a_source_that_is_named_is_believed(name):
    cleaning = RECIPES[name].cleaning
    given = settings(f"--system {name} --omission Mine=AF").cleaning
    assert given == replace(
        cleaning,
        partially_labelled=(*cleaning.partially_labelled, PartiallyLabelledSource(("Mine",), ("AF",), relabel=False)),
    )
    assert given.rules == cleaning.rules == ()


@pytest.mark.parametrize(
    ("flags", "omissions"),
    [
        ("--omission CPSC=AF,SB", (PartiallyLabelledSource(labelled=("AF", "SB")),)),
        ("--omission CPSC=AF,SB --no-relabel-cpsc", (PartiallyLabelledSource(labelled=("AF", "SB"), relabel=False),)),
        (
            "--system li2021 --omission CPSC=AF,BBB,Brady",
            (PartiallyLabelledSource(labelled=("AF", "BBB", "Brady"), relabel=False),),
        ),
    ],
)
def test_options_override_the_labelled_classes_of_a_source_in_the_recipe(flags, omissions):
    assert settings(flags).cleaning.partially_labelled == omissions


def test_a_source_with_labelled_classes_of_its_own_leaves_its_group():
    shared = PartiallyLabelledSource(("CPSC", "Mine", "Yours"), ("AF", "NSR"))
    unchanged = PartiallyLabelledSource(("Other",), relabel=False)
    merged = merge_labelled_classes((shared, unchanged), [("Mine", ("SB",)), ("New", ("PVC",))], False)
    assert merged == (
        replace(shared, sources=("CPSC", "Yours")),
        unchanged,
        PartiallyLabelledSource(("Mine",), ("SB",)),
        PartiallyLabelledSource(("New",), ("PVC",), relabel=False),
    )


def test_networks_behind_a_gate_predict_the_classes_that_its_source_labels():
    for flags in ("--system li2021", "--gate"):
        assert settings(f"{flags} --omission CPSC=AF,SB --omission Mine=NSR").gate == Gate(classes=("AF", "SB"))
        assert settings(f"{flags} --omission Mine=NSR").gate == Gate()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--omission Mine=AF,BBB", "BBB: expected one of the trained classes AF, AFL, LBBB"),
        ("--system li2021 --omission Mine=AF,STD", "STD: expected one of the trained classes AF, AFL, BBB"),
        ("--system zhao2022 --omission Mine=AF,BBB", "BBB: expected one of the trained classes AF, AFL, Brady"),
        ("--system xie2022 --omission Mine=STD", "STD: expected one of the trained classes NSR, AF, IAVB, .*, PVC$"),
        ("--omission Mine=AF --omission Mine=NSR", "Mine: its labelled classes given twice"),
    ],
)
def test_sources_that_are_named_label_classes_of_the_system_and_have_one_list(flags, message):
    with pytest.raises(ValueError, match=message):
        settings(flags)


def test_pretraining_initial_model_and_augmentations_by_options(tmp_path):
    changed = settings("--pretrain 500 --augment gain mixup gain --epochs 3 --batch 8")
    assert changed.augmentations == ("gain", "mixup")
    assert (changed.pretraining.recordings, changed.pretraining.training.epochs) == (500, 3)
    assert changed.pretraining.training.batch == 8
    assert settings("--pretrain 500 --epochs 30").pretraining.training.epochs == 4
    assert settings("--pretrain 500 --batch 256").pretraining.training.batch == 32
    assert settings("--pretrain 0") == Settings()
    initial = settings(f"--init {tmp_path}")
    assert initial == replace(Settings(), initial_model=str(tmp_path.resolve()))
    with pytest.raises(ValueError, match="two recordings or more"):
        settings("--pretrain 1")
    with pytest.raises(ValueError, match="not from both"):
        settings(f"--pretrain 500 --init {tmp_path}")
    with pytest.raises(ValueError, match="mixup: not possible"):
        settings("--system li2021 --augment mixup")
